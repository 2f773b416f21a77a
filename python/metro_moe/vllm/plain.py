# SPDX-License-Identifier: Apache-2.0
"""The rule of replica_choice.py on the host, in plain Python: the same answer, slowly.

For a rank whose kernels fail in a batch that other ranks map too: were it to serve vLLM's hash, some tokens
would be computed twice and others not at all.
"""

from __future__ import annotations

import torch


def choose(experts, replicas, num_gpus, slots_per_gpu):
    """{expert: replica} for the active `experts`: the greedy, ties to the lowest."""
    gpus = {e: sorted({slot // slots_per_gpu for slot in replicas[e]}) for e in experts}
    activated, chosen = [0] * num_gpus, {}
    for e in sorted(experts, key=lambda e: (len(gpus[e]), e)):
        best = min(gpus[e], key=lambda gpu: (activated[gpu], gpu))
        activated[best] += 1
        chosen[e] = next(slot for slot in replicas[e] if slot // slots_per_gpu == best)
    return chosen


def map_plain(topk_ids, load, table, count, record, num_real, policy, num_gpus):
    """As the op, for `home` and `metro`; waits for the device, so it cannot be captured."""
    ids, counts = topk_ids.cpu().tolist(), count.cpu().tolist()
    most, topk = max(counts), topk_ids.shape[1]
    replicas = [row[:n] for row, n in zip(table[:, :most].cpu().tolist(), counts)]
    told = len(ids) if num_real is None else int(num_real)
    real = ids[: max(0, told)]
    if told < 0:
        ids = [[0] * topk] * len(ids)
    elif told > 0:
        ids = [row if at < told else ids[at % told] for at, row in enumerate(ids)]
    chosen = {}
    if policy == "metro":
        active = {e for row in real for e in row if 0 <= e < len(counts)}
        chosen = choose(active, replicas, num_gpus, len(load) // num_gpus)
    out = [[chosen.get(e, replicas[e][0]) if 0 <= e < len(counts) else -1 for e in row] for row in ids]
    result = torch.tensor(out, dtype=topk_ids.dtype, device=topk_ids.device)
    if bool(record):
        used = result[: len(real)].flatten()
        used = used[used >= 0].long()
        load.index_add_(0, used, torch.ones_like(used, dtype=load.dtype))
    return result
