# SPDX-License-Identifier: Apache-2.0
"""Which replica serves an expert, for vLLM's EPLB mapping: `hash`, `home` or `metro`. Triton alone.

    ids = map_to_physical_and_record(topk_ids, load, table, count, record, policy="metro", num_gpus=8)

In decode an expert costs the read of its weights, however few its tokens: what counts is how many
replicas the busiest GPU activates. `hash` spreads the tokens of an expert over all its replicas, `home`
uses its first one alone, `metro` one that is chosen for the batch: the greedy of the METRO paper, experts
with the fewest candidate GPUs first, each on the GPU with the fewest activated, ties to the lowest.
All ranks that see the same batch choose alike. Only enqueues; may be captured in a CUDA graph.

The tables are vLLM's: `logical_to_physical_map` [experts, >= replicas], `logical_replica_count`
[experts]; GPU = physical id // (physical ids / num_gpus). `home` and `metro` let a padded row repeat a
real one, so padding activates nothing (a negative number: all name expert 0); `hash` is vLLM's rule.
Ids that are no expert become -1, in padded rows too. `batch_ids` are ids of the whole batch, where `topk_ids` are a part.
"""

import functools

POLICIES = ("hash", "home", "metro")
MAX_EXPERTS, MAX_GPUS = 1024, 64


@functools.cache
def hash_rule():
    """vLLM's own rule, for kernels: the replica of expert `e` that serves a row; -1 where `known` is not."""
    global tl  # Triton's interpreter sees no closure of a function that kernels call
    import triton
    import triton.language as tl

    @triton.jit
    def rule(e, row, known, table, stride, count):
        replicas = tl.maximum(tl.load(count + e, mask=known, other=1).to(tl.int64), 1)
        index = ((row.to(tl.int64) * 2654435769) & 0xFFFFFFFF) % replicas
        return tl.load(table + e.to(tl.int64) * stride + index, mask=known, other=-1)

    return rule


