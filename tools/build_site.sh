#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the documentation site: tools/build_site.sh [OUT], by default build/site.
# MkDocs goes into an environment of its own, build/site-venv, with the versions of
# tools/site/requirements.txt; the site itself needs no network, not to be built again and not to be read.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-build/site}
venv=build/site-venv
if ! cmp -s tools/site/requirements.txt "$venv/installed.txt"; then
  python3 -m venv --clear "$venv"
  if ! "$venv/bin/pip" install -q -r tools/site/requirements.txt; then
    echo "no Python package index to be had"
    exit 77
  fi
  cp tools/site/requirements.txt "$venv/installed.txt"
fi
python3 tools/draw.py --check
python3 tools/page_parts.py
NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --quiet --strict --site-dir "$PWD/$out"
echo "Built $out/index.html"
