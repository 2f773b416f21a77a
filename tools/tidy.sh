#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over our C++ sources: tools/tidy.sh [all | COMMIT]
# Without an argument: over what changed since $METRO_TIDY_BASE (a commit, or "all"), else since the
# last tag, else in the last commit. Needs a configured build/tidy.
# Without the path-sensitive analyzer, which takes half of the time; .clang-tidy keeps it for the desk.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${1:-${METRO_TIDY_BASE:-}}
if [ -z "$base" ]; then
  base=$(git describe --tags --abbrev=0 HEAD 2>/dev/null || git rev-parse -q --verify HEAD~1 || echo all)
fi

# Headers are seen through the sources that include them; CUDA hosts are in no build of clang's.
compiled() { grep '\.cpp$' | grep -v -e '/cuda/' -e '^src/route_bench/' -e '^python/' -e '^tests/' -e '^fuzz/' -e '^bench/' -e '^examples/' || true; }
if [ "$base" = all ]; then
  mapfile -t files < <(tools/list_sources.sh | compiled)
else
  mapfile -t files < <(git diff --name-only --diff-filter=d "$base" -- . | compiled)
fi
echo "${#files[@]} files (since $base)"
if [ ${#files[@]} -eq 0 ]; then exit 0; fi
printf "$PWD/%s\n" "${files[@]}" | xargs run-clang-tidy-19 -quiet -j "${JOBS:-$(nproc)}" -p build/tidy \
  -warnings-as-errors='*' -checks='-clang-analyzer-*'
