#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The plugin's tests against vLLM 0.25.1's own modules, on the CPU: tools/test_vllm.sh [FOLDER] [pytest arguments]
# Makes a Python 3.12 environment in FOLDER (default build/vllm; 6 GB, nearly all of it torch) and keeps it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/vllm}
shift $(($# > 0))
python=$folder/bin/python
[ -x "$python" ] || python3.12 -m venv "$folder"
"$python" -m pip install -q -r tests/python/vllm/requirements.txt
"$python" -m pip show -q vllm 2>/dev/null || "$python" -m pip install -q --no-deps vllm==0.25.1
"$python" -m pip install -q -C build-dir=build/python/wheel -C cmake.define.METRO_CUDA=OFF .
VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 "$python" -m pytest tests/python/vllm "$@"
