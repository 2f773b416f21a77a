# SPDX-License-Identifier: Apache-2.0
"""Max activated experts per rank, from the load that vLLM records: what `balancedness` does not show.

In decode an expert costs the read of its weights, however few its tokens. So a rank is slow by the replicas that got a
token, not by its tokens. docs/upstream/max_activated.md.
"""

from __future__ import annotations

from typing import Any


def activated_per_rank(load_pass: Any, num_ranks: int) -> Any:
    """[layers, ranks] replicas with a token, of `load_pass` [layers, replicas]: one pass, summed over ranks."""
    layers, replicas = load_pass.shape
    if replicas % num_ranks:
        raise ValueError(f"{replicas} replicas do not go over {num_ranks} ranks")
    return (load_pass > 0).reshape(layers, num_ranks, -1).sum(-1)


def max_activated(load_pass: Any, num_ranks: int) -> float:
    """The mean over layers of the fullest rank's."""
    return float(activated_per_rank(load_pass, num_ranks).max(-1).values.float().mean())
