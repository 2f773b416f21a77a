# SPDX-License-Identifier: Apache-2.0
"""The replica choice again, in plain torch and Python: the oracle of every other one, written apart from them."""

import torch


def tables(physical_to_logical, num_experts, width=16):
    """vLLM's logical_to_physical_map and logical_replica_count of one layer."""
    table = torch.full((num_experts, width), -1, dtype=torch.int64)
    count = torch.zeros(num_experts, dtype=torch.int64)
    for slot, expert in enumerate(physical_to_logical):
        table[expert, count[expert]] = slot
        count[expert] += 1
    return table, count


def choose(ids, table, count, policy, num_gpus, num_real=None):
    """(physical ids, load of each physical id): what the kernels must answer."""
    num_experts, num_physical = len(count), int(table.max()) + 1
    rows = len(ids) if num_real is None else max(0, min(len(ids), int(num_real)))
    replicas = [[int(s) for s in table[e, : count[e]]] for e in range(num_experts)]
    gpu = lambda slot: slot // (num_physical // num_gpus)  # noqa: E731
    chosen = {e: replicas[e][0] for e in range(num_experts)}
    if policy == "metro":
        active = {int(e) for e in ids[:rows].flatten() if 0 <= e < num_experts}
        activated = [0] * num_gpus
        for e in sorted(active, key=lambda e: (len({gpu(s) for s in replicas[e]}), e)):
            best = min({gpu(s) for s in replicas[e]}, key=lambda g: (activated[g], g))
            activated[best] += 1
            chosen[e] = next(s for s in replicas[e] if gpu(s) == best)
    out, load = torch.full_like(ids, -1), torch.zeros(num_physical, dtype=torch.int32)
    for row in range(len(ids)):
        source = row if row < rows or rows == 0 or policy == "hash" else row % rows
        for column in range(ids.shape[1]):
            e = 0 if policy != "hash" and num_real is not None and num_real < 0 else int(ids[source, column])
            if not 0 <= e < num_experts or (policy != "hash" and ids[row, column] < 0):
                continue  # masked by vLLM: neither mapped nor counted
            index = (row * 2654435769 & 0xFFFFFFFF) % int(count[e])
            out[row, column] = replicas[e][index] if policy == "hash" else chosen[e]
            if row < rows:
                load[out[row, column]] += 1
    return out, load


def first_replicas(ids, table, count, num_real=None):
    """As `choose`, under vLLM's own rule with replica counts of one: `home` in the plugin."""
    return choose(ids, table, torch.ones_like(count), "hash", 1, num_real)


def serve(ids, maps, chosen, num_real=None, candidates=None):
    """What `Router.serve_tensor` must answer; adds to the load, faults and checksum of `maps` (on the host).

    `chosen` is the router's replica of each expert of the batch, `candidates` all that it could choose.
    """
    rows = len(ids) if num_real is None else max(0, min(len(ids), num_real))
    num_experts, out = len(maps.num_replicas_of), torch.full_like(ids, -1)
    for at in range(ids.numel()):
        row, column = divmod(at, ids.shape[1])
        e = int(ids[row if row < rows or rows == 0 else row % rows, column])
        if not (0 <= e < num_experts and 0 <= int(ids[row, column]) < num_experts):
            continue
        listed = maps.expert_to_replicas[e, : maps.num_replicas_of[e]].tolist()
        could = [chosen.get(e)] if candidates is None else candidates[e]
        ours = bool(maps.is_live) and rows > 0 and all(slot in listed for slot in could)
        slot = chosen[e] if ours else listed[(row * 2654435769 & 0xFFFFFFFF) % len(listed)]
        out[row, column] = slot
        if row < rows:
            maps.load[slot] += bool(maps.is_recording)
            maps.faults[int(maps.is_live)] += not ours
    if maps.checksum is not None:
        from metro_moe.vllm import checksum

        checksum.add(maps.checksum, out, torch.tensor(rows))
    return out


def max_activated(physical, num_physical, num_gpus):
    """Most distinct physical ids on one GPU."""
    used = physical[physical >= 0].unique()
    return int(torch.bincount(used // (num_physical // num_gpus), minlength=num_gpus).max())
