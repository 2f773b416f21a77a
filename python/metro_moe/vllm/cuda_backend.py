# SPDX-License-Identifier: Apache-2.0
"""`metro` by metro_moe.cuda.Router: exact, and the greedy's time is not paid. One router per model.

The router keeps its own tables, so it follows vLLM's commits; the Triton kernels read vLLM's.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from metro_moe.vllm.layers import all_layers, layer_of, num_layers
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


class CudaBackend:
    def __init__(self, settings: Settings):
        from metro_moe import cuda

        if not cuda.is_built():
            raise RuntimeError("metro_moe was built without CUDA, METRO_VLLM_BACKEND must be triton")
        self.router_class, self.max_tokens = cuda.Router, settings.max_tokens
        self.routers: dict[tuple[int, int], Any] = {}  # by the model's table and top-k
        self.identity: Any = None

    def follow_commits(self, module: Any, patch: Any) -> None:
        """Wraps what moves experts: captured graphs must see new maps from the next replay on."""

        def wrap(name, layers):
            stock = getattr(module, name)

            @functools.wraps(stock)
            def committed(model_state, new_physical_to_logical_map, *rest, **more):
                result = stock(model_state, new_physical_to_logical_map, *rest, **more)
                self.update(model_state.logical_replica_count, new_physical_to_logical_map.cpu(), *layers(rest, more))
                return result

            patch(module, name, committed)

        wrap("_commit_eplb_maps", lambda rest, more: (None,))
        wrap("_commit_eplb_maps_for_layer", lambda rest, more: (rest[0] if rest else more["layer"],))

    def update(self, counts, new_map, layer) -> None:
        new_map = new_map.to(torch.int32).numpy()
        for (address, _), router in self.routers.items():
            if address != counts.data_ptr():
                continue
            stream = torch.cuda.current_stream(counts.device).cuda_stream
            for index in range(len(new_map)) if layer is None else [layer]:
                router.update(index, new_map[index] if layer is None else new_map, stream)

    def router_for(self, topk_ids, load, table, count, num_gpus):
        layers = num_layers(count)
        counts = all_layers(count, layers)
        key = (counts.data_ptr(), topk_ids.shape[1])
        if key not in self.routers:
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError("the first batch of a model was captured")
            maps = physical_to_logical(all_layers(table, layers), counts, len(load)).numpy()
            self.routers[key] = self.router_class(
                maps, num_gpus, policy="optimal", topk=topk_ids.shape[1], max_tokens=self.max_tokens
            )
        return self.routers[key]

    def map(self, topk_ids, load, table, count, record, num_real, num_gpus):
        from metro_moe.vllm.replica_choice import map_to_physical_and_record

        router = self.router_for(topk_ids, load, table, count, num_gpus)
        ids = topk_ids.contiguous()
        chosen = router.route_tensor(layer_of(count), ids, num_valid=num_real)
        if self.identity is None or len(self.identity[1]) != len(load):
            slots = torch.arange(len(load), device=load.device)
            self.identity = slots.unsqueeze(1), torch.ones_like(slots)
        # Counts the load, and gives padded rows, which the router left out, a real row's replicas.
        return map_to_physical_and_record(chosen, load, *self.identity, record, num_real, policy="home")
