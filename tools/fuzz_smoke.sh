#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target of a build folder for some seconds, from its seed corpus:
#   tools/fuzz_smoke.sh BUILD_DIR SECONDS
# New inputs go to BUILD_DIR/corpus/TARGET; an input that fails, to BUILD_DIR/crashes.
set -euo pipefail
cd "$(dirname "$0")/.."

build_dir=$1
seconds=$2

targets=0
mkdir -p "$build_dir/crashes"
for target in "$build_dir"/fuzz/fuzz_*; do
  if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
  name=$(basename "$target")
  new=$build_dir/corpus/$name
  mkdir -p "$new"
  echo "==> $name, ${seconds} s"
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="$build_dir/crashes/$name-" "$new" "fuzz/corpus/${name#fuzz_}"
  targets=$((targets + 1))
done

if [ $targets -eq 0 ]; then
  echo "fuzz_smoke: no fuzz_* program in $build_dir/fuzz" >&2
  exit 1
fi
echo "$targets targets ran without a finding"
