# SPDX-License-Identifier: Apache-2.0
"""Keeps the logical ids of the last decode tokens on the GPU, and writes them as a trace at exit.

Only enqueues, so it works inside CUDA graphs: a ring of tokens per layer, whose position is on the GPU too.
"""

from __future__ import annotations

import atexit
import os
import pathlib
from typing import Any

import torch

from metro_moe.vllm.layers import layer_of, num_layers
from metro_moe.vllm.seams import logger



class Recorder:
    """[layers, tokens + 1, topk] int16; the row at the end takes what is padding."""

    def __init__(self, folder: str, num_tokens: int, max_rows: int):
        self.folder, self.num_tokens, self.max_rows = pathlib.Path(folder), num_tokens, max_rows
        self.ids: Any = None
        self.position: Any = None  # [layers]: tokens seen, on the device
        self.num_experts, self.address = 0, 0
        atexit.register(self.write_quietly)

    def start(self, topk_ids, count) -> None:
        """Allocates for the first model that comes; not to be captured, since a graph's memory is not ours."""
        if self.ids is not None:
            return
        layers, topk, device = num_layers(count), topk_ids.shape[1], topk_ids.device
        self.ids = torch.full((layers, self.num_tokens + 1, topk), -1, dtype=torch.int16, device=device)
        self.position = torch.zeros(layers, dtype=torch.int64, device=device)
        self.num_experts, self.address = count.numel(), count.untyped_storage().data_ptr()

    def record(self, topk_ids, count, num_real) -> None:
        rows = len(topk_ids)
        if self.address != count.untyped_storage().data_ptr():
            return  # another model: a drafter
        layer = layer_of(count)
        row = torch.arange(rows, device=topk_ids.device)
        kept = topk_ids[:, 0] >= 0  # vLLM masks padding, and rows of ranks without requests
        if num_real is not None:
            kept = kept & (row < num_real)
        place = self.position[layer] + torch.cumsum(kept, 0) - 1
        at = torch.where(kept, place % self.num_tokens, self.num_tokens)
        self.ids[layer].index_copy_(0, at, topk_ids.to(torch.int16))
        self.position[layer] += kept.sum()

    def reset(self) -> None:
        """Forgets everything, the batches of graph capture for one."""
        if self.position is not None:
            with torch.inference_mode():
                self.position.zero_()

    def tokens(self):
        """int16 [tokens, layers, topk] of those that all layers have seen, oldest first; waits for the GPU."""
        if self.position is None:
            return torch.empty((0, 0, 0), dtype=torch.int16)
        seen = self.position.cpu()
        if not bool((seen == seen[0]).all()):
            raise RuntimeError(f"layers have seen {seen.tolist()} tokens, must be the same")
        total = int(seen[0])
        at = torch.arange(max(0, total - self.num_tokens), total) % self.num_tokens
        return self.ids[:, :-1].cpu()[:, at].permute(1, 0, 2).contiguous()

    def write(self) -> pathlib.Path | None:
        """Writes <folder>/vllm-<process>.npy and .json (docs/formats.md)."""
        import metro_moe

        tokens = self.tokens()
        if not tokens.numel():
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"vllm-{os.getpid()}.npy"
        trace = metro_moe.RoutingTrace(tokens.numpy(), self.num_experts, phase="decode", source="vLLM, recorded by metro")
        metro_moe.write_trace(trace, path)
        return path

    def write_quietly(self) -> None:
        try:
            self.write()
        except Exception as error:
            logger.warning("metro: the trace was not written: %s", error)
