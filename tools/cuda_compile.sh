#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the kernels that are other code on older GPUs for one of those:
#   tools/cuda_compile.sh BUILD_FOLDER ARCHITECTURE
# BUILD_FOLDER is complete: what it compiled tells which kernels see a file that asks for __CUDA_ARCH__.
set -euo pipefail
cd "$(dirname "$0")/.."

done_build=$1
architecture=$2
folder=build/cuda$architecture

mapfile -t asking < <(grep -rlE '__CUDA_ARCH__ *[<>=]' src --include='*.cu' --include='*.cuh' --include='*.hpp')
if [ ${#asking[@]} -eq 0 ]; then
  echo "no kernel asks for the architecture"
  exit 0
fi
mapfile -t objects < <(ninja -C "$done_build" -t deps | awk -v asking="${asking[*]}" '
  BEGIN { count = split(asking, files, " ") }
  /^[^ ].*: #deps/ { object = $1; sub(/:$/, "", object); next }
  object ~ /^src\/.*\.cu\.o$/ { for (i = 1; i <= count; i++) if (index($0, files[i])) { print object; object = ""; next } }')
if [ ${#objects[@]} -eq 0 ]; then
  echo "cuda_compile: no object of $done_build depends on ${asking[*]}" >&2
  exit 1
fi
cmake --preset release -B "$folder" -DMETRO_CUDA=ON -DMETRO_WERROR=ON -DMETRO_BUILD_TESTS=OFF -DMETRO_BUILD_BENCH=OFF \
  "-DCMAKE_CUDA_ARCHITECTURES=$architecture-real" >/dev/null
ninja -C "$folder" -j "${JOBS:-$(nproc)}" "${objects[@]}"
echo "${#objects[@]} objects compiled for $architecture"
