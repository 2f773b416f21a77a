#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main results, made again: tools/run_headline.sh METRO OUT_DIR
# Compares the policies on the two learned traces and on a synthetic DeepSeek-V3-like one, makes the
# paper's figures again, prints both tables, and writes OUT_DIR/report.html (and compare.json and
# reproduce.json, with every row).
set -euo pipefail
cd "$(dirname "$0")/.."

metro=$1
out=$2
mkdir -p "$out"

echo "==> Generating a DeepSeek-V3-like decode trace"
"$metro" trace generate --profile deepseek-v3 --tokens 16384 --seed 0 -o "$out/deepseek-v3-like.npy" >/dev/null

echo "==> Comparing: EP 4-32, 1.0-1.5x replicas, 1-128 tokens per GPU"
traces=(
  --trace data/learned/learned-128e-top8-decode.npy
  --trace data/learned/learned-256e-top8-decode.npy
  --trace "$out/deepseek-v3-like.npy"
)
"$metro" compare "${traces[@]}" \
  --gpus 4,8,16,32 --replication 1.0,1.125,1.25,1.5 --tokens-per-gpu 1,2,4,8,16,32,64,128 \
  --algorithm eplb,homed --policy even,hash,home,metro-paper,metro,optimal \
  --json >"$out/compare.json"
"$metro" compare "${traces[@]}" \
  --gpus 16 --ep 8 --replication 1.0,1.125 --tokens-per-gpu 1,2,4,8,16,32,64,128 \
  --algorithm homed --policy optimal \
  --json >"$out/halves.json"

echo
python3 tools/headline.py "$out/compare.json" "$out/halves.json" 16 1.5 1,2,4,8,16,128

echo
echo "==> Making the paper's figures again"
"$metro" reproduce --quick -o "$out/reproduce.json"
"$metro" report "$out/compare.json" "$out/reproduce.json" -o "$out/report.html" >/dev/null
echo
echo "Report page: $out/report.html"
