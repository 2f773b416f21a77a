#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/several_gpus.sh on CPU ranks: every part that needs no GPU is there, in one table, and none is run twice.
#
#   several_gpus_rehearsal.sh METRO
set -euo pipefail
build=$(realpath --relative-to="$PWD" "$(dirname "$1")")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

bench/several_gpus.sh --rehearse --gpus 2 --build "$build" --out "$out" predict layer killed calibrate
for part in predict-layer layer-all-gather layer-all-to-all killed calibrate; do
  [ -s "$out/$part.json" ] || { echo "no $part.json"; cat "$out/$part.log"; exit 1; }
done
grep -q '"line": "metro: rank .* is lost' "$out/killed.json" || { echo "killed: $(cat "$out/killed.json")"; exit 1; }

before=$(stat -c %Y.%i "$out"/*.json)
bench/several_gpus.sh --rehearse --gpus 2 --build "$build" --out "$out"
[ "$before" = "$(stat -c %Y.%i "$out"/*.json)" ] || { echo "a part was run again"; exit 1; }
for title in 'One layer' 'All-gather against all-to-all' 'Stages' 'A killed rank' 'Not run: route, vllm'; do
  grep -q "$title" "$out/table.txt" || { echo "no '$title' in"; cat "$out/table.txt"; exit 1; }
done

# Out of time is an answer of its own, and no GPU is said in one line.
status=0
bench/several_gpus.sh --rehearse --seconds 1 --build "$build" --out "$out/none" layer 2>/dev/null || status=$?
[ $status = 6 ] || { echo "exit $status, not 6"; exit 1; }
status=0
bench/several_gpus.sh --gpus 1 --build "$build" --out "$out/none" 2>"$out/err" || status=$?
[ $status = 5 ] && [ "$(wc -l <"$out/err")" = 1 ] || { echo "exit $status: $(cat "$out/err")"; exit 1; }
echo ok
