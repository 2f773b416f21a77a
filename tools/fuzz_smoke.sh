#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target of a build folder for some seconds, one a core, from its seed corpus:
#   tools/fuzz_smoke.sh BUILD_DIR SECONDS
# New inputs go to BUILD_DIR/corpus/TARGET; an input that fails, to BUILD_DIR/crashes.
set -euo pipefail
cd "$(dirname "$0")/.."

build_dir=$1
seconds=$2

fuzz() { # TARGET
  local name new
  name=$(basename "$1")
  new=$build_dir/corpus/$name
  mkdir -p "$new"
  echo "==> $name, ${seconds} s"
  "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$build_dir/crashes/$name-" "$new" "fuzz/corpus/${name#fuzz_}" || exit 255 # xargs stops
}
export -f fuzz
export build_dir seconds

mkdir -p "$build_dir/crashes"
mapfile -t programs < <(find "$build_dir/fuzz" -maxdepth 1 -type f -executable -name 'fuzz_*' | LC_ALL=C sort)
targets=${#programs[@]}
if [ $targets -eq 0 ]; then
  echo "fuzz_smoke: no fuzz_* program in $build_dir/fuzz" >&2
  exit 1
fi
printf '%s\n' "${programs[@]}" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'fuzz "$1"' _ {}
echo "$targets targets ran without a finding"
