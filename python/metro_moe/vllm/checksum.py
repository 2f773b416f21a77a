# SPDX-License-Identifier: Apache-2.0
"""A running checksum of the replicas that one layer chose, on the device: ranks that chose alike have the same.

The last layer stands for all, since what differs before it differs there too. A few small kernels a step, which
may be captured; nothing waits for the GPU until agreement.py compares.
"""

from __future__ import annotations

from typing import Any

import torch


class Checksum:
    def __init__(self, num_layers: int, device: Any):
        self.layer = num_layers - 1
        self.value = torch.zeros(1, dtype=torch.int64, device=device)

    def add(self, layer: int, replica_ids: Any, num_real: Any) -> None:
        """Rows from `num_real` on are padding, which may differ between ranks."""
        if layer != self.layer:
            return
        rows, topk = replica_ids.shape
        kept = replica_ids.to(torch.int64) + 2
        if num_real is not None:
            kept = torch.where(torch.arange(rows, device=kept.device)[:, None] < num_real, kept, 0)
        place = torch.arange(1, rows * topk + 1, device=kept.device).reshape(rows, topk)
        self.value.mul_(31).add_((kept * place).sum())  # wraps around, the same everywhere

    def clear(self) -> None:
        with torch.inference_mode():
            self.value.zero_()
