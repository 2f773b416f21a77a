# SPDX-License-Identifier: Apache-2.0
"""Serves the answers of a router that keeps tables of its own, checked on the device against vLLM's.

A captured graph replays whatever the host has learnt since, so the check is in it: an id is served only if
the layer is `live` and the replica holds that expert in vLLM's tables now. Else vLLM's hash serves it, and
`faults[0]` (the layer is not live) or `faults[1]` (the router's table is stale) counts it.
"""

from __future__ import annotations

import functools

import torch


@functools.cache
def _kernel():
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["num_ids"], do_not_specialize_on_alignment=["ids", "count", "load", "live", "faults"])
    def serve(ids, chosen, out, num_real, table, stride, count, live, faults, load, record, num_ids, topk,
              num_experts, num_physical, HAS_NUM_REAL: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = at < num_ids
        row = at // topk
        source, real = at, inside
        if HAS_NUM_REAL:  # a padded row repeats a real one; the router left it out
            rows = tl.load(num_real).to(tl.int32)
            real = inside & (row < rows)
            folded = tl.where(real | (rows <= 0), row, row % tl.maximum(rows, 1))
            source = folded * topk + at % topk
        e = tl.load(ids + source, mask=inside, other=-1).to(tl.int32)
        own = tl.load(ids + at, mask=inside, other=-1).to(tl.int32)
        replica = tl.load(chosen + source, mask=inside, other=-1).to(tl.int64)
        known = inside & (e >= 0) & (e < num_experts) & (own >= 0)  # what vLLM masked stays masked
        replicas = tl.load(count + e, mask=known, other=0).to(tl.int32)
        entries = table + e.to(tl.int64) * stride
        held = tl.zeros([BLOCK], tl.int1)
        for r in range(0, tl.max(replicas, 0)):
            held = held | ((tl.load(entries + r, mask=known & (r < replicas), other=-2).to(tl.int64)) == replica)
        is_live = tl.load(live) != 0
        index = ((row.to(tl.int64) * 2654435769) & 0xFFFFFFFF) % tl.maximum(replicas, 1)
        stock = tl.load(entries + index, mask=known & (replicas > 0), other=-1).to(tl.int64)
        served = tl.where(held & is_live & known, replica, stock)
        tl.store(out + at, tl.where(known, served, -1), mask=inside)
        counted = real & (served >= 0) & (served < num_physical) & (tl.load(record) != 0)
        tl.atomic_add(load + served, 1, mask=counted)
        wrong = real & known & ((held == 0) | (is_live == 0))
        tl.atomic_add(faults + tl.where(is_live, 1, 0), tl.sum(wrong.to(tl.int64), 0))

    return triton, serve


def serve_checked(ids, chosen, load, table, count, record, num_real, live, faults):
    """The physical ids of `ids` [tokens, topk]: `chosen` where vLLM's tables agree, else vLLM's hash.

    `live` is one int32, `faults` two int64, on the device. Only enqueues; may be captured.
    """
    triton, serve = _kernel()
    out = torch.empty_like(ids)
    if ids.numel():
        serve[(triton.cdiv(ids.numel(), 256),)](
            ids, chosen, out, num_real, table, table.stride(0), count, live, faults, load, record, ids.numel(),
            ids.shape[-1], count.shape[0], load.shape[0], HAS_NUM_REAL=num_real is not None, BLOCK=256,
        )  # fmt: skip
    return out
