# SPDX-License-Identifier: Apache-2.0
"""Placement `homed` as vLLM's rearrangement: every expert has a home, E / GPUs a GPU, and its home is found.

vLLM lists an expert's replicas by slot, and `home` serves the first; so the list is turned to begin at the
home. Which replica stands first is nobody else's concern: vLLM's hash picks any.
"""

from __future__ import annotations

import collections
import importlib
from collections.abc import Callable
from typing import Any

import torch

from metro_moe.vllm import seams

KEPT = 512  # layers whose homes are remembered: the last rearrangements of a large model


class Homes:
    """The home slots of the placements made last, by what the placement is."""

    def __init__(self) -> None:
        self.kept: collections.OrderedDict[bytes, Any] = collections.OrderedDict()

    @staticmethod
    def key(replica_to_expert: Any) -> bytes:
        return replica_to_expert.to(torch.int64).contiguous().numpy().tobytes()

    def keep(self, replica_to_expert: Any, home: Any) -> None:
        self.kept[self.key(replica_to_expert)] = home
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)

    def first(self, replica_to_expert: Any, replicas: Any) -> None:
        """Puts each expert's home first in `replicas` [experts, most]; unknown placements stay."""
        home = self.kept.get(self.key(replica_to_expert))
        if home is None:
            return
        at = (replicas == home.unsqueeze(1)).to(torch.int64).argmax(1)
        expert = torch.arange(len(replicas))
        first = replicas[:, 0].clone()
        replicas[expert, at] = first
        replicas[:, 0] = home


def place_homed(weight, num_replicas, num_groups, num_nodes, num_ranks, old, keep_slots, homes: Homes):
    """vLLM's physical_to_logical_map int64 [layers, replicas]; slots of a GPU stay where they can."""
    import metro_moe

    divides = num_groups % num_nodes == 0
    placement = metro_moe.place(
        weight.to(torch.float32).cpu().numpy(), int(num_replicas), int(num_ranks), "homed",
        num_groups=int(num_groups) if divides else 1, num_nodes=int(num_nodes) if divides else 1,
    )  # fmt: skip
    rows = torch.stack([torch.from_numpy(layer.replica_to_expert.astype("int64")) for layer in placement.layers])
    home = torch.stack([torch.from_numpy(layer.home.astype("int64")) for layer in placement.layers])
    slots = num_replicas // num_ranks
    result = rows
    if old is not None and old.shape == rows.shape:
        result = torch.from_numpy(keep_slots(rows.numpy(), int(num_ranks), old.cpu().numpy()))
    for layer, row in enumerate(result):
        # On the home's GPU there is one replica of the expert: find where it went.
        gpu = home[layer] // slots
        inside = row.reshape(num_ranks, slots)[gpu] == torch.arange(len(gpu)).unsqueeze(1)
        homes.keep(row, gpu * slots + inside.to(torch.int64).argmax(1))
    return result


def install(patches: seams.Patches, is_agreed: Callable[[], bool]) -> None:
    """vLLM's policy table: `homed`, and what `default` means once all ranks agreed.

    Every rank computes the placement for itself, so a rank that does otherwise would break it.
    """
    policy = importlib.import_module(seams.EPLB_POLICY)
    state = importlib.import_module(seams.EPLB_STATE)
    table, default, homes = policy.EPLB_POLICIES, policy.EPLB_POLICIES["default"], Homes()
    names = ["weight", "num_replicas", "num_groups", "num_nodes", "num_ranks", "old_global_expert_indices"]
    seams.check_parameters(default.rebalance_experts, names)
    seams.check_parameters(default.preserve_intragpu_slots, ["phy2log", "num_ranks", "old_phy2log"])
    seams.check_parameters(state.compute_logical_maps, ["physical_to_logical_map", "num_logical_experts"])
    import metro_moe  # noqa: F401  the placement is the library's

    class HomedEplbPolicy(default):  # type: ignore[misc, valid-type]
        @classmethod
        def rebalance_experts(cls, weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices=None):
            try:
                if is_agreed():
                    return place_homed(weight, num_replicas, num_groups, num_nodes, num_ranks,
                                       old_global_expert_indices, cls.preserve_intragpu_slots, homes)  # fmt: skip
            except Exception as error:
                seams.logger.warning("metro: vLLM's own placement: %s: %s", type(error).__name__, error)
            return super().rebalance_experts(
                weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
            )

    def make(stock):
        def compute_logical_maps(physical_to_logical_map, num_logical_experts):
            maps = stock(physical_to_logical_map, num_logical_experts)
            try:
                single = physical_to_logical_map.dim() == 1
                for row, replicas in zip(
                    physical_to_logical_map.unsqueeze(0) if single else physical_to_logical_map,
                    maps[0].unsqueeze(0) if single else maps[0],
                ):
                    homes.first(row, replicas)
            except Exception as error:
                seams.logger.warning("metro: homes are not first: %s: %s", type(error).__name__, error)
            return maps

        return compute_logical_maps

    stock = state.compute_logical_maps
    patches.set_everywhere(stock, make(stock))
    for name in ("default", "homed"):
        patches.set_item(table, name, HomedEplbPolicy)
