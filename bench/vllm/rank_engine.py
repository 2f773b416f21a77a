# SPDX-License-Identifier: Apache-2.0
"""One GPU's engine as rank r of N under a trace: what a decode batch computes is swapped in place, not recaptured.

Attention, gate and sampling see the rows of one GPU. In each MoE layer the rows of all N GPUs are there, as after an
all-gather: copies of this GPU's, routed by the trace; after the experts the first GPU's rows go on, as after a
reduce-scatter. Batches and expert maps lie in buffers that the captured graphs read by a step counter of their own.
"""

import functools

import numpy as np
import torch

import rank_tables


class Emulation:
    """`layers` are vLLM's MoE runners, `row_counts` the decode batches of one GPU that are emulated."""

    def __init__(self, layers, runner, ranks, num_physical, topk, num_batches, row_counts, device="cuda"):
        self.layers, self.runner, self.device = layers, runner, device
        self.ranks, self.num_physical, self.num_batches = ranks, num_physical, num_batches
        count = len(self.layers)
        new = functools.partial(torch.zeros, dtype=torch.int32, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.map_table, self.maps = new(num_batches, count * num_physical), new(1, count * num_physical)
        self.pool, self.ids, self.weights, self.real = {}, {}, {}, {}
        for rows in row_counts:
            everywhere = rows * ranks
            self.pool[rows] = new(num_batches, count * everywhere * topk)
            self.ids[rows] = new(1, count * everywhere * topk)
            self.weights[rows] = torch.full((everywhere, topk), 1 / topk, device=device)
            self.real[rows] = torch.full((), everywhere, dtype=torch.int32, device=device)
        self.shape = lambda rows: (count, rows * ranks, topk)
        self.install()

    def install(self):
        for index, layer in enumerate(self.layers):
            router, experts = layer.router, layer.routed_experts
            state = getattr(router, "eplb_state", None)
            stock_real = None if state is None else state.num_unpadded_tokens_tensors
            experts._expert_map = self.maps.view(len(self.layers), -1)[index]
            router._compute_routing = functools.partial(self.route, index, state, stock_real, router._compute_routing)
            experts.forward_modular = functools.partial(self.forward, experts.forward_modular)

    def route(self, index, state, stock_real, compute, hidden_states, *args, **more):
        """The gate's own time, and then the trace's ids of all ranks."""
        weights, ids = compute(hidden_states, *args, **more)
        rows = len(ids)
        emulated = rows in self.pool
        if state is not None:
            state.num_unpadded_tokens_tensors = [self.real[rows]] if emulated else stock_real
        if not emulated:
            return weights, ids
        if index == 0:
            torch.index_select(self.pool[rows], 0, self.step, out=self.ids[rows])
            torch.index_select(self.map_table, 0, self.step, out=self.maps)
            self.step.add_(1).remainder_(self.num_batches)
        return self.weights[rows].to(weights.dtype), self.ids[rows].view(self.shape(rows))[index].to(ids.dtype)

    def forward(self, stock, x, topk_weights, topk_ids, *args, **more):
        if len(topk_ids) == len(x):
            return stock(x, topk_weights, topk_ids, *args, **more)
        return stock(x.repeat(self.ranks, 1), topk_weights, topk_ids, *args, **more)[: len(x)]

    # -- from the host, between steps

    @torch.inference_mode()
    def serve(self, rows, batches):
        self.pool[rows].copy_(torch.from_numpy(batches.reshape(self.num_batches, -1)))

    @torch.inference_mode()
    def become(self, rank):
        """One rank in all layers, or [batches, layers] of them."""
        maps = rank_tables.expert_maps(rank, self.num_physical, self.ranks, self.num_batches, len(self.layers))
        self.map_table.copy_(torch.from_numpy(maps.reshape(self.num_batches, -1)))

    @torch.inference_mode()
    def place(self, physical_to_logical, num_experts, home=None):
        """vLLM's own tables, in place, as a rearrangement would set them; `home` is the slot that comes first."""
        state = next(iter(self.runner.eplb_state.model_states.values()))
        width = state.logical_to_physical_map.shape[-1]
        table, count = rank_tables.logical_tables(physical_to_logical, num_experts, width, home)
        state.physical_to_logical_map.copy_(torch.from_numpy(np.ascontiguousarray(physical_to_logical)))
        state.logical_to_physical_map.copy_(torch.from_numpy(table))
        state.logical_replica_count.copy_(torch.from_numpy(count))

    def context(self, rows):
        """vLLM's forward context of a uniform decode batch, in which the bound mapping may be called."""
        from vllm.config import CUDAGraphMode
        from vllm.forward_context import BatchDescriptor, set_forward_context

        return set_forward_context(
            None, self.runner.vllm_config, num_tokens=rows, cudagraph_runtime_mode=CUDAGraphMode.FULL,
            batch_descriptor=BatchDescriptor(num_tokens=rows, uniform=True),
        )  # fmt: skip

    def mapping(self, rows):
        """call(layer, ids): the very function that the graphs captured, recording nothing."""
        from vllm.model_executor.layers.fused_moe.router import base_router

        off = torch.zeros((), dtype=torch.bool, device=self.device)

        def call(layer, ids):
            state = self.layers[layer].router.eplb_state
            return base_router.eplb_map_to_physical_and_record(
                ids, state.expert_load_view, state.logical_to_physical_map, state.logical_replica_count, off,
                self.real[rows],
            )  # fmt: skip

        return call

    @torch.inference_mode()
    def physical(self, rows):
        """[batches, layers, rows of all ranks, topk] on the host: what the bound policy makes of the batches served."""
        batches = self.pool[rows].view(self.num_batches, *self.shape(rows))
        if getattr(self.layers[0].router, "eplb_state", None) is None:
            return batches.cpu().numpy()
        call, out = self.mapping(rows), torch.empty_like(batches)
        with self.context(rows):
            for batch in range(self.num_batches):
                for layer in range(len(self.layers)):
                    out[batch, layer] = call(layer, batches[batch, layer])
        return out.cpu().numpy()

    @torch.inference_mode()
    def router_us(self, rows):
        """us a layer of the mapping alone, all layers in one graph."""
        from mapping import graph_us

        if getattr(self.layers[0].router, "eplb_state", None) is None:
            return 0.0
        ids, call = self.pool[rows].view(self.num_batches, *self.shape(rows))[0], self.mapping(rows)
        with self.context(rows):
            all_layers = lambda: [call(layer, ids[layer]) for layer in range(len(self.layers))]  # noqa: E731
            return graph_us(all_layers, calls=1) / len(self.layers)

    @torch.inference_mode()
    def graph_maps(self, graph, physical):
        """Whether a captured graph maps every batch as `physical` says: vLLM's own load counts, after each batch once."""
        if self.layers[0].router.eplb_state is None:
            return True
        eplb = self.runner.eplb_state
        loads = next(iter(eplb.model_states.values())).expert_load_pass
        loads.zero_()
        eplb.should_record_tensor.fill_(True)
        for _ in range(self.num_batches):
            graph.replay()
        eplb.should_record_tensor.fill_(False)
        want = [np.bincount(physical[:, layer].ravel(), minlength=self.num_physical) for layer in range(len(self.layers))]
        same = np.array_equal(loads.cpu().numpy(), np.array(want))
        loads.zero_()
        return same

    def replay_ms(self, graph):
        """ms of one step on the GPU: every batch once."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(2):
            graph.replay()
        begin.record()
        for _ in range(self.num_batches):
            graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / self.num_batches
