# SPDX-License-Identifier: Apache-2.0
"""The kernels compile for Hopper: what the interpreter takes, the compiler may not."""

import os
import pathlib
import subprocess
import sys

import pytest


def test_kernels_compile_for_sm_90():
    nvidia = pytest.importorskip("triton.backends.nvidia.compiler")
    try:
        nvidia.get_ptxas(90)
    except Exception as error:
        pytest.skip(f"no ptxas: {error}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = pathlib.Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("bytes") == 15
