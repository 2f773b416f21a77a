# SPDX-License-Identifier: Apache-2.0
"""Placement `homed` as vLLM's rearrangement: every expert can have a home, E / GPUs a GPU. ordered.py finds it."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch

from metro_moe.vllm import seams


def place_homed(weight, num_replicas, num_groups, num_nodes, num_ranks, old, keep_slots):
    """vLLM's physical_to_logical_map int64 [layers, replicas]; slots of a GPU stay where they can."""
    import metro_moe

    divides = num_groups % num_nodes == 0
    placement = metro_moe.place(
        weight.to(torch.float32).cpu().numpy(), int(num_replicas), int(num_ranks), "homed",
        num_groups=int(num_groups) if divides else 1, num_nodes=int(num_nodes) if divides else 1,
    )  # fmt: skip
    rows = torch.stack([torch.from_numpy(layer.replica_to_expert.astype("int64")) for layer in placement.layers])
    if old is None or old.shape != rows.shape:
        return rows
    return torch.from_numpy(keep_slots(rows.numpy(), int(num_ranks), old.cpu().numpy()))


def install(patches: seams.Patches, is_agreed: Callable[[], bool]) -> None:
    """vLLM's policy table: `homed`, and what `default` means once all ranks agreed.

    Every rank computes the placement for itself, so a rank that does otherwise would break it: an error ends it.
    """
    policy = importlib.import_module(seams.EPLB_POLICY)
    table, default = policy.EPLB_POLICIES, policy.EPLB_POLICIES["default"]
    names = ["weight", "num_replicas", "num_groups", "num_nodes", "num_ranks", "old_global_expert_indices"]
    seams.check_parameters(default.rebalance_experts, names)
    seams.check_parameters(default.preserve_intragpu_slots, ["phy2log", "num_ranks", "old_phy2log"])
    import metro_moe  # noqa: F401  the placement is the library's

    class HomedEplbPolicy(default):  # type: ignore[misc, valid-type]
        @classmethod
        def rebalance_experts(cls, weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices=None):
            if not is_agreed():
                return super().rebalance_experts(
                    weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
                )
            try:
                return place_homed(weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices,
                                   cls.preserve_intragpu_slots)  # fmt: skip
            except Exception as error:
                raise seams.RanksDiffer(
                    f"metro: no homed placement, to which all ranks agreed; leave METRO_VLLM_PLACEMENT out: {error}"
                ) from error

    for name in ("default", "homed"):
        patches.set_item(table, name, HomedEplbPolicy)