@functools.cache
def _kernels():
    import triton
    import triton.language as tl

    global hashed_replica
    hashed_replica = hash_rule()

    # Else batches and layers would compile anew, in the worst case while a graph is captured.
    jit = triton.jit(do_not_specialize=["num_ids"], do_not_specialize_on_alignment=["ids", "count", "load"])

    @jit
    def solve(ids, num_real, table, stride, count, chosen, keys, masks, num_ids, topk, num_experts, slots_per_gpu,
              HAS_NUM_REAL: tl.constexpr, EXPERTS: tl.constexpr, GPUS: tl.constexpr, BLOCK: tl.constexpr):
        """chosen[e] = the replica of each expert. One program; `keys` and `masks` are its scratch."""
        expert, gpu = tl.arange(0, EXPERTS), tl.arange(0, GPUS)
        if HAS_NUM_REAL:
            num_ids = tl.minimum(num_ids, tl.load(num_real).to(tl.int32) * topk)
        tokens = tl.zeros([EXPERTS], tl.int32)
        for start in range(0, num_ids, BLOCK):
            at = start + tl.arange(0, BLOCK)
            e = tl.load(ids + at, mask=at < num_ids, other=-1).to(tl.int32)
            tokens += tl.histogram(e, EXPERTS, mask=(e >= 0) & (e < num_experts))

        replicas = tl.load(count + expert, mask=expert < num_experts, other=0).to(tl.int32)
        row = table + expert.to(tl.int64) * stride
        home = tl.load(row, mask=replicas > 0, other=0).to(tl.int32) // slots_per_gpu
        mask = tl.zeros([EXPERTS], tl.int64)  # bit g: there is a replica on GPU g
        choices = tl.zeros([EXPERTS], tl.int32)
        most = tl.max(replicas, 0)
        for r in range(0, most):
            at = tl.load(row + r, mask=r < replicas, other=0).to(tl.int32) // slots_per_gpu
            bit = tl.where(r < replicas, tl.full([EXPERTS], 1, tl.int64) << at.to(tl.int64), 0)
            choices += ((mask & bit) != bit).to(tl.int32)
            mask = mask | bit

        # Experts without a choice are charged at once, the others one by one in the order of their keys.
        activated = tl.histogram(home, GPUS, mask=(tokens > 0) & (choices == 1))
        waiting = (tokens > 0) & (choices > 1)
        key = tl.where(waiting, choices * EXPERTS + expert, (GPUS + 1) * EXPERTS + expert)
        tl.store(keys + expert, tl.sort(key))
        tl.store(masks + expert, mask)
        tl.store(chosen + expert, home, mask=expert < num_experts)
        tl.debug_barrier()
        for i in range(0, tl.sum(waiting.to(tl.int32), 0)):
            e = tl.load(keys + i) % EXPERTS
            may = ((tl.load(masks + e) >> gpu.to(tl.int64)) & 1) != 0
            best = tl.min(tl.where(may, activated * GPUS + gpu, 2**30), 0) % GPUS
            activated += (gpu == best).to(tl.int32)
            tl.store(chosen + e, best)
        tl.debug_barrier()
        best = tl.load(chosen + expert, mask=expert < num_experts, other=0)
        replica = tl.full([EXPERTS], -1, tl.int32)
        for r in range(0, most):
            at = tl.load(row + r, mask=r < replicas, other=0).to(tl.int32)
            replica = tl.where((replica < 0) & (r < replicas) & (at // slots_per_gpu == best), at, replica)
        tl.debug_barrier()
        tl.store(chosen + expert, replica, mask=expert < num_experts)

    @jit
    def apply(ids, out, num_real, table, stride, count, chosen, load, record, num_ids, topk, num_experts, num_physical,
              HAS_NUM_REAL: tl.constexpr, POLICY: tl.constexpr, BLOCK: tl.constexpr):
        """Maps and counts each id; the sums of integers do not depend on their order."""
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = at < num_ids
        row = at // topk
        source, real = at, inside
        if HAS_NUM_REAL:
            rows = tl.load(num_real).to(tl.int32)
            real = inside & (row < rows)
            if POLICY != "hash":
                folded = tl.where(real | (rows <= 0), row, row % tl.maximum(rows, 1))
                source = folded * topk + at % topk
        e = tl.load(ids + source, mask=inside, other=-1).to(tl.int32)
        if HAS_NUM_REAL and POLICY != "hash":
            own = tl.load(ids + at, mask=inside, other=-1).to(tl.int32)
            e = tl.where(own < 0, -1, tl.where(rows < 0, 0, e))  # what vLLM masked stays masked
        known = inside & (e >= 0) & (e < num_experts)
        if POLICY == "metro":
            replica = tl.load(chosen + e, mask=known, other=-1).to(tl.int64)
        elif POLICY == "hash":
            replica = hashed_replica(e, row, known, table, stride, count)
        else:
            replica = tl.load(table + e.to(tl.int64) * stride, mask=known, other=-1)
        tl.store(out + at, replica, mask=inside)
        counted = real & (replica >= 0) & (replica < num_physical) & (tl.load(record) != 0)
        tl.atomic_add(load + replica, 1, mask=counted)

    return triton, solve, apply


def map_to_physical_and_record(topk_ids, expert_load_view, logical_to_physical_map, logical_replica_count,
                               record_enabled, num_unpadded_tokens=None, *, policy="metro", num_gpus=1,
                               batch_ids=None):
    """The physical ids of `topk_ids` [tokens, topk], of its type; adds real tokens to `expert_load_view`."""
    import torch

    num_experts, num_physical = logical_replica_count.shape[0], expert_load_view.shape[0]
    if policy not in POLICIES or not 0 < num_gpus <= MAX_GPUS or num_physical % num_gpus:
        raise ValueError(f"{policy!r} for {num_physical} replicas on {num_gpus} GPUs: must be one of {POLICIES}, "
                         f"up to {MAX_GPUS}, and divide")
    if policy == "metro" and num_experts > MAX_EXPERTS:
        raise ValueError(f"{num_experts} experts, must be at most {MAX_EXPERTS} for metro")
    ids, topk = topk_ids.contiguous(), topk_ids.shape[-1]
    out = torch.empty_like(ids)
    if ids.numel() == 0:
        return out
    triton, solve, apply = _kernels()
    table, count = logical_to_physical_map, logical_replica_count
    experts, padded = triton.next_power_of_2(num_experts), num_unpadded_tokens is not None
    chosen = None
    if policy == "metro":
        scratch = torch.empty(3, experts, dtype=torch.int64, device=ids.device)
        chosen = scratch[0].view(torch.int32)
        whole = ids if batch_ids is None else batch_ids.contiguous()
        solve[(1,)](whole, num_unpadded_tokens, table, table.stride(0), count, chosen, scratch[1], scratch[2],
                    whole.numel(), topk, num_experts, num_physical // num_gpus,
                    HAS_NUM_REAL=padded and batch_ids is None, EXPERTS=experts,
                    GPUS=max(2, triton.next_power_of_2(num_gpus)), BLOCK=256, num_warps=1 if experts <= 256 else 4)
    apply[(triton.cdiv(ids.numel(), 256),)](
        ids, out, num_unpadded_tokens, table, table.stride(0), count, chosen, expert_load_view, record_enabled,
        ids.numel(), topk, num_experts, num_physical, HAS_NUM_REAL=padded, POLICY=policy, BLOCK=256)
    return out
