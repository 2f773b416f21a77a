# SPDX-License-Identifier: Apache-2.0
"""`metro` for data parallelism that gathers: the choice is made where every rank holds the whole batch.

Before the gather each rank maps its own rows to `home`, whose padded rows repeat real ones. After it, the
physical ids are turned back into experts and a replica is chosen for the batch. Where the second step does
not come, `home` stands: at no time is there an id that the experts could not serve. Ranks without requests
run the same layers on padding, so they join the gather as in stock vLLM.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch

from metro_moe.vllm import seams


@functools.cache
def _kernel():
    import triton
    import triton.language as tl

    @triton.jit(do_not_specialize=["num_ids"], do_not_specialize_on_alignment=["ids", "expert_of"])
    def to_logical(ids, out, expert_of, num_ids, num_physical, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        slot = tl.load(ids + at, mask=at < num_ids, other=-1).to(tl.int64)
        known = (slot >= 0) & (slot < num_physical)
        tl.store(out + at, tl.load(expert_of + slot, mask=known, other=-1), mask=at < num_ids)

    return triton, to_logical


def to_logical(physical_ids, physical_to_logical):
    """The experts [tokens, topk] that the replicas hold; -1 stays."""
    triton, kernel = _kernel()
    ids = physical_ids.contiguous()
    out = torch.empty_like(ids)
    if ids.numel():
        kernel[(triton.cdiv(ids.numel(), 256),)](
            ids, out, physical_to_logical, ids.numel(), physical_to_logical.shape[0], BLOCK=256
        )
    return out


class Gather:
    """Carries a layer from the mapping call to the `prepare` that gathers its batch."""

    def __init__(self, fail: Callable[[Exception], None]):
        self.fail = fail
        self.pending: tuple[int, Callable[[Any], Any]] | None = None

    def bind(self, patches: seams.Patches) -> None:
        owner = getattr(importlib.import_module(seams.GATHER_MODULE), seams.GATHER_CLASS, None)
        if owner is None:
            raise seams.Unsupported(f"{seams.GATHER_MODULE} has no {seams.GATHER_CLASS}")
        seams.check_parameters(owner.prepare, ["a1", "topk_weights", "topk_ids"])

        def make(stock):
            def prepare(this, a1, topk_weights, topk_ids, *rest, **more):
                waiting, self.pending = self.pending, None
                result = stock(this, a1, topk_weights, topk_ids, *rest, **more)
                if waiting is None or waiting[0] != len(topk_ids):
                    return result
                try:
                    *before, gathered, weights = result
                    return (*before, waiting[1](gathered), weights)
                except Exception as error:
                    self.fail(error)
                    return result

            return prepare

        patches.wrap(owner, "prepare", make)
