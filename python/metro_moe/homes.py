# SPDX-License-Identifier: Apache-2.0
"""The homes of a layer that names none, without the compiled library: docs/formats.md, "Homes".

    home = exact_homes(replica_to_expert, num_experts, slots_per_gpu=24)  # slot of each expert

NumPy alone, so that an engine's plugin can use it wherever it rearranges. `LayerPlacement.homes()` is the
same, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def exact_homes(
    replica_to_expert: Any,
    num_experts: int,
    replica_to_gpu: Any = None,
    *,
    slots_per_gpu: int | None = None,
    num_gpus: int | None = None,
) -> np.ndarray:
    """One slot per expert, int32: as few experts on the fullest GPU as the replicas allow.

    Give the GPU of each slot, or `slots_per_gpu` when every GPU has that many, in order. GPUs without slots
    need no mention: `num_gpus` is checked if it is given, and changes nothing. ValueError for an expert
    without a replica.
    """
    experts = _integers(replica_to_expert, "replica_to_expert", num_experts)
    if (replica_to_gpu is None) == (slots_per_gpu is None):
        raise ValueError("exact_homes needs either replica_to_gpu or slots_per_gpu")
    if replica_to_gpu is None:
        if slots_per_gpu < 1 or len(experts) % slots_per_gpu:
            raise ValueError(f"slots_per_gpu is {slots_per_gpu}, must divide the {len(experts)} replicas")
        gpus = np.arange(len(experts)) // slots_per_gpu
    else:
        gpus = _integers(replica_to_gpu, "replica_to_gpu", num_gpus)
        if len(gpus) != len(experts):
            raise ValueError(f"replica_to_gpu has {len(gpus)} entries, replica_to_expert has {len(experts)}")
    slots = _candidates(experts, gpus, num_experts)
    hosted: list[list[int]] = [[] for _ in range(int(gpus.max()) + 1 if len(gpus) else 0)]
    for expert, candidates in enumerate(slots):
        for gpu in candidates:
            hosted[gpu].append(expert)
    home = _least_first(slots, len(hosted))
    count = np.bincount(home, minlength=len(hosted)).tolist()
    _level(home, count, slots, hosted)
    return np.array([slots[expert][gpu] for expert, gpu in enumerate(home)], np.int32)


def _integers(values: Any, name: str, end: int | None) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise ValueError(f"{name} must be one-dimensional integers")
    if array.size and (array.min() < 0 or (end is not None and array.max() >= end)):
        bad = int(np.flatnonzero((array < 0) | (array >= (end if end is not None else array.max() + 1)))[0])
        raise ValueError(f"{name}[{bad}] is {array[bad]}, must be " + (">= 0" if end is None else f"0..{end - 1}"))
    return array.astype(np.int64)


def _candidates(experts: np.ndarray, gpus: np.ndarray, num_experts: int) -> list[dict[int, int]]:
    """For each expert its GPUs in ascending order, each with the expert's lowest slot there."""
    slots: list[dict[int, int]] = [{} for _ in range(num_experts)]
    order = np.argsort(gpus, kind="stable")
    for slot, expert, gpu in zip(order.tolist(), experts[order].tolist(), gpus[order].tolist()):
        slots[expert].setdefault(gpu, slot)
    for expert, candidates in enumerate(slots):
        if not candidates:
            raise ValueError(f"replica_to_expert has no replica of expert {expert}, every expert needs one")
    return slots


def _least_first(slots: list[dict[int, int]], num_gpus: int) -> list[int]:
    """The start: experts with the fewest GPUs first, then by id; the GPU with the fewest homes, ties to the lowest."""
    count = [0] * num_gpus
    home = [0] * len(slots)
    for expert in sorted(range(len(slots)), key=lambda expert: len(slots[expert])):
        gpu = home[expert] = min(slots[expert], key=count.__getitem__)
        count[gpu] += 1
    return home


def _level(home: list[int], count: list[int], slots: list[dict[int, int]], hosted: list[list[int]]) -> None:
    """Relieves the fullest GPUs, the lowest first, until one of them cannot be."""
    while True:
        most = max(count)
        for gpu in [gpu for gpu, homes in enumerate(count) if homes == most]:
            if not _relieve(gpu, most - 2, home, count, slots, hosted):
                return


def _relieve(gpu: int, room: int, home: list[int], count: list[int], slots: list[dict[int, int]], hosted: list[list[int]]) -> bool:
    """Moves homes along the first path, breadth first, to a GPU with at most `room` of them."""
    if min(count) > room:
        return False
    came: dict[int, tuple[int, int]] = {gpu: (-1, -1)}  # GPU -> the GPU that it was reached from, by which expert
    queue = [gpu]
    for at in queue:
        for expert in hosted[at]:
            if home[expert] != at:
                continue
            for to in slots[expert]:
                if to in came:
                    continue
                came[to] = (at, expert)
                if count[to] <= room:
                    count[to] += 1
                    count[gpu] -= 1
                    while to != gpu:
                        from_gpu, moved = came[to]
                        home[moved] = to
                        to = from_gpu
                    return True
                queue.append(to)
    return False
