#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The plugin's tests against vLLM's own modules, on the CPU: tools/test_vllm.sh [FOLDER] [pytest arguments]
# VLLM="0.25.1 0.33.0" chooses versions. Makes a Python 3.12 environment in FOLDER (default build/vllm; 7 GB, most of it
# torch) and keeps it; vLLM goes in without its dependencies, 0.33.0 with the torch of 0.25.1.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-build/vllm}")
shift $(($# > 0))
python=$folder/bin/python
[ -x "$python" ] || python3.12 -m venv "$folder"
"$python" -m pip install -q -r tests/python/vllm/requirements.txt
"$python" -m pip install -q --no-deps xgrammar==0.2.8 compressed-tensors==0.17.0
"$python" -m pip install -q -C build-dir=build/python/wheel -C cmake.define.METRO_CUDA=OFF .
for version in ${VLLM:-0.25.1 0.33.0}; do
  site=$folder/vllm-$version
  [ -d "$site/vllm" ] || "$python" -m pip install -q --no-deps --no-compile --target "$site" "vllm==$version"
  echo "vLLM $version"
  export PYTHONPATH=$site VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
  METRO_VLLM_DECODE=home "$python" -m metro_moe.vllm check # as it is without nvcc
  "$python" -m pytest tests/python/vllm "$@"
done
