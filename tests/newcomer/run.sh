# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the three newcomers: newcomer NAME PAGE... runs what the pages tell that reader to do, in a folder that
# looks like a fresh clone after `make build` (the build of $METRO_BUILD, by default build/release). python3 is
# $METRO_PYTHON where that is set. Exits 77 where metro_moe is not installed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

newcomer() {
  local name=$1 page pages=() build=${METRO_BUILD:-$root/build/release} python=${METRO_PYTHON:-python3}
  shift
  for page in "$@"; do pages+=("$root/docs/$page"); done
  if ! "$python" -c "import metro_moe" 2>/dev/null; then
    echo "metro_moe is not installed for $python"
    exit 77
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/clone/build" "$work/bin"
  for page in "$root"/*; do # the clone's files; what the newcomer writes is not among them
    [ "$(basename "$page")" = build ] || ln -s "$page" "$work/clone/"
  done
  ln -s "$build" "$work/clone/build/release"
  python=$(command -v "$python")
  [[ $python = /* ]] || python=$PWD/$python # commands run elsewhere
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$work/bin/python3"
  chmod +x "$work/bin/python3"
  "$python" "$root/tests/newcomer/page_commands.py" "$name" "${pages[@]}" >"$work/commands.sh"
  # The pages put `metro` on the PATH themselves.
  (cd "$work/clone" && PATH="$work/bin:$PATH" bash -euo pipefail "$work/commands.sh") >"$work/log" 2>&1 || {
    cat "$work/log"
    echo "$name: a command of ${pages[*]} failed"
    exit 1
  }
  cat "$work/log"
}

# The file is there and holds the pattern.
left() { # FILE PATTERN
  grep -qE "$2" "$work/clone/$1" || { echo "$1 does not hold $2"; exit 1; }
}

said() { # PATTERN
  grep -qE "$1" "$work/log" || { echo "no line says $1"; exit 1; }
}
