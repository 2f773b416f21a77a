# SPDX-License-Identifier: Apache-2.0
"""What of vLLM the plugin holds on to, checked before it is touched, and put back afterwards.

Everything that names a module, function or attribute of vLLM stands here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any

import torch

logger = logging.getLogger("vllm.metro")  # vLLM shows what is under its own name, and nothing else

KNOWN_VERSIONS = ("0.25.1", "0.33.0")
MODULE = "vllm.model_executor.layers.fused_moe.router.base_router"
FUNCTION = "eplb_map_to_physical_and_record"
PARAMETERS = [
    "topk_ids", "expert_load_view", "logical_to_physical_map", "logical_replica_count", "record_enabled",
    "num_unpadded_tokens",
]  # fmt: skip
EPLB_STATE = "vllm.distributed.eplb.eplb_state"
EPLB_START = "build_initial_global_physical_to_logical_map"
EXPERTS_MODULE = "vllm.model_executor.layers.fused_moe.routed_experts"
EXPERTS_CLASS = "RoutedExperts"
EPLB_POLICY = "vllm.distributed.eplb.policy"
GATHER_MODULE = "vllm.model_executor.layers.fused_moe.prepare_finalize.naive_dp_ep"
GATHER_CLASS = "MoEPrepareAndFinalizeNaiveDPEPModular"
LOGGERS = "vllm.v1.metrics.loggers"
PROMETHEUS = "vllm.v1.metrics.prometheus"
RUNNERS = {"V1": "vllm.v1.worker.gpu_model_runner", "V2": "vllm.v1.worker.gpu.model_runner"}
GRAPH_MANAGER_MODULE = "vllm.v1.worker.gpu.cudagraph_utils"
GRAPH_MANAGER = "CudaGraphManager"


class Unsupported(Exception):
    """This vLLM, or what it was asked to do, is not what METRO was written for."""


class RanksDiffer(RuntimeError):
    """A rank cannot go on as all ranks agreed: going on otherwise would change outputs, so it ends."""


class Patches:
    """What was replaced, and how it is put back."""

    def __init__(self) -> None:
        self.back: list[Callable[[], Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        held = vars(owner).get(name, getattr(owner, name))  # a static method as such
        self.back.append(functools.partial(setattr, owner, name, held))
        setattr(owner, name, value)

    def set_item(self, table: dict, key: Any, value: Any) -> None:
        if key in table:
            self.back.append(functools.partial(table.__setitem__, key, table[key]))
        else:
            self.back.append(functools.partial(table.pop, key, None))
        table[key] = value

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces `name` by make(stock)."""
        stock = getattr(owner, name)
        self.set(owner, name, functools.wraps(stock)(make(stock)))

    def set_everywhere(self, function: Any, value: Any) -> list[str]:
        """In every module of vLLM that has `function` by any name; modules loaded later get `value` by import."""
        bound = []
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", None)
            if not isinstance(name, str) or name.partition(".")[0] != "vllm":
                continue
            for attribute, held in list(vars(module).items()):
                if held is function:
                    self.set(module, attribute, value)
                    bound.append(name)
        return bound

    def undo(self) -> None:
        for put_back in reversed(self.back):
            put_back()
        self.back.clear()


def version() -> str:
    return str(getattr(importlib.import_module("vllm"), "__version__", "unknown"))


def is_known(vllm_version: str) -> bool:
    return vllm_version.partition("+")[0] in KNOWN_VERSIONS


def check_parameters(function: Any, want: list[str]) -> None:
    """Raises unless the function takes what was expected, in this order."""
    have = [name for name in inspect.signature(function).parameters if name != "self"]
    if have[: len(want)] != want or (want == PARAMETERS and have != want):
        raise Unsupported(f"{function.__qualname__} takes {have}, known is {want}")


def mapping_function() -> Any:
    stock = getattr(importlib.import_module(MODULE), FUNCTION, None)
    if stock is None:
        raise Unsupported(f"{MODULE} has no {FUNCTION}")
    check_parameters(stock, PARAMETERS)
    return stock


def forward_context() -> Any:
    return importlib.import_module("vllm.forward_context").get_forward_context()


def ep_group() -> Any:
    return importlib.import_module("vllm.distributed.parallel_state").get_ep_group()


def current_config() -> Any:
    """vLLM's configuration of this process where it is being set up, or None."""
    return importlib.import_module("vllm.config").get_current_vllm_config_or_none()


def runner_of(config: Any) -> str:
    """V1 or V2, or nothing where vLLM does not say."""
    try:
        is_v2 = getattr(config, "use_v2_model_runner", None)
    except Exception:  # a property that also refuses configurations
        is_v2 = None
    return "" if is_v2 is None else "V2" if is_v2 else "V1"


def is_capturing(tensor: Any) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def layer_that_holds(count: Any) -> Any:
    """The MoE layer of this forward whose EPLB tables `count` is of."""
    layers = [layer for layer in forward_context().no_compile_layers.values() if hasattr(layer, "eplb_state")]
    for layer in layers:
        held = getattr(layer.eplb_state, "logical_replica_count", None)
        if held is not None and held.data_ptr() == count.data_ptr():
            if not hasattr(layer, "moe_config"):
                raise Unsupported(f"{type(layer).__name__} sends its tokens in a way that is not known")
            return layer
    raise Unsupported("no MoE layer of the forward context has these tables")


def dispatch_of(layer: Any) -> str:
    """The name of the class that sends this layer's tokens to the experts."""
    method = getattr(getattr(layer, "routed_experts", None), "quant_method", None)
    kernel = getattr(method, "moe_kernel", None)
    return type(getattr(kernel, "prepare_finalize", None)).__name__
