# SPDX-License-Identifier: Apache-2.0
"""METRO in place of SGLang's --ep-dispatch-algorithm.

SGLang has no plugin point, so `install` wraps three of its functions, after a look at their
signatures: the one that maps logical to physical experts, the one that makes its argument (which does
not say the layer), and, by comparing maps, whatever moves experts. Everything that is not understood
stays with SGLang's own code, and one warning says why: an error here never reaches the server.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from typing import Any

import numpy as np

from metro_moe import _metro, cuda
from metro_moe.errors import UsageError

logger = logging.getLogger("metro_moe.sglang")

_MODULES = ("sglang.srt.eplb.expert_location_dispatch", "sglang.srt.managers.expert_location_dispatch")
_FUNCTION = "topk_ids_logical_to_physical"
_LAYER = "_metro_layer"

_installed: _Dispatch | None = None


def install(policy: str = _metro.DEFAULT_POLICY, *, max_tokens: int = 1024, global_batch: bool | None = None) -> bool:
    """Routes batches of up to `max_tokens` rows by `policy`; whether SGLang could be hooked.

    Call it in every process before the model is loaded. Larger batches (prefill) stay with SGLang,
    whose --ep-dispatch-algorithm must be set (static or dynamic). `global_batch` says whether every
    rank sees the whole batch where experts are mapped; left out, SGLang is asked: true without an
    all-to-all backend. Without it only policies that need no rows but the rank's own (`metro policies`:
    needs own-rows) are used. Rows that pad a batch count as tokens. Calling it again changes nothing.
    """
    global _installed
    table = {info.name: info for info in _metro.policies()}
    if policy not in table:
        raise UsageError(f"policy is {policy!r}, must be one of {', '.join(table)}")
    if _installed is not None:
        return True
    try:
        module = _find_module()
        _check(module)
        hook = _Dispatch(module, table[policy], max_tokens, global_batch)
    except Exception as error:
        logger.warning("metro: SGLang stays as it is: %s", error)
        return False
    hook.patch()
    _installed = hook
    return True


def uninstall() -> None:
    """Puts SGLang's functions back."""
    global _installed
    if _installed is not None:
        _installed.restore()
        _installed = None


def _find_module() -> Any:
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or ""):
                raise
    raise ModuleNotFoundError(f"found none of {', '.join(_MODULES)}")


def _check(module: Any) -> None:
    """Whether the functions to wrap are those that this was written for."""
    parameters = list(inspect.signature(getattr(module, _FUNCTION)).parameters)
    if parameters[:2] != ["topk_ids", "info"]:
        raise TypeError(f"{_FUNCTION} takes {parameters}, known is (topk_ids, info, ...)")
    parameters = list(inspect.signature(module.ExpertLocationDispatchInfo.init_new).parameters)
    if parameters != ["layer_id"]:
        raise TypeError(f"ExpertLocationDispatchInfo.init_new takes {parameters}, known is (layer_id)")
    if not callable(getattr(module, "get_global_expert_location_metadata", None)):
        raise TypeError("there is no get_global_expert_location_metadata")


def _sees_whole_batch() -> bool:
    try:
        backend = importlib.import_module("sglang.srt.layers.moe").get_moe_a2a_backend()
        return bool(backend.is_none())
    except Exception:
        return False


