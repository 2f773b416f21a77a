# SPDX-License-Identifier: Apache-2.0
"""METRO in place of SGLang's --ep-dispatch-algorithm, for steps that only decode.

`home` changes the argument of SGLang's own mapping: a table that has every expert's home, for its rule
"static" to look up. The other policies replace the mapping, which they can only where every rank sees the
whole batch. Drafts, prefill, and the algorithms "lp" and "fake" stay SGLang's.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import pkgutil
from typing import Any

import numpy as np

from metro_moe.errors import DeviceError, UsageError
from metro_moe.homes import exact_homes
from metro_moe.sglang import phase

logger = logging.getLogger("metro_moe.sglang")

MODULE = "sglang.srt.eplb.expert_location_dispatch"
LOCATION = "sglang.srt.eplb.expert_location"
HOOKS = "sglang.srt.plugins.hook_registry"
_ROUTE = "_metro_route"  # (layer, real rows or None) of an info whose batch a policy maps

_active: Dispatch | None = None
_hooked = False


def install(policy: str = "home", *, max_tokens: int = 1024, global_batch: bool | None = None) -> bool:
    """Maps decode steps by `policy`; whether SGLang could be hooked.

    Call it in every process before the model is loaded, or let SGLang load the plugin (METRO_SGLANG_DECODE).
    Steps of more than `max_tokens` rows stay with SGLang, unless the policy is `home`. `global_batch` says
    whether every rank sees the whole batch where experts are mapped; left out, SGLang is asked: true without
    an all-to-all backend. Calling it again changes nothing.
    """
    global _active
    needs = policy_needs()
    if policy not in needs:
        raise UsageError(f"policy is {policy!r}, must be one of {', '.join(needs)}")
    if _active is not None:
        return True
    try:
        _check()
        _hook()
    except Exception as error:
        logger.warning("metro: SGLang stays as it is: %s", error)
        return False
    _active = Dispatch(policy, needs[policy], max_tokens, global_batch)
    return True


def uninstall() -> None:
    """Steps are SGLang's again; captured graphs keep what they have."""
    global _active
    _active = None


def policy_needs() -> dict[str, str]:
    """What each policy must know of a batch (`metro policies`)."""
    from metro_moe import _metro

    return {policy.name: policy.needs for policy in _metro.policies()}


def _check() -> None:
    """Whether the functions to hook are those that this was written for."""
    dispatch, location = importlib.import_module(MODULE), importlib.import_module(LOCATION)
    for owner, name, known in (
        (dispatch.ExpertLocationDispatchInfo, "init_new", ["layer_id", "is_draft"]),
        (dispatch, "topk_ids_logical_to_physical", ["topk_ids", "info", "log2phy_prob"]),
        (location.ExpertLocationMetadata, "update", ["self", "other", "update_layer_ids"]),
    ):
        found = list(inspect.signature(getattr(owner, name)).parameters)
        if found != known:
            raise TypeError(f"{name} takes ({', '.join(found)}), known is ({', '.join(known)})")
    context = importlib.import_module("sglang.srt.model_executor.forward_context").ForwardContext
    if "moe_num_token_non_padded" not in {field.name for field in dataclasses.fields(context)}:
        raise TypeError("ForwardContext has no moe_num_token_non_padded")


def _hook() -> None:
    """Once a process: SGLang's registry cannot take a hook back, so the hooks ask for `_active`."""
    global _hooked
    if _hooked:
        return
    registry = importlib.import_module(HOOKS)
    for target, hook in _HOOKS.items():
        registry.HookRegistry.register(target, hook, registry.HookType.AROUND)
    registry.HookRegistry.apply_hooks()
    for target in _HOOKS:  # the registry logs what it could not hook, and goes on
        if not hasattr(pkgutil.resolve_name(target), "__wrapped__"):
            raise TypeError(f"{target} could not be hooked")
    _hooked = True


def _init_new(stock: Any, cls: Any, layer_id: int, *, is_draft: bool = False) -> Any:
    info = stock(cls, layer_id, is_draft=is_draft)
    return info if _active is None or info is None else _active.changed(info, layer_id)


def _mapped(stock: Any, topk_ids: Any, info: Any, log2phy_prob: Any = None) -> Any:
    route = getattr(info, _ROUTE, None)
    if route is None or log2phy_prob is not None:
        return stock(topk_ids, info, log2phy_prob)
    return route[0](topk_ids, route[2], route[1])


def _update(stock: Any, metadata: Any, *args: Any, **keywords: Any) -> Any:
    result = stock(metadata, *args, **keywords)
    if _active is not None:
        _active.moved(metadata)
    return result


_HOOKS = {
    f"{MODULE}.ExpertLocationDispatchInfo.init_new": _init_new,
    f"{MODULE}.topk_ids_logical_to_physical": _mapped,
    f"{LOCATION}.ExpertLocationMetadata.update": _update,
}


