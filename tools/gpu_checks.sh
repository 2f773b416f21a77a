#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every GPU test, and compute-sanitizer on a reduced set, on a machine that may have nothing but a
# GPU and its driver. The last lines are one table.
#   tools/gpu_checks.sh --build      where CUDA is: builds build/gpu-tests/, to be carried over
#   tools/gpu_checks.sh [FOLDER]     where a GPU is: runs them (default build/gpu-tests)
# METRO_GPU_INSTANCES: random instances per policy (default 50,000). LOGS: folder for the logs.
set -uo pipefail
cd "$(dirname "$0")/.."

tests=(cuda_router_test ep_cuda_test cuda_nccl_test)

build() {
  set -e
  # Without MPI and BLAS: what the GPU's machine need not have.
  cmake --preset gpu-tests
  cmake --build build/gpu --target "${tests[@]}"
  mkdir -p build/gpu-tests
  for test in "${tests[@]}"; do
    strip -o "build/gpu-tests/$test" "build/gpu/tests/gpu/$test"
  done
  du -ch build/gpu-tests/* | tail -1
}

if [ "${1:-}" = --build ]; then
  build
  exit
fi

folder=${1:-build/gpu-tests}
logs=${LOGS:-$(mktemp -d)}
mkdir -p "$logs"
export METRO_GPU_INSTANCES=${METRO_GPU_INSTANCES:-50000}
rows=()
status=0

# NCCL and cuBLAS come with the toolkit, or with Python's packages.
packages=$(python3 -c 'import importlib.util as u; print(*u.find_spec("nvidia").submodule_search_locations)' \
  2>/dev/null)
while read -r lib; do
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$lib")
done < <(find /usr/local/cuda/lib64/ /usr/local/cuda/lib/ ${packages:+$packages} -name 'libnccl.so.2' \
  -o -name 'libcublas.so.1?' 2>/dev/null)
export LD_LIBRARY_PATH
sanitizer=$(command -v compute-sanitizer || find /usr/local/cuda*/bin /usr/local/cuda*/compute-sanitizer \
  /opt/nvidia -name compute-sanitizer -type f 2>/dev/null | head -1)

# "412 passed, 2 skipped, 1 failed" of a GoogleTest log.
counts() {
  awk '/^\[  PASSED  \] [0-9]+ tests?/ {passed = $4}
       /^\[  SKIPPED \] [0-9]+ tests?, listed/ {skipped = $4}
       /^\[  FAILED  \] [0-9]+ tests?, listed/ {failed = $4}
       END {printf "%d passed, %d skipped, %d failed", passed, skipped, failed}' "$1"
}

# What the sanitizer counted, of the tools' different last lines.
hazards() {
  grep -oE '(ERROR|RACECHECK) SUMMARY: .*' "$1" | tail -1 | sed -E 's/^[A-Z]+ SUMMARY: //'
}

# step NAME SECONDS COMMAND...: runs it with its log; its row says how it ended.
step() {
  local name=$1 limit=$2 begin=$SECONDS code=0 verdict
  shift 2
  local log=$logs/${name//[^a-z0-9_-]/_}.log
  timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 || code=$?
  # A filter that matches nothing is no pass, nor is a machine on which every test skips itself.
  if [ "$code" -eq 0 ] && ! grep -qE '^\[  PASSED  \] [1-9]' "$log"; then code=3; fi
  case $code in
    0) verdict=ok ;;
    3) verdict="none ran" ;;
    124 | 137) verdict="over $limit s" ;;
    *) verdict="exit $code" ;;
  esac
  printf '%-34s %-10s %5s s  %s%s\n' "$name" "$verdict" $((SECONDS - begin)) "$(counts "$log")" \
    "$(hazards "$log" | sed 's/^/; /')" >"$log.row"
  cat "$log.row"
  if [ "$code" -ne 0 ]; then grep -nE 'Failure|FAILED|ERROR|Error|error|=========' "$log" | head -15; fi
  return "$code"
}

# checked TOOL TEST FILTER SECONDS: a test under the sanitizer, which runs one kernel at a time.
checked() {
  METRO_GPU_INSTANCES=200 step "$1 $2" "$4" "$sanitizer" --tool "$1" --error-exitcode 99 \
    "$folder/$2" --gtest_filter="$3"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
for test in "${tests[@]}"; do
  if [ ! -x "$folder/$test" ]; then
    echo "$test is not in $folder: tools/gpu_checks.sh --build makes it"
    status=1
    continue
  fi
  step "$test" 110 "$folder/$test" || status=1
  rows+=("$test")
done

# Ranks that wait for each other need their kernels at once; the early producers, two of them.
router='-Exchange*:EarlyLaunch.*:*GivesTheSame*:*HoldsForLarge*'
alone='Exchanged.ABufferOutlivesItsRankWhilePeersMayWrite:Exchanged.APeerThatIsGoneIsNotConnectedTo'
layer='*ExpertStageTest.ServesAHotExpert*:*ExpertStageTest.RunsAgain*:*ExpertStageTest.WritesZeros*'
if [ -n "$sanitizer" ]; then
  running=()
  for tool in memcheck racecheck synccheck; do
    checked $tool cuda_router_test "$router" 160 &
    running+=($!)
    rows+=("$tool cuda_router_test")
  done
  checked memcheck ep_cuda_test "$layer" 160 &
  running+=($!)
  checked synccheck ep_cuda_test "$layer" 160 &
  running+=($!)
  rows+=("memcheck ep_cuda_test" "synccheck ep_cuda_test")
  # racecheck does not follow the expert kernel's barriers (docs/cuda-internals.md).
  METRO_GPU_INSTANCES=200 step "memcheck exchange" 160 "$sanitizer" --tool memcheck \
    --error-exitcode 99 "$folder/cuda_router_test" --gtest_filter="$alone" &
  running+=($!)
  rows+=("memcheck exchange")
  for job in "${running[@]}"; do wait "$job" || status=1; done
else
  echo "no compute-sanitizer on this machine"
  status=1
fi

echo
echo "== GPU checks =="
for row in "${rows[@]}"; do cat "$logs/${row//[^a-z0-9_-]/_}.log.row"; done
if [ $status -eq 0 ]; then echo "all passed"; else echo "NOT all passed; logs in $logs"; fi
exit $status
