#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats our sources in place; with --check, changes nothing and fails when something would.
set -euo pipefail
cd "$(dirname "$0")/.."

options=(-i)
if [ "${1:-}" = --check ]; then options=(--dry-run --Werror); fi
mapfile -t sources < <(tools/list_sources.sh)
"${CLANG_FORMAT:-clang-format-19}" "${options[@]}" "${sources[@]}"
