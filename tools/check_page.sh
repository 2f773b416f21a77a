#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Opens a report page in headless Chromium: tools/check_page.sh PAGE.html
# Fails when a script throws, a figure stays undrawn, or the page asks the network for anything.
set -euo pipefail

page=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "check_page: $page: $1" >&2
  exit 1
}

if grep -nE '(src|href)="(https?:)?//|@import|url\((https?:)?//' "$page"; then
  fail "refers to other hosts, must be self-contained"
fi

# No proxy answers on port 9: a request to any host is an error in the log.
timeout 120 "${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
  --user-data-dir="$work/profile" --proxy-server=127.0.0.1:9 --virtual-time-budget=10000 \
  --enable-logging=stderr --dump-dom "file://$page" >"$work/dom.html" 2>"$work/log" ||
  { tail -n 20 "$work/log" >&2; fail "chromium could not open it"; }

if grep -E 'CONSOLE.*(Uncaught|Error|ERR_)' "$work/log"; then fail "a script failed"; fi

# Chart.js writes a size into every canvas that it draws on.
figures=$(grep -oE '<canvas[^>]*>' "$work/dom.html" | wc -l)
drawn=$(grep -oE '<canvas[^>]*>' "$work/dom.html" | grep -cE 'width="[1-9][0-9]*"' || true)
if [ "$figures" -eq 0 ]; then fail "has no figure"; fi
if [ "$drawn" -ne "$figures" ]; then fail "$drawn of $figures figures are drawn"; fi
echo "$page: all $figures figures drawn, nothing fetched"
