#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests of a build folder and ends with "N passed, N failed, N skipped":
#   tools/run_ctest.sh BUILD_DIR [ctest options]
# Fails when a test fails or none ran.
set -euo pipefail

build_dir=$1
shift
report=$(realpath "$build_dir")/junit.xml
rm -f "$report"

status=0
ctest --test-dir "$build_dir" -j "${JOBS:-$(nproc)}" --output-on-failure --no-tests=error --timeout 900 \
  --output-junit "$report" "$@" || status=$?
python3 "$(dirname "$0")/summarize_ctest.py" "$report" || status=1
exit $status
