#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The plugin's tests against SGLang 0.5.23's own modules, on the CPU: tools/test_sglang.sh [FOLDER] [pytest arguments]
# Makes a Python environment in FOLDER (default build/sglang; 6 GB, nearly all of it torch) and keeps it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/sglang}
shift $(($# > 0))
python=$folder/bin/python
[ -x "$python" ] || python3 -m venv "$folder"
"$python" -m pip install -q -r tests/python/sglang/requirements.txt
"$python" -m pip show -q sglang 2>/dev/null || "$python" -m pip install -q --no-deps sglang==0.5.23
"$python" -m pip install -q -C build-dir=build/python/wheel -C cmake.define.METRO_CUDA=OFF .
"$python" -m pytest tests/python/sglang tests/python/test_sglang.py "$@"
