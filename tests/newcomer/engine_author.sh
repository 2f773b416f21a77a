#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes an engine: installs the library, and builds and runs the programs of the page in C++, C and Python.
. "$(dirname "$0")/run.sh"
newcomer engine_author embed.md
said "^100 steps routed$"
# C++, C and Python choose the same replicas.
if [ "$(grep -cE '^0 3 0 4 ?$' "$work/log")" -lt 3 ]; then
  echo "not all programs chose replicas 0 3 0 4"
  exit 1
fi