class Dispatch:
    """What one process knows of the placement, as tables and routers that stay where they are."""

    def __init__(self, policy: str, needs: str, max_tokens: int, global_batch: bool | None):
        self.policy, self.needs, self.max_tokens, self.global_batch = policy, needs, max_tokens, global_batch
        self.is_off = False
        self.metadata: Any = None
        self.maps = np.empty((0, 0), np.int32)  # [layers, physical], as tables and routers have them
        self.homes: Any = None  # [layers, experts] slots, on the device
        self.routers: dict[Any, Any] = {}

    def changed(self, info: Any, layer: int) -> Any:
        """The argument of the mapping: SGLang's own, or with our table in it, or marked for our policy."""
        batch = phase.forward_batch()
        if self.is_off or info.ep_dispatch_algorithm not in ("static", "dynamic") or not phase.is_decode(batch):
            return info
        metadata = importlib.import_module(MODULE).get_global_expert_location_metadata()
        if metadata is not self.metadata and not self.start(metadata):
            return info
        if self.policy == "home":
            return dataclasses.replace(
                info, ep_dispatch_algorithm="static", partial_logical_to_rank_dispatch_physical_map=self.homes[layer]
            )
        rows = batch.input_ids.shape[0] if batch.input_ids is not None else 0
        if rows <= self.max_tokens:
            # Read here: the mapping runs inside a compiled function.
            setattr(info, _ROUTE, (_route_op(), layer, batch.moe_num_token_non_padded()))
        return info

    def start(self, metadata: Any) -> bool:
        """Takes a placement up. Everything it looks at is the same on all ranks."""
        whole = _sees_whole_batch() if self.global_batch is None else self.global_batch
        if self.needs != "own-rows" and not whole:
            self.is_off = True
            logger.warning(
                "metro: SGLang's own dispatch: %s needs the whole batch on every rank, which --moe-a2a-backend "
                "does not give; METRO_SGLANG_DECODE=home needs nothing",
                self.policy,
            )
            return False
        self.metadata, self.maps, self.routers = metadata, _maps(metadata), {}
        self.homes = metadata.logical_to_all_physical_map[:, :, 0].clone()
        if self.policy == "home":
            for layer in range(len(self.maps)):
                self.write_homes(layer)
        logger.info(
            "metro: decode by %s, the rest by SGLang; %d layers, %d experts in %d slots on %d GPUs",
            self.policy, len(self.maps), metadata.num_logical_experts, self.maps.shape[1], metadata.ep_size,
        )  # fmt: skip
        return True

    def write_homes(self, layer: int) -> None:
        """In place, in the current stream: captured graphs read this table."""
        slots = self.maps.shape[1] // self.metadata.ep_size
        homes = exact_homes(self.maps[layer], self.metadata.num_logical_experts, slots_per_gpu=slots)
        self.homes[layer].copy_(importlib.import_module("torch").from_numpy(homes))

    def moved(self, metadata: Any) -> None:
        """After SGLang has moved experts. An error is raised, not logged: a rank that kept the old table
        would disagree with the others about who computes a token."""
        if metadata is not self.metadata:
            return
        previous, self.maps = self.maps, _maps(metadata)
        try:
            for layer in np.flatnonzero((previous != self.maps).any(axis=1)).tolist():
                if self.policy == "home":
                    self.write_homes(layer)
                self.update_routers(layer)
        except Exception as error:
            raise DeviceError(f"metro cannot follow SGLang's rebalancing; unset METRO_SGLANG_DECODE: {error}") from error

    # -- policies other than home

    def route(self, topk_ids: Any, num_real: Any, layer: int) -> Any:
        torch = importlib.import_module("torch")
        if num_real is not None:  # SGLang masks the rows that pad a batch later; they activate nothing
            rows = torch.arange(topk_ids.shape[0], device=topk_ids.device)
            topk_ids = topk_ids.masked_fill((rows >= num_real)[:, None], -1)
        router = self.router_for(layer, topk_ids)
        if not topk_ids.is_cuda:
            return torch.from_numpy(router.route(topk_ids)).to(topk_ids.dtype)
        return router.route_tensor(layer, topk_ids.contiguous())

    def router_for(self, layer: int, topk_ids: Any) -> Any:
        from metro_moe import _metro, cuda

        key = ("cuda", topk_ids.shape[1]) if topk_ids.is_cuda else layer
        if key not in self.routers:
            if topk_ids.is_cuda:
                placement = _metro.Placement([self.layer_placement(i) for i in range(len(self.maps))])
                self.routers[key] = cuda.Router(
                    placement, policy=self.policy, topk=topk_ids.shape[1], max_tokens=self.max_tokens
                )
            else:
                self.routers[key] = _metro.Router(self.layer_placement(layer), self.policy, layer=layer)
        return self.routers[key]

    def layer_placement(self, layer: int) -> Any:
        from metro_moe import _metro

        return _metro.LayerPlacement(self.maps[layer], self.metadata.num_logical_experts, self.metadata.ep_size)

    def update_routers(self, layer: int) -> None:
        self.routers.pop(layer, None)  # the host's
        for key, router in self.routers.items():
            if isinstance(key, tuple):
                from metro_moe import cuda

                stream = cuda.current_stream(self.metadata.physical_to_logical_map)
                router.update(layer, self.layer_placement(layer), stream)


def _sees_whole_batch() -> bool:
    return importlib.import_module("sglang.srt.runtime_context").get_exec().moe.moe_a2a_backend == "none"


def _maps(metadata: Any) -> np.ndarray:
    return metadata.physical_to_logical_map_cpu.numpy().astype(np.int32)  # a copy


def _route_op() -> Any:
    """The policy as an opaque op: the mapping is called inside a torch.compile'd function."""
    import torch
    from torch import library

    if not hasattr(torch.ops.metro_moe, "sglang_route"):
        schema = "(Tensor topk_ids, Tensor? num_real, SymInt layer) -> Tensor"
        op = library.custom_op("metro_moe::sglang_route", _route, mutates_args=(), schema=schema)
        op.register_fake(lambda topk_ids, num_real, layer: torch.empty_like(topk_ids))
    return torch.ops.metro_moe.sglang_route


def _route(topk_ids: Any, num_real: Any, layer: int) -> Any:
    if _active is None:  # a compiled function or a graph that outlived uninstall()
        raise DeviceError("metro_moe.sglang.uninstall() was called while SGLang ran")
    return _active.route(topk_ids, num_real, layer)
