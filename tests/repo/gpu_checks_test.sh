#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/gpu_checks.sh over tests that are played: its table and exit status say what they did.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tests"

play() { # FILE LINE...: a program that says the lines
  local file=$1
  shift
  { echo '#!/bin/sh'; printf 'echo "%s"\n' "$@"; } >"$file"
  chmod +x "$file"
}
play "$work/bin/nvidia-smi" "a GPU"
cat >"$work/bin/compute-sanitizer" <<'SH'
#!/bin/sh
shift 4
"$@" && echo "========= ERROR SUMMARY: ${HAZARDS:-0} errors" && [ -z "${HAZARDS:-}" ]
SH
chmod +x "$work/bin/compute-sanitizer"

try() { # STATUS WHAT-IT-SAYS
  local said status=0
  said=$(PATH=$work/bin:$PATH LOGS=$work/logs tools/gpu_checks.sh "$work/tests" 2>&1) || status=$?
  if [ $status -ne "$1" ] || ! grep -qE "$2" <<<"${said#*== GPU checks ==}"; then
    echo "expected status $1 and '$2', got $status and: $said" >&2
    exit 1
  fi
}

for test in cuda_router_test ep_cuda_test cuda_nccl_test; do
  play "$work/tests/$test" "[  PASSED  ] 41 tests." "[  SKIPPED ] 2 tests, listed below:"
done
try 0 "^cuda_router_test +ok +[0-9]+ s  41 passed, 2 skipped, 0 failed$"
try 0 "^racecheck cuda_router_test +ok .*; 0 errors$"
HAZARDS=3 try 1 "^memcheck ep_cuda_test +exit 1 .*; 3 errors$"

play "$work/tests/ep_cuda_test" "[  PASSED  ] 40 tests." "[  FAILED  ] 1 test, listed below:"
echo "exit 1" >>"$work/tests/ep_cuda_test"
try 1 "^ep_cuda_test +exit 1 +[0-9]+ s  40 passed, 0 skipped, 1 failed$"
play "$work/tests/ep_cuda_test" "[  PASSED  ] 0 tests."
try 1 "^ep_cuda_test +none ran "
rm "$work/tests/ep_cuda_test"
try 1 "NOT all passed"
