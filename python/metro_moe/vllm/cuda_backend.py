# SPDX-License-Identifier: Apache-2.0
"""`optimal` by metro_moe.cuda.Router: one launch a layer, one router a model.

The router keeps its own tables and follows vLLM's commits. Its kernel looks at vLLM's tables too
(metro/cuda/engine_maps.hpp), so a commit that it did not follow costs its gain and no output.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from metro_moe.cuda import EngineMaps
from metro_moe.vllm.layers import all_layers, layer_of, num_layers
from metro_moe.vllm.seams import logger
from metro_moe.vllm.settings import Settings


def physical_to_logical(table, count, num_physical):
    """int32 [layers, physical] on the host, from vLLM's tables of all layers; waits for the GPU."""
    table, count = table.cpu(), count.cpu()
    result = torch.full((len(count), num_physical), -1, dtype=torch.int32)
    for r in range(int(count.max())):
        layer, expert = torch.nonzero(count > r, as_tuple=True)
        result[layer, table[layer, expert, r]] = expert.to(torch.int32)
    if bool((result < 0).any()):
        raise RuntimeError("a physical expert holds no logical one")
    return result


class ModelRouter:
    """The router of one model, and what a captured graph reads of it: addresses that stay."""

    def __init__(self, router: Any, layers: int, device: Any):
        self.router = router
        self.live = torch.ones(layers, dtype=torch.int32, device=device)
        self.faults = torch.zeros(layers, 2, dtype=torch.int64, device=device)
        self.said = False


class CudaBackend:
    def __init__(self, settings: Settings, all_agree: Any = None, router_class: Any = None):
        if router_class is None:
            from metro_moe import cuda

            if not cuda.is_built():
                raise RuntimeError("`optimal` needs metro_moe built with CUDA (docs/python.md), use METRO_VLLM_DECODE=home")
            router_class = cuda.Router
        self.router_class, self.max_tokens = router_class, settings.max_tokens
        self.all_agree = all_agree or (lambda fine: fine)
        self.routers: dict[tuple[int, int], ModelRouter] = {}  # by the model's table and top-k

    def follow_commits(self, module: Any, patch: Any) -> None:
        """Wraps what moves experts: captured graphs must see new maps from the next replay on."""

        def wrap(name, layers):
            stock = getattr(module, name)

            @functools.wraps(stock)
            def committed(model_state, new_physical_to_logical_map, *rest, **more):
                result = stock(model_state, new_physical_to_logical_map, *rest, **more)
                self.update(model_state.logical_replica_count, new_physical_to_logical_map, *layers(rest, more))
                return result

            patch(module, name, committed)

        wrap("_commit_eplb_maps", lambda rest, more: (None,))
        wrap("_commit_eplb_maps_for_layer", lambda rest, more: (rest[0] if rest else more["layer"],))

    def update(self, counts, new_map, layer=None) -> None:
        """Follows a commit of one layer or all. Never raises: layers it could not follow go to vLLM's hash.

        All ranks commit together, and a layer stays only where all of them could follow.
        """
        for (address, _), model in self.routers.items():
            if address != counts.data_ptr():
                continue
            layers, why = range(len(model.live)) if layer is None else [layer], ""
            try:
                rows = new_map.cpu().to(torch.int32).numpy()
                stream = torch.cuda.current_stream(counts.device).cuda_stream if counts.is_cuda else 0
                for index in layers:
                    model.router.update(index, rows[index] if layer is None else rows, stream)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            fine = self.all_agree(not why)
            with torch.inference_mode():
                model.live[list(layers)] = int(fine)
            if not fine and not model.said:
                model.said = True
                logger.warning("metro: vLLM's own mapping for layers %s: %s", list(layers), why or "another rank failed")

    def router_for(self, topk_ids, load, table, count, num_gpus) -> ModelRouter:
        layers = num_layers(count)
        counts = all_layers(count, layers)
        key = (counts.data_ptr(), topk_ids.shape[1])
        if key not in self.routers:
            if counts.is_cuda and torch.cuda.is_current_stream_capturing():
                raise RuntimeError("the first batch of a model was captured")
            maps = physical_to_logical(all_layers(table, layers), counts, len(load)).numpy()
            router = self.router_class(
                maps, num_gpus, policy="optimal", topk=topk_ids.shape[1], max_tokens=self.max_tokens
            )
            self.routers[key] = ModelRouter(router, layers, counts.device)
        return self.routers[key]

    def map(self, topk_ids, load, table, count, record, num_real, num_gpus, checksum=None):
        """The physical ids; one launch, which may be captured once a model has its router."""
        model, layer = self.router_for(topk_ids, load, table, count, num_gpus), layer_of(count)
        maps = EngineMaps(table, count, load, record, model.live[layer], model.faults[layer], checksum)
        return model.router.serve_tensor(layer, topk_ids.contiguous(), maps, num_valid=num_real)

    def faults_at(self, address: int):
        """[layers, 2] on the device for the model whose tables lie there: ids not live, ids stale; or None."""
        return next((model.faults for (known, _), model in self.routers.items() if known == address), None)
