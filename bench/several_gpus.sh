#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The paper's comparison on several GPUs of one host (or on CPU ranks, to rehearse it), in parts that can be
# called one by one, each of at most --seconds; what is already in --out is not run again.
#
#   bench/several_gpus.sh [--gpus N] [--out DIR] [--build DIR] [--site DIR] [--seconds S] [--rehearse] [STEP...]
#
# STEP: predict route layer killed calibrate vllm table; all in this order when none is named. Needs built
# binaries in --build (default build/release), and for vllm the folder that bench/vllm/unpack.py filled.
# Exit 0: all parts are there. Exit 6: out of time, call it again. Exit 1: a part failed (DIR/PART.log).
set -uo pipefail
cd "$(dirname "$0")/.." || exit

gpus="" out="" build=build/release site="" seconds=540 rehearse=0
steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --gpus) gpus=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    --site) site=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --rehearse) rehearse=1; shift ;;
    predict | route | layer | killed | calibrate | vllm | table) steps+=("$1"); shift ;;
    *) echo "several_gpus: unknown argument '$1'" >&2; exit 2 ;;
  esac
done
[ ${#steps[@]} -gt 0 ] || steps=(predict route layer killed calibrate vllm table)
if [ -z "$gpus" ]; then
  if [ $rehearse = 1 ]; then gpus=2; else gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true); fi
fi
if [ $rehearse = 0 ] && [ "$gpus" -lt 2 ]; then
  echo "several_gpus: $gpus GPUs here, must be at least 2, or use --rehearse" >&2
  exit 5
fi
metro=$PWD/$build/metro
[ -x "$metro" ] || { echo "several_gpus: no $metro, build it or name another --build" >&2; exit 2; }
out=${out:-several_gpus_$gpus}
mkdir -p "$out"
end=$((SECONDS + seconds))
failed=0

say() { echo "several_gpus: $*" >&2; }
left() { echo $((end - SECONDS)); }

# part NAME SECONDS COMMAND...: the command's stdout becomes OUT/NAME.json once it has succeeded.
part() {
  local name=$1 limit=$2
  shift 2
  [ -s "$out/$name.json" ] && return 0
  if [ "$(left)" -lt $((limit < 60 ? limit : 60)) ]; then
    say "out of time before $name, call again"
    exit 6
  fi
  [ "$(left)" -lt "$limit" ] && limit=$(left)
  say "$name (at most $limit s)"
  local status=0
  timeout -k 5 "$limit" "$@" >"$out/$name.part" 2>"$out/$name.log" </dev/null || status=$?
  if [ $status = 0 ] && [ -s "$out/$name.part" ]; then
    mv "$out/$name.part" "$out/$name.json"
  elif [ $status = 6 ]; then
    say "$name is not through, call again"
    exit 6
  else
    say "$name failed: $(grep -v '^$' "$out/$name.log" | tail -n 1)"
    failed=1
  fi
}

cpu_ranks() { # the layer's options that fit a small machine
  echo --hidden 256 --intermediate 128 --tokens-per-gpu 1,8 --replication 1.5 --batches 2 --repeats 2 --weight-gb 0.05
}
models=(Qwen3-30B-A3B Qwen3-235B-A22B DeepSeek-V3)
grid=(--tokens-per-gpu "8,32,64,128" --replication "1.0,1.125,1.25,1.5")

# Item 0: what is expected, written down before anything is measured.
predict() {
  if [ $rehearse = 1 ]; then
    # shellcheck disable=SC2046
    part predict-layer 120 "$metro" bench layer --virtual-gpus "$gpus" $(cpu_ranks) --json
    return
  fi
  local model
  for model in "${models[@]}"; do  # one GPU plays all ranks in turn; communication comes on top
    CUDA_VISIBLE_DEVICES=0 part "predict-layer-$model" 200 "$metro" bench layer --device cuda --model "$model" \
      --virtual-gpus "$gpus" "${grid[@]}" --batches 2 --repeats 3 --json
  done
  python3 bench/vllm/several_gpus.py --config "$out/models"
  local gpu replication requests policy
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | grep -oE 'H100|H200|B200|B300|A100|H20' | head -n 1)
  for replication in 1.0 1.125 1.5; do
    for requests in 8 16 32; do
      for policy in hash optimal; do
        part "predict-vllm-$policy-$replication-$requests" 60 "$metro" simulate --model "$out/models/30b/config.json" --gpu "${gpu:-h100}" \
          --gpus "$gpus" --replication $replication --policy $policy --algorithm eplb --engine vllm --isl 64 --osl 128 \
          --num-requests $((4 * requests * gpus)) --concurrency $((requests * gpus)) --json
      done
    done
  done
}

