# SPDX-License-Identifier: Apache-2.0
"""Runs the Triton kernels on the CPU; skips this folder where torch or Triton are missing."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported
if not os.path.exists("/dev/nvidia0"):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # else vLLM itself goes without Triton

import importlib.util  # noqa: E402

import pytest  # noqa: E402

missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
if missing:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def unregistered(monkeypatch):
    import logging

    from metro_moe import vllm as plugin

    for name in list(os.environ):
        if name.startswith("METRO_VLLM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")  # `check` sets it for its process, before vLLM is imported
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)  # vLLM turns it off; caplog needs it
    yield
    plugin.unregister()
