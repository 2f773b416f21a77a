#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Opens a report page in headless Chromium: tools/check_page.sh PAGE.html
# In light and dark, on a desk (1200 px) and on a phone (360 px). Fails when a script throws, a figure
# stays undrawn, the page asks the network for anything, or has to be scrolled sideways.
# Exits 77 where there is no Chromium.
set -euo pipefail

page=$(realpath "$1")
browser=${CHROMIUM:-chromium}
if ! command -v "$browser" >/dev/null; then
  echo "check_page: no chromium to open $page in"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "check_page: $page: $1" >&2
  exit 1
}

if grep -nE '(src|href)="(https?:)?//|@import|url\((https?:)?//' "$page"; then
  fail "refers to other hosts, must be self-contained"
fi

# The page in a frame as wide as the screen to try: windows have a least width. It tells the outer
# page what it looks like once its scripts have run.
cat >"$work/probe" <<'PROBE'
<script>
addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement, canvases = [...document.querySelectorAll("canvas")];
  const box = document.createElement("canvas");  // what Chart.js has drawn on is not blank
  const drawn = canvases.filter(canvas => {
    if (canvas.width === 0 || canvas.height === 0) return false;
    box.width = canvas.width;
    box.height = canvas.height;
    return canvas.toDataURL() !== box.toDataURL();
  });
  parent.postMessage(`figures=${canvases.length} drawn=${drawn.length} width=${root.scrollWidth}` +
      ` screen=${root.clientWidth} dark=${matchMedia("(prefers-color-scheme: dark)").matches}`, "*");
}, 500));
</script>
PROBE
cat "$page" "$work/probe" >"$work/page.html"

look() { # SCHEME WIDTH: prints the probe's line
  cat >"$work/frame.html" <<FRAME
<!doctype html><body style="margin:0"><p id="said">nothing</p>
<iframe src="page.html" style="border:0;width:$2px;height:900px"></iframe>
<script>addEventListener("message", event => { document.getElementById("said").textContent = event.data; });</script>
FRAME
  local scheme=1
  if [ "$1" = dark ]; then scheme=0; fi
  # No proxy answers on port 9: a request to any host is an error in the log.
  timeout 180 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --user-data-dir="$work/profile" --proxy-server=127.0.0.1:9 --virtual-time-budget=10000 \
    --window-size=1300,1000 --blink-settings=preferredColorScheme=$scheme \
    --enable-logging=stderr --dump-dom "file://$work/frame.html" >"$work/dom.html" 2>"$work/log" ||
    { tail -n 20 "$work/log" >&2; fail "chromium could not open it"; }
  if grep -E 'CONSOLE.*(Uncaught|Error|ERR_)' "$work/log" >&2; then fail "a script failed"; fi
  sed -nE 's|.*<p id="said">(.*)</p>.*|\1|p' "$work/dom.html"
}

said() { sed -nE "s/.*$1=([a-z0-9]+).*/\1/p" <<<"$line"; }

for scheme in light dark; do
  for width in 1200 360; do
    line=$(look "$scheme" "$width")
    where="$scheme, $width px"
    if [ "$line" = nothing ] || [ -z "$line" ]; then fail "$where: its scripts did not finish"; fi
    if [ "$(said figures)" -eq 0 ]; then fail "has no figure"; fi
    if [ "$(said drawn)" -ne "$(said figures)" ]; then fail "$where: not all figures are drawn: $line"; fi
    if [ "$(said width)" -gt "$(said screen)" ]; then fail "$where: is wider than the screen: $line"; fi
    if [ "$(said dark)" != "$([ "$scheme" = dark ] && echo true || echo false)" ]; then
      fail "$where: the browser did not take the colours that were asked for: $line"
    fi
  done
done
echo "$page: all $(said figures) figures drawn, light and dark, at 1200 and 360 px; nothing fetched"
