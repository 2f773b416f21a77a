#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A page with a figure of every kind, in a browser: report_page_test.sh METRO
# Exits 77, skipped, where there is no Chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."

metro=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

small=(--model gpt-oss-20b --gpu h100 --gpus 2 --isl 64 --osl 8 --num-requests 20)
"$metro" compare --trace data/learned/learned-128e-top8-decode.npy --gpus 8,16 --replication 1,1.5 \
  --tokens-per-gpu 1,2,8 --policy even,hash,home,metro-paper,metro,optimal --algorithm eplb,homed \
  --batches 2 --json >"$work/compare.json"
"$metro" simulate "${small[@]}" --concurrency 4 --json >"$work/simulate.json"
"$metro" sweep "${small[@]}" --concurrency 2,4 --replication 1,1.5 --policy even,optimal --json \
  >"$work/sweep.json"
"$metro" bench layer --virtual-gpus 2 --tokens-per-gpu 1 --hidden 64 --intermediate 32 --batches 1 \
  --repeats 1 --json >"$work/layer.json"
"$metro" reproduce --quick --figure 6,8,11 --json >"$work/reproduce.json"
"$metro" report "$work"/*.json -o "$work/page.html"
tools/check_page.sh "$work/page.html"
