# SPDX-License-Identifier: Apache-2.0
"""TensorRT-LLM: placements for its MoE load balancer, and the tables its kernels route by.

    metro_moe.tensorrt_llm.write_config(placement, "moe_load_balancer.yaml", first_layer=3)

`moe_config: load_balancer:` of the server's options names the file. With `layer_updates_per_iter`
0 the engine keeps the placement and routes round-robin over replicas; it has no other policy, so what
carries over is the placement alone.

A placement over sharded groups becomes `moe_expert_parallel_size` x `moe_tensor_parallel_size`: `format_options`
gives the server's options for it, `ranks_of_group` who is in a group.
"""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metro_moe._metro import LayerPlacement, Placement
from metro_moe.errors import InfeasibleError, InputError


def _check_slots(layer: LayerPlacement, name: str) -> None:
    slots, rest = divmod(layer.num_replicas, layer.num_gpus)
    if rest or (layer.replica_to_gpu != np.arange(layer.num_replicas) // max(slots, 1)).any():
        raise InfeasibleError(f"{name}: TensorRT-LLM needs the GPUs to share the slots equally, in order")


def initial_global_assignments(placement: Placement, *, first_layer: int = 0) -> dict[int, list[int]]:
    """{layer of the model: [expert of each slot]}; `first_layer` is the model's first MoE layer."""
    if first_layer < 0:
        raise InputError(f"first_layer is {first_layer}, must be >= 0")
    for index, layer in enumerate(placement.layers):
        _check_slots(layer, f"layer {index}")
    if len({layer.num_replicas for layer in placement.layers}) > 1:
        raise InfeasibleError("TensorRT-LLM needs the same number of slots in every layer")
    return {first_layer + i: layer.replica_to_expert.tolist() for i, layer in enumerate(placement.layers)}


def format_config(placement: Placement, *, first_layer: int = 0, layer_updates_per_iter: int = 0) -> str:
    """The load balancer's YAML: num_slots, initial_global_assignments, layer_updates_per_iter."""
    if layer_updates_per_iter < 0:
        raise InputError(f"layer_updates_per_iter is {layer_updates_per_iter}, must be >= 0")
    assignments = initial_global_assignments(placement, first_layer=first_layer)
    lines = [f"num_slots: {placement.layers[0].num_replicas}", "initial_global_assignments:"]
    lines += [f"  {layer}: {experts}" for layer, experts in assignments.items()]
    lines.append(f"layer_updates_per_iter: {layer_updates_per_iter}")
    return "\n".join(lines) + "\n"


def format_options(placement: Placement, *, load_balancer: str = "") -> str:
    """The server's options for the placement's GPUs and groups, as YAML; `load_balancer` names the file of
    `write_config`, where the placement has replicas."""
    groups, shards = placement.num_gpus, placement.shards
    lines = [f"tensor_parallel_size: {groups * shards}"]
    lines += [f"moe_expert_parallel_size: {groups}", f"moe_tensor_parallel_size: {shards}"]
    if load_balancer:
        # A YAML string in single quotes, whatever is in it.
        lines += ["moe_config:", "  load_balancer: '" + load_balancer.replace("'", "''") + "'"]
    return "\n".join(lines) + "\n"


def ranks_of_group(placement: Placement, group: int) -> list[int]:
    """The engine's ranks that share the experts of a group, in the order of their shards: it numbers the groups
    first, so neighbours are of different groups."""
    if not 0 <= group < placement.num_gpus:
        raise InputError(f"group is {group}, must be 0..{placement.num_gpus - 1}")
    return [group + shard * placement.num_gpus for shard in range(placement.shards)]


def write_config(
    placement: Placement,
    path: str | os.PathLike[str],
    *,
    first_layer: int = 0,
    layer_updates_per_iter: int = 0,
) -> None:
    """Writes `format_config`, by one atomic rename."""
    text = format_config(placement, first_layer=first_layer, layer_updates_per_iter=layer_updates_per_iter)
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class ReplicaTables(NamedTuple):
    """One layer's replicas in rows by expert, as the engine's routing kernels read them (int32)."""

    expert_replica_count: npt.NDArray[np.int32]
    """[experts]"""
    expert_replica_start_offset: npt.NDArray[np.int32]
    """[experts] where an expert's slots begin in global_slot_ids"""
    global_slot_ids: npt.NDArray[np.int32]
    """[slots] grouped by expert, ascending within one"""


def replica_tables(layer: LayerPlacement) -> ReplicaTables:
    """The layer's tables; `global_slot_ids[start[e] : start[e] + count[e]]` are expert e's slots."""
    _check_slots(layer, "layer")
    experts = layer.replica_to_expert
    count = np.bincount(experts, minlength=layer.num_experts).astype(np.int32)
    start = (np.cumsum(count) - count).astype(np.int32)
    return ReplicaTables(count, start, np.argsort(experts, kind="stable").astype(np.int32))
