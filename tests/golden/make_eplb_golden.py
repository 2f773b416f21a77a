#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes eplb_golden.json: what EPLB answers, worked out independently of the C++.

    python3 make_eplb_golden.py > eplb_golden.json

Follows the rules of DeepSeek's EPLB in NumPy float32, one plain loop a rule, no heaps. Needs NumPy.
"""

import json
import sys

import numpy as np

F32 = np.float32


def pack(weight, num_packs, dtype):
    """Heaviest first (stable), each to the lightest pack that has room."""
    n = len(weight)
    if n == num_packs:
        return np.arange(n), np.zeros(n, int)
    room = n // num_packs
    total = np.zeros(num_packs, dtype)
    size = np.zeros(num_packs, int)
    where = np.empty(n, int)
    rank = np.empty(n, int)
    for i in np.argsort(-weight, kind="stable"):
        p = int(np.argmin(np.where(size < room, total, dtype(np.inf))))
        where[i], rank[i] = p, size[p]
        total[p] = dtype(total[p] + weight[i])
        size[p] += 1
    return where, rank


def replicate(weight, num_copies, dtype):
    of = list(range(len(weight)))
    count = np.ones(len(weight), dtype)
    while len(of) < num_copies:
        hottest = int(np.argmax((weight / count).astype(dtype)))
        of.append(hottest)
        count[hottest] += 1
    return np.array(of), count


def eplb(load, replicas, groups, nodes, gpus, dtype=F32):
    weight = np.asarray(load, np.float64).astype(dtype)
    if groups % nodes != 0:
        groups = nodes = 1
    group_size = len(weight) // groups
    sums = np.zeros(groups, dtype)
    for g in range(groups):
        for w in weight[g * group_size : (g + 1) * group_size]:
            sums[g] = dtype(sums[g] + w)
    node_of, rank = pack(sums, nodes, dtype)
    order = np.argsort(node_of * (groups // nodes) + rank)  # groups in node order
    experts = (order[:, None] * group_size + np.arange(group_size)).reshape(nodes, -1)
    slots = []
    for members in experts:
        mine = weight[members]
        of, count = replicate(mine, replicas // nodes, dtype)
        gpu, rank = pack((mine / count).astype(dtype)[of], gpus // nodes, dtype)
        slots.extend(members[of[np.lexsort((rank, gpu))]])
    return [int(e) for e in slots]


def splitmix(seed):
    """The generator of src/core/rng.hpp, so that large loads need not be stored."""
    mask = (1 << 64) - 1

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    state = mix(seed)
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        yield mix(state)


def fnv1a(values):
    hashed = 0xCBF29CE484222325
    for v in values:
        hashed = ((hashed ^ v) * 0x100000001B3) & ((1 << 64) - 1)
    return hashed


# (experts, replicas, groups, nodes, gpus)
SHAPES = [
    (12, 16, 4, 2, 8), (12, 16, 1, 1, 8), (12, 24, 4, 4, 8), (12, 12, 3, 2, 4), (8, 8, 1, 1, 8),
    (8, 16, 1, 1, 8), (8, 24, 2, 2, 4), (16, 20, 4, 2, 4), (16, 24, 8, 4, 8), (16, 32, 2, 1, 4),
    (6, 8, 3, 2, 4), (5, 10, 1, 1, 5), (7, 9, 1, 1, 3), (1, 4, 1, 1, 2), (32, 48, 8, 2, 16),
    (64, 80, 8, 4, 16), (64, 96, 1, 1, 16),
]  # fmt: skip


def cases():
    rng = np.random.default_rng(20261124)
    kinds = {
        "ties": lambda n: rng.integers(0, 4, n),
        "zeros": lambda n: rng.integers(0, 50, n) * rng.integers(0, 2, n),
        "tokens": lambda n: rng.integers(0, 5000, n),
        "all zero": lambda n: np.zeros(n, int),
        "skewed": lambda n: np.floor(20 * rng.lognormal(0, 1.5, n)).astype(int),
    }
    for shape in SHAPES:
        for kind, make in kinds.items():
            yield kind, shape, make(shape[0]).tolist()
    # Where float32 rounds: sums and quotients that double would keep apart. Group sums stay
    # exact (one group, or one expert a group), as the order of a float32 sum is not specified.
    for experts, replicas, groups, nodes, gpus in [(16, 24, 1, 1, 4), (16, 24, 16, 4, 8),
                                                   (12, 20, 1, 1, 2), (32, 40, 1, 1, 4)]:  # fmt: skip
        for _ in range(6):
            load = 2**24 + rng.integers(0, 5, experts)
            yield "beyond 2^24", (experts, replicas, groups, nodes, gpus), load.tolist()
            yield "fractions", (experts, replicas, groups, nodes, gpus), [
                round(float(x), 3) for x in rng.random(experts)
            ]


def large():
    """58 layers x 256 experts of loads below 1000 from splitmix; the slots as a hash per layer."""
    for groups, nodes in ((1, 1), (8, 4)):
        bits = splitmix(58)
        hashes = []
        for _ in range(58):
            load = [(next(bits) >> 32) * 1000 >> 32 for _ in range(256)]
            hashes.append(format(fnv1a(eplb(load, 320, groups, nodes, 32)), "016x"))
        yield {"groups": groups, "nodes": nodes, "hashes": hashes}


def main():
    rows, differ = [], 0
    for kind, shape, load in cases():
        experts, replicas, groups, nodes, gpus = shape
        slots = eplb(load, replicas, groups, nodes, gpus)
        differ += slots != eplb(load, replicas, groups, nodes, gpus, np.float64)
        rows.append({"kind": kind, "shape": shape, "load": load, "slots": slots})
    print(f"{len(rows)} cases; double instead of float32 changes {differ}", file=sys.stderr)
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    big = ",\n".join(json.dumps(row, separators=(",", ":")) for row in large())
    print(f'{{"cases":[\n{text}\n],"large":[\n{big}\n]}}')


if __name__ == "__main__":
    main()
