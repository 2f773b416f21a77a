#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/check_page.sh must find what it is there to find. Exits 77, skipped, where there is no Chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v "${CHROMIUM:-chromium}" >/dev/null || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

figure='<canvas width="9" height="9"></canvas><script>
document.querySelector("canvas").getContext("2d").fillRect(0, 0, 5, 5);</script>'

try() { # NAME WHAT-IT-SAYS BODY
  printf '<!doctype html><meta name="viewport" content="width=device-width"><body>%s\n' "$3" >"$work/$1.html"
  local said wanted=1 status=0
  if [ "$1" = good ]; then wanted=0; fi
  said=$(tools/check_page.sh "$work/$1.html" 2>&1) || status=$?
  if [ $status -ne $wanted ] || [[ $said != *"$2"* ]]; then
    echo "$1: expected status $wanted and '$2', got $status and: $said" >&2
    exit 1
  fi
}

try good "all 1 figures drawn" "$figure"
try empty "has no figure" "<p>words</p>"
try blank "not all figures are drawn" "$figure<canvas width=9 height=9></canvas>"
try wide "360 px: is wider than the screen" "$figure<p style='width:500px'>wide</p>"
try broken "a script failed" "$figure<script>nothing.there();</script>"
try online "must be self-contained" "$figure<img src=\"https://example.com/x.png\">"
