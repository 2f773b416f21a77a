# SPDX-License-Identifier: Apache-2.0
"""A checksum of the replicas that one layer chose, on the device: ranks that chose alike have the same.

The last layer stands for all, since what differs before it differs there too. `optimal` adds to it in its own kernel
(checksum_term in src/cuda/engine_rule.hpp), the others by a few small ones, which may be captured; nothing waits for
the GPU until agreement.py compares.
"""

from __future__ import annotations

from typing import Any

import torch


def add(checksum: Any, replica_ids: Any, num_real: Any) -> None:
    """Adds a batch. Rows from `num_real` on are padding, which may differ between ranks."""
    rows, topk = replica_ids.shape
    place = torch.arange(1, rows * topk + 1, device=replica_ids.device).reshape(rows, topk)
    term = place * 0x1E3779B97F4A7C15 + (replica_ids.to(torch.int64) + 2) * 0x3F58476D1CE4E5B9  # all wraps around
    term = (term ^ ((term >> 31) & 0x1FFFFFFFF)) * 0x14D049BB133111EB
    if num_real is not None:
        term = torch.where(place <= num_real * topk, term, 0)
    checksum.add_(term.sum())
