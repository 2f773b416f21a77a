#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules of CONTRIBUTING.md that no compiler checks. Prints each line at fault; exits 1 when there is any.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t code < <(tools/list_sources.sh)
if [ ${#code[@]} -eq 0 ]; then
  echo "check_sources: found no sources" >&2
  exit 1
fi

faults=0
fault() { # TEXT LINE...
  local text=$1
  shift
  [ $# -eq 0 ] && return
  printf "%s: $text\n" "$@"
  faults=$((faults + $#))
}

missing=()
for file in "${code[@]}"; do
  [[ $(head -n 1 "$file") == "// SPDX-License-Identifier: Apache-2.0" ]] || missing+=("$file")
done
fault "the first line is not the SPDX line" "${missing[@]}"

# The library throws; it neither prints nor ends the process.
mapfile -t printing < <(grep -rnE '\bstd::(cout|cerr|clog|abort|exit|terminate)\b|\bf?printf\(|\babort\(\)' \
  src include --include='*.?pp' | cut -d: -f1,2)
fault "the library does not print or exit" "${printing[@]}"

mapfile -t using < <(grep -rnE '^\s*using namespace' include src apps --include='*.hpp' | cut -d: -f1,2)
fault "no using-directive in a header" "${using[@]}"

# A header that no list names would not be installed, and nothing here would miss it.
unlisted=()
for header in include/metro/*.hpp; do
  grep -qE "(^|[ (])$header([ )]|$)" CMakeLists.txt || unlisted+=("$header")
done
fault "CMakeLists.txt does not list this public header" "${unlisted[@]}"

exit $((faults > 0))