# Item 1: exchange and exact routing in a graph.
route() {
  [ $rehearse = 1 ] && { say "route needs GPUs: left out"; return; }
  part route 300 "$metro" bench route --device cuda --exchange --json
}

# Item 2: the layer under every policy, by both dispatches.
layer() {
  local dispatch model
  for dispatch in all-gather all-to-all; do
    if [ $rehearse = 1 ]; then
      # shellcheck disable=SC2046
      part "layer-$dispatch" 120 mpirun --allow-run-as-root --oversubscribe -np "$gpus" "$metro" bench layer --transport mpi \
        --dispatch $dispatch $(cpu_ranks) --json
      continue
    fi
    for model in "${models[@]}"; do
      part "layer-$dispatch-$model" 400 "$metro" bench layer --device cuda --gpus "$gpus" --model "$model" \
        --dispatch $dispatch "${grid[@]}" --batches 2 --repeats 3 --json
    done
  done
}

# Item 2, last: rank 1 is killed; mpirun ends the others, one of which says so, and all exit with 5.
killed() {
  local options=(--device cuda --gpus "$gpus") wait=40
  [ $rehearse = 1 ] && options=(--transport mpi --hidden 64 --intermediate 32 --weight-gb 0.01) wait=3
  part killed 120 env METRO="$metro" GPUS="$gpus" WAIT=$wait bash -c '
    folder=$(mktemp -d)
    mpirun --allow-run-as-root --oversubscribe -np "$GPUS" "$METRO" bench layer --timeout-s 5 --tokens-per-gpu 8 \
      --replication 1.5 --repeats 60000 --json "$@" >"$folder/out" 2>"$folder/err" &
    job=$!
    for i in $(seq 100); do
      ranks=($(pgrep -P $job)); [ ${#ranks[@]} -eq "$GPUS" ] && break
      sleep 0.1
    done
    sleep "$WAIT"
    kill -9 "${ranks[1]}"
    began=$(date +%s%N)
    wait $job
    status=$?
    ended=$(date +%s%N)
    line=$(grep -m 1 "^metro: " "$folder/err" | tr -d "\"\\")
    printf "{\"exit_code\": %d, \"seconds\": %.1f, \"line\": \"%s\"}\n" $status \
      "$(echo "$began $ended" | awk "{print (\$2 - \$1) / 1e9}")" "$line"
    rm -rf "$folder"' killed "${options[@]}"
}

# Item 3: collectives for these GPUs, and the GPU itself.
calibrate() {
  if [ $rehearse = 1 ]; then
    part calibrate 60 "$metro" calibrate --device cpu --quick --shapes 256x128 --weight-gb 0.02 --json
    return
  fi
  part calibrate 300 "$metro" calibrate --budget-s 240 --json
}

# Item 4: a real vLLM, stock EPLB against METRO and no redundancy.
vllm() {
  [ $rehearse = 1 ] && { say "vllm needs GPUs: left out"; return; }
  [ -n "$site" ] || { say "vllm needs --site, the folder that bench/vllm/unpack.py filled: left out"; return; }
  local way
  for way in tokens tp dp deepseek; do
    part "vllm-$way" 530 python3 bench/vllm/several_gpus.py --site "$site" --gpus "$gpus" --out "$out/vllm" \
      --part $way --budget "$(($(left) - 20))"
  done
}

table() { python3 bench/several_gpus_table.py "$out" | tee "$out/table.txt"; }

for step in "${steps[@]}"; do "$step"; done
exit $failed
