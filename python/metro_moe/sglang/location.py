# SPDX-License-Identifier: Apache-2.0
"""Placements in the form of SGLang's --init-expert-location."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np

from metro_moe._metro import LayerPlacement, Placement
from metro_moe.errors import InfeasibleError, InputError

_KEY = "physical_to_logical_map"


def expert_location(placement: Placement, *, layers: int | None = None, first_layer: int = 0) -> dict[str, Any]:
    """The placement as SGLang's dictionary {"physical_to_logical_map": [layers, replicas]}.

    SGLang counts every layer of the model: `layers` in all, `first_layer` dense ones before the MoE
    layers; the others get the identity, which it never looks at. It knows equal, contiguous slots per
    GPU only. Homes and shares are not carried over.
    """
    rows = []
    for index, layer in enumerate(placement.layers):
        slots, rest = divmod(layer.num_replicas, layer.num_gpus)
        if rest or (layer.replica_to_gpu != np.arange(layer.num_replicas) // max(slots, 1)).any():
            raise InfeasibleError(f"layer {index}: SGLang needs the GPUs to share the slots equally, in order")
        rows.append(layer.replica_to_expert.tolist())
    if len({len(row) for row in rows}) > 1:
        raise InfeasibleError("SGLang needs the same number of slots in every layer")
    total = len(rows) + first_layer if layers is None else layers
    if first_layer < 0 or total < first_layer + len(rows):
        raise InputError(f"{len(rows)} MoE layers after {first_layer} do not fit in {total} layers")
    idle = [slot % placement.num_experts for slot in range(len(rows[0]))]
    after = total - first_layer - len(rows)
    return {_KEY: [idle] * first_layer + rows + [idle] * after}


def write_expert_location(
    placement: Placement, path: str | os.PathLike[str], *, layers: int | None = None, first_layer: int = 0
) -> None:
    """Writes `expert_location` as a .json file, by one atomic rename."""
    target = pathlib.Path(path)
    if target.suffix != ".json":
        raise InputError(f"{target}: must end in .json, SGLang tells the format by the name")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(expert_location(placement, layers=layers, first_layer=first_layer)) + "\n")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_expert_location(path: str | os.PathLike[str], num_gpus: int) -> Placement:
    """The placement in a .json file of SGLang's; it names no homes, so they are exact."""
    try:
        location = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(location, dict) or _KEY not in location:
        raise InputError(f"{path}: has no {_KEY}")
    try:
        rows = np.asarray(location[_KEY])
    except ValueError as error:
        raise InputError(f"{path}: {_KEY} has rows of different lengths") from error
    if rows.ndim != 2 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise InputError(f"{path}: {_KEY} must be integers [layers, replicas]")
    try:
        num_experts = int(rows.max()) + 1
        return Placement([LayerPlacement(row, num_experts, num_gpus) for row in rows])
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: {error}") from error
