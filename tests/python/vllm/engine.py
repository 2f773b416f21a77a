# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the parts of vLLM that the plugin meets, and vLLM's own modules where they are."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest

from metro_moe.vllm import connector

needs_interpreter = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4), reason="triton's interpreter fails with NumPy >= 2.4"
)


def stand_in(monkeypatch, parameters=None):
    """(module with the mapping, module that imported it by name, the mapping); its ids stay logical."""

    def stock(topk_ids, expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled,
              num_unpadded_tokens=None):  # fmt: skip
        return topk_ids.clone()

    if parameters is not None:
        stock = eval(f"lambda {parameters}: topk_ids")
    names = connector.MODULE.split(".")
    names = [".".join(names[: depth + 1]) for depth in range(len(names))]
    for name in [*names, "vllm.models.by_name", "vllm.forward_context"]:
        module = types.ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    base_router, other = sys.modules[connector.MODULE], sys.modules["vllm.models.by_name"]
    setattr(base_router, connector.FUNCTION, stock)
    setattr(other, connector.FUNCTION, stock)
    return base_router, other, stock


def vllm_itself():
    """(module with the mapping, the mapping) of vLLM, or a skip."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:  # none, or this very folder as a namespace package
        pytest.skip("vLLM is not installed")
    module = importlib.import_module(connector.MODULE)
    return module, getattr(module, connector.FUNCTION)


def context(uniform=True, mode="FULL", ep_size=4, dp_size=1, lora=False, max_query_len=1, ubatches=None):
    """A forward context, as the plugin reads it."""
    space = types.SimpleNamespace
    parallel = space(ep_size=ep_size, dp_size=dp_size, pcp_size=1, is_sequence_parallel=False)
    layer = space(moe_config=space(moe_parallel_config=parallel, is_lora_enabled=lora))
    return space(
        no_compile_layers={"attention": space(), "experts": layer},
        batch_descriptor=space(uniform=uniform),
        cudagraph_runtime_mode=space(name=mode),
        attn_metadata={"layer": space(max_query_len=max_query_len)},
        ubatch_slices=ubatches,
    )
