# SPDX-License-Identifier: Apache-2.0
"""What one rank of N is told, as arrays: batches of a trace, placements, and which slots are whose. NumPy alone.

Shapes: a trace is [requests, steps, layers, topk]; batches are [batches, layers, rows, topk], the rows of all
ranks together; physical ids count the slots of rank 0, then those of rank 1, and so on.
"""

import json
import pathlib

import numpy as np

# us to start and GB/s of NCCL on 8 Hopper GPUs, and the share of the start that vLLM's own take: docs/cost-model.md.
ALL_GATHER, REDUCE_SCATTER, START_SHARE = (12.74, 303.2), (11.5, 306.2), 0.49


def read_trace(path):
    """(ids, number of experts) of a decode trace whose requests all have as many steps (data/README.md)."""
    path = pathlib.Path(path)
    meta = json.loads(path.with_suffix(".json").read_text())
    ids = np.load(path)
    lengths = set(meta["sequence_lengths"])
    if len(lengths) != 1:
        raise ValueError(f"{path}: requests have {sorted(lengths)} steps, must all have the same number")
    steps = lengths.pop()
    return ids.reshape(len(ids) // steps, steps, *ids.shape[1:]).astype(np.int32), meta["num_experts"]


def halves(trace):
    """(requests that placements may know, requests that are served): every other one."""
    return trace[0::2], trace[1::2]


def layer_loads(trace, num_experts, num_layers):
    """[layers, experts] tokens of each expert; a model's layer l is served by the trace's l % layers."""
    loads = [np.bincount(trace[:, :, layer].ravel(), minlength=num_experts) for layer in range(trace.shape[2])]
    return np.array([loads[layer % len(loads)] for layer in range(num_layers)])


def draw_batches(trace, ranks, requests, drafts, num_layers, num_batches, seed=0):
    """Rows are requests x (1 + drafts) of rank 0, then of rank 1, ...; drafted rows are the next steps of the request.

    Where a model has more layers than the trace, each further round of the trace's layers serves other requests.
    """
    generator = np.random.default_rng([seed, ranks, requests, drafts])
    num_requests, steps, layers, topk = trace.shape
    rows, length = ranks * requests * (1 + drafts), 1 + drafts
    batches = np.empty((num_batches, num_layers, rows, topk), np.int32)
    for batch in range(num_batches):
        for start in range(0, num_layers, layers):
            few = ranks * requests <= num_requests
            who = generator.choice(num_requests, ranks * requests, replace=not few)
            first = generator.integers(0, steps - length + 1, ranks * requests)
            when = first[:, None] + np.arange(length)
            ids = trace[who[:, None], when].reshape(rows, layers, topk)
            used = min(layers, num_layers - start)
            batches[batch, start : start + used] = ids[:, :used].swapaxes(0, 1)
    return batches


def logical_tables(physical_to_logical, num_experts, width, home=None):
    """vLLM's logical_to_physical_map [layers, experts, width] (-1 padded) and logical_replica_count.

    Replicas are in the order of their slots, as vLLM has them, but for `home` [layers, experts], a slot that comes first.
    """
    physical_to_logical = np.asarray(physical_to_logical)
    layers = len(physical_to_logical)
    table = np.full((layers, num_experts, width), -1, np.int64)
    count = np.zeros((layers, num_experts), np.int64)
    for layer in range(layers):
        for slot, expert in enumerate(physical_to_logical[layer]):
            table[layer, expert, count[layer, expert]] = slot
            count[layer, expert] += 1
    if (count == 0).any():
        raise ValueError("an expert has no slot")
    if home is not None:
        home = np.asarray(home)[:, :, None]
        if not (table == home).any(axis=2).all():
            raise ValueError("a home is no slot of its expert")
        at = (table == home).argmax(axis=2)[:, :, None]
        np.put_along_axis(table, at, table[:, :, :1], axis=2)
        table[:, :, :1] = home
    return table, count


def count_activated(physical, num_physical, ranks):
    """[batches, layers, ranks] slots that have a token; ids below 0 are no slot."""
    batches, layers = physical.shape[:2]
    flat = physical.reshape(batches * layers, -1)
    hit = np.zeros((batches * layers, num_physical + 1), bool)
    hit[np.arange(len(flat))[:, None], np.where(flat < 0, num_physical, flat)] = True
    return hit[:, :num_physical].reshape(batches, layers, ranks, -1).sum(axis=3)


def busiest_ranks(activated):
    """[batches, layers] the rank that the others wait for in each layer; ties to the lowest."""
    return activated.argmax(axis=2)


def expert_maps(rank, num_physical, ranks, num_batches, num_layers):
    """vLLM's expert_map for each batch and layer: a slot's place on `rank`, or -1 where another rank has it.

    `rank` is one for all, or [batches, layers]. Tokens of slots at -1 are dropped, as expert parallelism does.
    """
    local = num_physical // ranks
    rank = np.broadcast_to(np.asarray(rank), (num_batches, num_layers))[:, :, None]
    slot = np.arange(num_physical)
    return np.where(slot // local == rank, slot % local, -1).astype(np.int32)


def communication_ms(rows, hidden, num_layers):
    """All-gather and reduce-scatter of bf16 rows in every layer, from the table, not measured here."""
    us = sum(START_SHARE * start + rows * hidden * 2 / (rate * 1e3) for start, rate in (ALL_GATHER, REDUCE_SCATTER))
    return num_layers * us / 1e3


def cells(requests, drafts):
    """(requests a GPU, draft tokens), what matters most first: no drafts, and many requests."""
    return [(b, s) for s in sorted(drafts, key=lambda s: (s != 0, -s)) for b in sorted(requests, reverse=True)]
