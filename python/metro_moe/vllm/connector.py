# SPDX-License-Identifier: Apache-2.0
"""Where METRO meets vLLM: the one function through which every MoE layer maps its experts.

Its parameters are checked by name, and every module that imported it is found. Whatever is not
understood, and any exception of ours, leaves vLLM's own mapping in place, said once.
"""

from __future__ import annotations

import collections
import functools
import importlib
import inspect
import logging
import sys
from typing import Any

import torch

from metro_moe.vllm.op import map_to_physical
from metro_moe.vllm.recorder import Recorder
from metro_moe.vllm.settings import Settings

logger = logging.getLogger("metro_moe.vllm")

MODULE = "vllm.model_executor.layers.fused_moe.router.base_router"
FUNCTION = "eplb_map_to_physical_and_record"
PARAMETERS = [
    "topk_ids", "expert_load_view", "logical_to_physical_map", "logical_replica_count", "record_enabled",
    "num_unpadded_tokens",
]  # fmt: skip


class Unsupported(Exception):
    """This vLLM, or what it was asked to do, is not what METRO was written for."""


class Connector:
    """Binds to vLLM, decides per batch, and falls back."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.off = ""
        self.calls: collections.Counter[str] = collections.Counter()
        self.num_gpus = 0
        self.warm: set[Any] = set()
        self.patched: list[tuple[Any, Any]] = []
        self.recorder = Recorder(settings.record, settings.record_tokens, settings.max_tokens) if settings.record else None
        self.cuda: Any = None
        self.op: Any = None

    # -- binding

    def bind(self) -> None:
        module = importlib.import_module(MODULE)
        stock = getattr(module, FUNCTION, None)
        if stock is None:
            raise Unsupported(f"{MODULE} has no {FUNCTION}")
        parameters = list(inspect.signature(stock).parameters)
        if parameters != PARAMETERS:
            raise Unsupported(f"{FUNCTION} takes {parameters}, known is {PARAMETERS}")
        self.op = map_to_physical()
        if self.settings.backend == "cuda":
            from metro_moe.vllm.cuda_backend import CudaBackend

            self.cuda = CudaBackend(self.settings)
            self.cuda.follow_commits(importlib.import_module("vllm.distributed.eplb.eplb_state"), self.patch)

        @functools.wraps(stock)
        def mapped(topk_ids, expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled,
                   num_unpadded_tokens=None):  # fmt: skip
            state = (expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled, num_unpadded_tokens)
            if not self.off:
                try:
                    replica_ids = self.map(topk_ids, *state)
                    if replica_ids is not None:
                        return replica_ids
                except Exception as error:
                    self.turn_off(f"{type(error).__name__}: {error}")
            return stock(topk_ids, *state)

        for other in list(sys.modules.values()):  # those that imported it by name; later ones get `mapped`
            name = getattr(other, "__name__", None)
            if isinstance(name, str) and name.startswith("vllm") and vars(other).get(FUNCTION) is stock:
                self.patch(other, FUNCTION, mapped)

    def patch(self, owner: Any, name: str, value: Any) -> None:
        self.patched.append((owner, (name, getattr(owner, name))))
        setattr(owner, name, value)

    def unbind(self) -> None:
        for owner, (name, value) in reversed(self.patched):
            setattr(owner, name, value)
        self.patched.clear()

    def turn_off(self, why: str) -> None:
        if not self.off:
            self.off = why
            logger.warning("metro: vLLM's own mapping from here on: %s", why)

    def status(self) -> dict:
        bound = [owner.__name__ for owner, (name, _) in self.patched if name == FUNCTION]
        return {"bound": bound, "calls": dict(self.calls), "off": self.off, "num_gpus": self.num_gpus}

    # -- one batch of one layer

    def map(self, topk_ids, load, table, count, record, num_real) -> Any:
        """The physical ids, or None for vLLM's own."""
        if not self.num_gpus:
            self.resolve()
            if self.off:
                return None
        policy = "hash"
        if topk_ids.ndim == 2 and topk_ids.shape[0] > 0:
            few = topk_ids[: self.settings.max_tokens]
            self.prepare(few, load, table, count, record, num_real)
        if topk_ids.ndim == 2 and 0 < topk_ids.shape[0] <= self.settings.max_tokens:
            is_decode = self.is_decode()
            policy = self.settings.decode if is_decode else self.settings.prefill
            if is_decode and self.recorder is not None:
                self.recorder.record(topk_ids, count, num_real)
        self.calls[policy] += 1
        if policy == "hash":
            return None
        if policy == "metro" and self.cuda is not None:
            return self.cuda.map(topk_ids, load, table, count, record, num_real, self.num_gpus)
        return self.op(topk_ids, load, table, count, record, num_real, policy, self.num_gpus)

    def resolve(self) -> None:
        """Reads once how the model is spread over GPUs, from the first MoE layer of this forward."""
        layers = _forward_context().no_compile_layers.values()
        config = next((layer.moe_config for layer in layers if hasattr(layer, "moe_config")), None)
        if config is None:
            raise Unsupported("there is no MoE layer in the forward context")
        parallel = config.moe_parallel_config
        if getattr(config, "is_lora_enabled", False):
            return self.turn_off("LoRA is not supported")
        if self.settings.decode == "metro" and (parallel.dp_size > 1 or getattr(parallel, "pcp_size", 1) > 1
                                                or getattr(parallel, "is_sequence_parallel", False)):  # fmt: skip
            return self.turn_off("metro needs the whole batch on every rank, which DP, PCP or SP does not give; use home")
        self.num_gpus = self.settings.num_gpus or parallel.ep_size

    def is_decode(self) -> bool:
        """Whether every request of this batch has 1 + draft tokens, as all ranks that share it see it."""
        context = _forward_context()
        if getattr(context, "ubatch_slices", None) is not None:
            return False  # one of two microbatches
        if getattr(context.batch_descriptor, "uniform", False):
            return True
        # A graph that serves other batches too is captured as vLLM would serve it.
        if context.cudagraph_runtime_mode.name != "NONE" or not isinstance(context.attn_metadata, dict):
            return False
        lengths = [getattr(m, "max_query_len", None) for m in context.attn_metadata.values()]
        lengths = [length for length in lengths if length is not None]
        return bool(lengths) and max(lengths) == 1

    def prepare(self, topk_ids, load, table, count, record, num_real) -> None:
        """Compiles and allocates while nothing is captured: vLLM's warm-up does not look like decode."""
        key = (topk_ids.dtype, topk_ids.shape[1], num_real is None)
        if key in self.warm or _is_capturing(topk_ids):
            return
        self.warm.add(key)
        if self.recorder is not None:
            self.recorder.start(topk_ids, count)
        unused, off = torch.zeros_like(load), torch.zeros_like(record)
        for policy in {self.settings.decode, self.settings.prefill} - {"hash"}:
            self.op(topk_ids, unused, table, count, off, num_real, policy, self.num_gpus)
        if self.cuda is not None:
            self.cuda.map(topk_ids, unused, table, count, off, num_real, self.num_gpus)


def _forward_context() -> Any:
    return importlib.import_module("vllm.forward_context").get_forward_context()


def _is_capturing(tensor: Any) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
