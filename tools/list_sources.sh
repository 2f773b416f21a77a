#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints our C++ and CUDA sources, one a line; with arguments, those below the folders given.
set -euo pipefail
cd "$(dirname "$0")/.."

folders=("$@")
if [ $# -eq 0 ]; then folders=(include src apps tests fuzz bench examples python); fi
for folder in "${folders[@]}"; do
  if [ -d "$folder" ]; then
    find "$folder" -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \)
  fi
done | LC_ALL=C sort
