# SPDX-License-Identifier: Apache-2.0
"""`metro` where each rank sees a part of the batch: ranks tell each other which experts are active.

One bit an expert: ceil(E / 32) words a rank, gathered over the EP group on the forward stream (captured with
it), and or-ed. What is active decides the choice, so every rank chooses alike; each then maps its own rows.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch


@functools.cache
def _kernels():
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["num_ids"], do_not_specialize_on_alignment=["ids"])
    def pack(ids, num_real, words, num_ids, topk, num_experts, HAS_NUM_REAL: tl.constexpr, WORDS: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
        if HAS_NUM_REAL:
            num_ids = tl.minimum(num_ids, tl.load(num_real).to(tl.int32) * topk)
        tokens = tl.zeros([WORDS * 32], tl.int32)
        for start in range(0, num_ids, BLOCK):
            at = start + tl.arange(0, BLOCK)
            e = tl.load(ids + at, mask=at < num_ids, other=-1).to(tl.int32)
            tokens += tl.histogram(e, WORDS * 32, mask=(e >= 0) & (e < num_experts))
        bits = tl.reshape((tokens > 0).to(tl.int64), [WORDS, 32]) << tl.arange(0, 32)[None, :].to(tl.int64)
        tl.store(words + tl.arange(0, WORDS), tl.sum(bits, 1).to(tl.int32))

    @triton.jit
    def unpack(words, out, num_ranks, num_experts, WORDS: tl.constexpr, EXPERTS: tl.constexpr):
        expert = tl.arange(0, EXPERTS)
        active = tl.zeros([EXPERTS], tl.int32)
        for rank in range(0, num_ranks):
            active = active | ((tl.load(words + rank * WORDS + expert // 32) >> (expert % 32)) & 1)
        tl.store(out + expert, tl.where((active != 0) & (expert < num_experts), expert, -1))

    return triton, pack, unpack


def active_words(topk_ids, num_real, num_experts):
    """int32 [1, words]: bit e % 32 of word e // 32 is set where a real row has expert e."""
    triton, pack, _ = _kernels()
    ids = topk_ids.contiguous()
    words = max(1, triton.next_power_of_2(num_experts) // 32)
    out = torch.empty((1, words), dtype=torch.int32, device=ids.device)
    pack[(1,)](ids, num_real, out, ids.numel(), ids.shape[-1], num_experts, HAS_NUM_REAL=num_real is not None,
               WORDS=words, BLOCK=256)  # fmt: skip
    return out


def active_ids(words, num_experts):
    """int32 [experts, 1]: the experts that are active on any rank, -1 for the others."""
    _, _, unpack = _kernels()
    ranks, width = words.shape
    out = torch.empty((width * 32, 1), dtype=torch.int32, device=words.device)
    unpack[(1,)](words.contiguous(), out, ranks, num_experts, WORDS=width, EXPERTS=width * 32)
    return out


def exchange(topk_ids, num_real, num_experts, group: Any):
    """`active_ids` of the whole batch. A collective of the EP group: every rank must come here."""
    return active_ids(group.all_gather(active_words(topk_ids, num_real, num_experts), dim=0), num_experts)


def busiest(mean: float, num_gpus: int) -> float:
    """About the largest of num_gpus counts that scatter around `mean`."""
    return mean + math.sqrt(2 * mean * math.log(num_gpus)) if num_gpus > 1 else mean


def modelled_gain_us(num_tokens: int, topk: int, num_experts: int, num_physical: int, num_gpus: int, expert_us: float):
    """What `metro` saves a layer against vLLM's hash, for uniformly random experts."""
    missed = (1 - topk / num_experts) ** num_tokens
    active = num_experts * (1 - missed)
    copies = num_physical / num_experts  # of each expert; its tokens split over them
    replicas = num_physical * (1 - (1 - topk / num_experts / copies) ** num_tokens)
    stock = min(busiest(replicas / num_gpus, num_gpus), num_physical / num_gpus)
    least = active / num_gpus if copies > 1 else min(busiest(active / num_gpus, num_gpus), num_experts / num_gpus)
    return max(0.0, stock - math.ceil(least)) * expert_us


def expert_microseconds(layer: Any) -> float:
    """The time to read one expert's weights, from the layer's own tensors and the device's memory."""
    size = 0
    for weight in layer.routed_experts.get_expert_weights():
        size += weight[0].numel() * weight.element_size()
    bandwidth = 3.35e12
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        clock, width = getattr(properties, "memory_clock_rate", 0), getattr(properties, "memory_bus_width", 0)
        bandwidth = clock * 1e3 * 2 * width / 8 or bandwidth
    return size / bandwidth * 1e6
