# SPDX-License-Identifier: Apache-2.0
"""One batch, routed and counted: what `metro route` does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metro_moe._metro import (
    DEFAULT_POLICY,
    ExpertCost,
    LayerPlacement,
    Placement,
    Router,
    RoutingMetrics,
    count_metrics,
)
from metro_moe.errors import InputError


class RouteResult(NamedTuple):
    """What `route` answers."""

    replica_ids: npt.NDArray[np.int32]
    """[tokens, topk] slots; -1 where the id was masked."""
    metrics: RoutingMetrics


def _checked(topk_ids: npt.ArrayLike, num_experts: int) -> npt.NDArray[np.integer]:
    ids = np.asarray(topk_ids)
    if ids.size == 0 and ids.ndim < 2:
        return np.empty((0, 0), np.int32)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise InputError(f"topk_ids are {ids.dtype} of shape {ids.shape}, must be integers [tokens, topk]")
    bad = np.argwhere((ids >= num_experts) | ((ids < 0) & (ids != -1)))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"topk_ids[{row}][{column}] is {ids[row, column]}, "
            f"must be an expert 0..{num_experts - 1} or -1 (masked)"
        )
    return ids


def route(
    placement: Placement | LayerPlacement,
    topk_ids: npt.ArrayLike,
    policy: str = DEFAULT_POLICY,
    *,
    layer: int = 0,
    seed: int = 0,
    num_nodes: int = 1,
    cost: ExpertCost | None = None,
) -> RouteResult:
    """Routes one batch of shape [tokens, topk] and counts what it activates.

        result = metro_moe.route(placement, topk_ids, "optimal", layer=3)
        result.metrics.max_activated

    Checks every id, and makes a router for this call: keep a `Router` where many batches are routed.
    """
    if isinstance(placement, Placement):
        if not 0 <= layer < len(placement.layers):
            raise InputError(f"layer is {layer}, but the placement has layers 0..{len(placement.layers) - 1}")
        placement = placement.layers[layer]
    router = Router(placement, policy, seed=seed, layer=layer, num_nodes=num_nodes, cost=cost)
    replica_ids = router.route(_checked(topk_ids, placement.num_experts))
    return RouteResult(replica_ids, count_metrics(placement, replica_ids))
