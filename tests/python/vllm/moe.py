# SPDX-License-Identifier: Apache-2.0
"""A small MoE layer over EP ranks, to see what a mapping does to outputs."""

import torch


def outputs(views, weights, physical_to_logical, num_gpus):
    """[tokens] of the layer: rank r computes the ids of its own slots as it sees them in views[r].

    Slots that hold the same expert have the same weights; so outputs depend on the mapping only if an id
    leads to a wrong expert, or ranks that see it differently compute it twice or not at all.
    """
    slots = len(physical_to_logical) // num_gpus
    random = torch.Generator().manual_seed(0)
    value = torch.randn(int(physical_to_logical.max()) + 1, generator=random, dtype=torch.float64)[physical_to_logical]
    parts = torch.zeros(num_gpus, *weights.shape, dtype=torch.float64)
    for rank, ids in enumerate(views):
        mine = (ids >= rank * slots) & (ids < (rank + 1) * slots)
        parts[rank] = torch.where(mine, weights * value[ids.long().clamp(min=0)], 0.0)
    return parts.sum(0).sum(1)  # over ranks first: one term each, so no rounding


def random_layer(random, num_experts, num_redundant):
    """Slots in any order, replicas on any GPU, one GPU twice included."""
    slots = [*range(num_experts), *(int(random.integers(num_experts)) for _ in range(num_redundant))]
    return [int(e) for e in random.permutation(slots)]
