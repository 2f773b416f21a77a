#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs from Debian what is missing: tools/install_deps.sh [build] [python] [ci] [page]
# What is there already is left alone, so a second run is instant and needs no network.
set -euo pipefail

if [ -n "${METRO_SKIP_DEPS:-}" ]; then exit 0; fi

packages=()
for group in "${@:-build}"; do
  case $group in
    build) # the program and its tests
      packages+=(g++ cmake ninja-build ccache python3 libcli11-dev nlohmann-json3-dev libfmt-dev
        libjs-chart.js libgtest-dev libgmock-dev libbenchmark-dev librapidcheck-dev liblemon-dev
        libdnnl-dev libopenmpi-dev openmpi-bin) ;;
    python) # the wheel; the rest of it comes from PyPI
      packages+=(python3-dev python3-venv) ;;
    ci) # what .ci/run needs besides
      packages+=(clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev valgrind) ;;
    page) # a browser to open the report page in
      packages+=(chromium) ;;
    *)
      echo "install_deps: unknown group '$group': give build, python, ci or page" >&2
      exit 2 ;;
  esac
done

fail() { # WHY PACKAGE...
  echo "install_deps: $1 (${*:2}); install them yourself, then set METRO_SKIP_DEPS=1" >&2
  exit 1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  fail "no apt here to look for these Debian packages" "${packages[@]}"
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  if [ "$status" != installed ]; then missing+=("$package"); fi
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
  # sudo may ask for a password only where someone can answer.
  if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
    fail "packages are missing, and neither root nor sudo is at hand" "${missing[@]}"
  fi
fi

# Waits for another apt to finish; tries again when a mirror drops the connection.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}
echo "==> apt-get update"
apt update || echo "install_deps: apt-get update failed; going on with the lists at hand" >&2
echo "==> apt-get install ${missing[*]}"
apt install -y --no-install-recommends "${missing[@]}" ||
  fail "apt-get could not install all of these" "${missing[@]}"
