# SPDX-License-Identifier: Apache-2.0
"""What the mapping does, counted on the device without a host sync: one row of int64 a layer.

Every call is counted; every kEvery-th is looked at, so that the rest costs the launch alone. Captured graphs
count too: the number of the call is on the device.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from metro_moe.vllm.replica_choice import hash_rule

EVERY = 16
CALLS, SAMPLES, OURS, STOCK, NANOSECONDS, BEGIN, WIDTH = 0, 1, 2, 3, 4, 5, 8


@functools.cache
def _kernels():
    import triton
    import triton.language as tl
    from triton.language.extra import cuda

    clock = cuda.globaltimer
    global hashed_replica  # as in replica_choice.py
    hashed_replica = hash_rule()

    @triton.jit(do_not_specialize_on_alignment=["row"])
    def begin(row, BEGIN: tl.constexpr):
        tl.store(row + BEGIN, clock().to(tl.int64))

    @triton.jit(do_not_specialize=["num_ids"], do_not_specialize_on_alignment=["ids", "out", "count", "row"])
    def sample(ids, out, num_real, table, stride, count, row, num_ids, topk, num_experts, num_physical, slots_per_gpu,
               HAS_NUM_REAL: tl.constexpr, CLOCK: tl.constexpr, EVERY: tl.constexpr, SLOTS: tl.constexpr,
               GPUS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
        calls = tl.load(row)
        tl.store(row, calls + 1)
        if calls % EVERY == 0:
            if CLOCK:
                tl.store(row + 4, tl.load(row + 4) + clock().to(tl.int64) - tl.load(row + 5))
            if HAS_NUM_REAL:
                num_ids = tl.minimum(num_ids, tl.load(num_real).to(tl.int32) * topk)
            ours, stock = tl.zeros([SLOTS], tl.int32), tl.zeros([SLOTS], tl.int32)
            for start in range(0, num_ids, BLOCK):
                at = start + tl.arange(0, BLOCK)
                e = tl.load(ids + at, mask=at < num_ids, other=-1).to(tl.int32)
                known = (e >= 0) & (e < num_experts)
                hashed = hashed_replica(e, at // topk, known, table, stride, count).to(tl.int32)
                served = tl.load(out + at, mask=known, other=-1).to(tl.int32)
                stock += tl.histogram(hashed, SLOTS, mask=known & (hashed >= 0) & (hashed < num_physical))
                ours += tl.histogram(served, SLOTS, mask=known & (served >= 0) & (served < num_physical))
            gpu = tl.arange(0, SLOTS) // slots_per_gpu
            tl.store(row + 1, tl.load(row + 1) + 1)
            tl.store(row + 2, tl.load(row + 2) + tl.max(tl.histogram(gpu, GPUS, mask=ours > 0), 0))
            tl.store(row + 3, tl.load(row + 3) + tl.max(tl.histogram(gpu, GPUS, mask=stock > 0), 0))

    return triton, begin, sample


class Counters:
    """One model's rows; its addresses stay, for captured graphs."""

    def __init__(self, layers: int, num_gpus: int, device: Any):
        self.num_gpus = num_gpus
        self.rows = torch.zeros(layers, WIDTH, dtype=torch.int64, device=device)

    def begin(self, layer: int) -> None:
        """Notes the time on the forward stream, before the mapping."""
        if self.rows.is_cuda:
            _kernels()[1][(1,)](self.rows[layer], BEGIN=BEGIN)

    def count(self, layer: int, ids, out, table, count, num_real, num_physical: int) -> None:
        """Looks at what was served for the logical `ids`, padding left out. Only enqueues."""
        if not ids.numel():
            return
        triton, _, sample = _kernels()
        sample[(1,)](
            ids.contiguous(), out, num_real, table, table.stride(0), count, self.rows[layer], ids.numel(), ids.shape[-1],
            count.shape[0], num_physical, num_physical // self.num_gpus, HAS_NUM_REAL=num_real is not None,
            CLOCK=self.rows.is_cuda, EVERY=EVERY, SLOTS=max(2, triton.next_power_of_2(num_physical)),
            GPUS=max(2, triton.next_power_of_2(self.num_gpus)), BLOCK=256,
        )  # fmt: skip


class Reading:
    """A copy of device tensors on its way to the host, on a stream of its own."""

    def __init__(self, tensors: list[Any]):
        self.hosts, self.event = [], None
        if tensors and tensors[0].is_cuda:
            stream = torch.cuda.Stream(tensors[0].device)
            stream.wait_stream(torch.cuda.current_stream(tensors[0].device))
            with torch.cuda.stream(stream):
                for tensor in tensors:
                    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                    self.hosts.append(host.copy_(tensor, non_blocking=True))
                self.event = torch.cuda.Event()
                self.event.record(stream)
        else:
            self.hosts = [tensor.clone() for tensor in tensors]

    def is_done(self) -> bool:
        return self.event is None or self.event.query()