class _Dispatch:
    def __init__(self, module: Any, policy: _metro.PolicyInfo, max_tokens: int, global_batch: bool | None):
        self.module, self.policy, self.max_tokens = module, policy.name, max_tokens
        self.needs = policy.needs
        self.global_batch = global_batch
        self.stock = getattr(module, _FUNCTION)
        self.is_off = False
        self.metadata: Any = None
        self.maps: np.ndarray | None = None  # [layers, physical], as the routers have them
        self.num_gpus = 0
        self.routers: dict[Any, Any] = {}
        self.patched: list[tuple[Any, str, Any]] = []

    # -- hooks

    def patch(self) -> None:
        @functools.wraps(self.stock)
        def mapped(topk_ids, info, *rest, **more):
            if not (self.is_off or info is None or rest or more):
                try:
                    replica_ids = self.route(topk_ids, info)
                    if replica_ids is not None:
                        return replica_ids
                except Exception as error:
                    self.turn_off(f"{type(error).__name__}: {error}")
            return self.stock(topk_ids, info, *rest, **more)

        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "compiler"):
            mapped = torch.compiler.disable(mapped)  # raw pointers and streams mean nothing to it
        for other in list(sys.modules.values()):  # those that imported it by name
            name = getattr(other, "__name__", None)
            if isinstance(name, str) and name.startswith("sglang") and vars(other).get(_FUNCTION) is self.stock:
                self.replace(other, _FUNCTION, mapped)
        if vars(self.module).get(_FUNCTION) is self.stock:
            self.replace(self.module, _FUNCTION, mapped)

        info_class = self.module.ExpertLocationDispatchInfo
        make = info_class.init_new  # bound to the class

        def init_new(cls, layer_id):
            info = make(layer_id)
            if info is not None:
                object.__setattr__(info, _LAYER, layer_id)
            return info

        self.replace(info_class, "init_new", classmethod(init_new))
        self.follow_updates()

    def follow_updates(self) -> None:
        """After SGLang has moved experts, the routers follow, in the stream that moved them."""
        location = importlib.import_module(self.module.get_global_expert_location_metadata.__module__)
        metadata_class = getattr(location, "ExpertLocationMetadata", None)
        if not callable(getattr(metadata_class, "update", None)):
            return  # an engine without rebalancing
        update = metadata_class.update

        @functools.wraps(update)
        def updated(metadata, *args, **keywords):
            result = update(metadata, *args, **keywords)
            if metadata is self.metadata and not self.is_off:
                try:
                    self.refresh()
                except Exception as error:
                    self.turn_off(f"{type(error).__name__}: {error}")
            return result

        self.replace(metadata_class, "update", updated)

    def replace(self, owner: Any, name: str, value: Any) -> None:
        self.patched.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    def restore(self) -> None:
        for owner, name, value in reversed(self.patched):
            setattr(owner, name, value)

    def turn_off(self, why: str) -> None:
        self.is_off = True
        logger.warning("metro: SGLang's own dispatch from here on: %s", why)

    # -- routing

    def route(self, topk_ids: Any, info: Any) -> Any:
        """The physical ids, or None to leave the batch to SGLang."""
        layer = getattr(info, _LAYER, None)
        if layer is None or info.ep_dispatch_algorithm not in ("static", "dynamic"):
            return None
        if len(topk_ids.shape) != 2 or topk_ids.shape[0] > self.max_tokens:
            return None
        if self.metadata is None and not self.start():
            return None
        router = self.router_for(layer, topk_ids)
        if isinstance(router, _metro.Router):
            return _on_host(router, topk_ids)
        ids = topk_ids if topk_ids.is_contiguous() else topk_ids.contiguous()
        return router.route_tensor(layer, ids)

    def start(self) -> bool:
        if self.needs != "own-rows":
            whole = _sees_whole_batch() if self.global_batch is None else self.global_batch
            if not whole:
                self.turn_off(f"{self.policy} needs the whole batch on every rank, which this setup does not give")
                return False
        metadata = self.module.get_global_expert_location_metadata()
        self.maps = _maps(metadata)
        self.num_gpus = int(metadata.ep_size)
        self.metadata = metadata
        return True

    def router_for(self, layer: int, topk_ids: Any) -> Any:
        is_cuda = bool(getattr(topk_ids, "is_cuda", False))
        key = ("cuda", topk_ids.shape[1]) if is_cuda else layer
        if key not in self.routers:
            placement = _metro.Placement([self.layer_placement(i) for i in range(len(self.maps))])
            if is_cuda:
                self.routers[key] = cuda.Router(
                    placement, policy=self.policy, topk=topk_ids.shape[1], max_tokens=self.max_tokens
                )
            else:
                self.routers[key] = _metro.Router(placement.layers[layer], self.policy, layer=layer)
        return self.routers[key]

    def layer_placement(self, layer: int) -> Any:
        num_experts = int(self.maps.max()) + 1
        return _metro.LayerPlacement(self.maps[layer], num_experts, self.num_gpus)

    def refresh(self) -> None:
        previous, self.maps = self.maps, _maps(self.metadata)
        for layer in np.flatnonzero((previous != self.maps).any(axis=1)).tolist():
            self.routers.pop(layer, None)
            for router in self.routers.values():
                if isinstance(router, cuda.Router):
                    stream = cuda.current_stream(self.metadata.physical_to_logical_map)
                    router.update(layer, self.layer_placement(layer), stream)


def _maps(metadata: Any) -> np.ndarray:
    maps = getattr(metadata, "physical_to_logical_map_cpu", None)
    if maps is None:
        maps = metadata.physical_to_logical_map
        maps = maps.cpu() if hasattr(maps, "cpu") else maps
    return np.array(maps, np.int32)


def _on_host(router: _metro.Router, topk_ids: Any) -> Any:
    replica_ids = router.route(topk_ids)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(topk_ids, torch.Tensor):
        return torch.from_numpy(replica_ids).to(topk_ids.dtype)
    return replica_ids.astype(topk_ids.dtype)
