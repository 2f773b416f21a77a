# SPDX-License-Identifier: Apache-2.0
"""The first replica of every expert is its home, on whatever placement vLLM has.

vLLM lists an expert's replicas by slot, so the first ones crowd the first GPUs. Which replica stands first is
nobody else's concern: vLLM's hash takes any, and weights are moved by the other map. Homes are exact (as few on
the fullest GPU as the placement allows) and a pure function of the layer's row, so ranks agree without a word.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import torch

from metro_moe.homes import exact_homes
from metro_moe.vllm import seams


@functools.lru_cache(maxsize=512)  # layers share a row at the start
def _homes(row: bytes, num_experts: int, slots_per_gpu: int) -> Any:
    """int64 [experts]: the slot of each home; slots of -1 are empty (GPUs that just joined)."""
    experts = np.frombuffer(row, np.int64)
    held = np.flatnonzero(experts >= 0)
    if len(np.unique(experts[held])) < num_experts:
        return np.full(num_experts, -1)  # an expert is nowhere: vLLM's order stays
    return held[exact_homes(experts[held], num_experts, held // slots_per_gpu)]


def put_homes_first(replica_to_expert: Any, replicas: Any, slots_per_gpu: int) -> None:
    """Swaps each expert's home into column 0 of `replicas` [experts, most], on the host; -1 is empty."""
    num_experts = len(replicas)
    home = _homes(replica_to_expert.to(torch.int64).contiguous().numpy().tobytes(), num_experts, slots_per_gpu)
    if home[0] < 0:
        return
    wanted = torch.from_numpy(home).to(replicas.dtype)
    at = (replicas == wanted.unsqueeze(1)).to(torch.int8).argmax(1)
    first = replicas[:, 0].clone()
    replicas[torch.arange(num_experts), at] = first
    replicas[:, 0] = wanted


def most_homes(replica_to_expert: Any, num_experts: int, slots_per_gpu: int) -> int:
    """Homes on the fullest GPU of one layer."""
    home = _homes(replica_to_expert.to(torch.int64).contiguous().numpy().tobytes(), num_experts, slots_per_gpu)
    return int(np.bincount(home // slots_per_gpu).max()) if home[0] >= 0 else 0


class OrderedReplicas:
    """Keeps the first replica the home: at the start, and through every commit."""

    def __init__(self, num_gpus: int = 0) -> None:
        self.num_gpus = num_gpus  # 0: as vLLM says
        self.slots_per_gpu = 0
        self.most_homes = 0

    def install(self, patches: seams.Patches) -> None:
        state = importlib.import_module(seams.EPLB_STATE)
        stock = state.compute_logical_maps
        seams.check_parameters(stock, ["physical_to_logical_map", "num_logical_experts"])

        @functools.wraps(stock)
        def compute_logical_maps(physical_to_logical_map, num_logical_experts):
            maps = stock(physical_to_logical_map, num_logical_experts)
            if self.slots_per_gpu:
                single = physical_to_logical_map.dim() == 1
                rows = physical_to_logical_map.unsqueeze(0) if single else physical_to_logical_map
                for row, replicas in zip(rows, maps[0].unsqueeze(0) if single else maps[0]):
                    put_homes_first(row, replicas, self.slots_per_gpu)
            return maps

        patches.set_everywhere(stock, compute_logical_maps)

    def add_model(self, state: Any) -> None:
        """A model has its first tables, made without compute_logical_maps; their addresses stay."""
        rows = state.physical_to_logical_map.cpu()
        here = int(state.model.num_local_physical_experts)  # stays when GPUs come and go
        self.slots_per_gpu = rows.shape[1] // self.num_gpus if self.num_gpus else here
        most = int(state.logical_replica_count.max())
        tables = state.logical_to_physical_map[:, :, :most].cpu()
        for row, replicas in zip(rows, tables):
            put_homes_first(row, replicas, self.slots_per_gpu)
        with torch.inference_mode(state.logical_to_physical_map.is_inference()):
            state.logical_to_physical_map[:, :, :most] = tables.to(state.logical_to_physical_map.device)
        self.most_homes = most_homes(rows[0], tables.shape[1], self.slots_per_gpu)
