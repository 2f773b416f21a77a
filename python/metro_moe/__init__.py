# SPDX-License-Identifier: Apache-2.0
"""Routes MoE tokens to expert replicas by activated experts, not tokens.

    trace = metro_moe.read_trace("decode.npy")
    placement = metro_moe.place(trace.loads(), num_replicas=384, num_gpus=16, algorithm="homed")
    router = metro_moe.Router(placement.layers[0], "optimal")
    replica_ids = router.route(trace.gather(range(128), layer=0))

The same names as in C++. `metro_moe.cuda` has the router on the GPU, `metro_moe.sglang` and
`metro_moe.tensorrt_llm` what these engines read and write. Nothing here imports an engine or torch.
"""

from metro_moe._metro import (
    DEFAULT_POLICY,
    CompareRow,
    DecodeBatches,
    ExpertCost,
    LayerPlacement,
    Placement,
    PlacementAlgorithm,
    PolicyInfo,
    Router,
    RoutingMetrics,
    RoutingTrace,
    TraceInfo,
    __version__,
    compare,
    count_metrics,
    generate_trace,
    modelled_us,
    place,
    placement_algorithms,
    policies,
    read_expert_cost,
    read_loads,
    read_placement,
    read_trace,
    replicas_for,
    router_profiles,
    solve_homes,
    solve_shares,
    time_bound_us,
    write_placement,
    write_trace,
)
from metro_moe.errors import DeviceError, InfeasibleError, InputError, MetroError, UsageError
from metro_moe.homes import exact_homes
from metro_moe.routing import RouteResult, route

algorithms = placement_algorithms

__all__ = [
    "DEFAULT_POLICY",
    "CompareRow",
    "DecodeBatches",
    "DeviceError",
    "ExpertCost",
    "InfeasibleError",
    "InputError",
    "LayerPlacement",
    "MetroError",
    "Placement",
    "PlacementAlgorithm",
    "PolicyInfo",
    "RouteResult",
    "Router",
    "RoutingMetrics",
    "RoutingTrace",
    "TraceInfo",
    "UsageError",
    "__version__",
    "algorithms",
    "compare",
    "count_metrics",
    "exact_homes",
    "generate_trace",
    "modelled_us",
    "place",
    "placement_algorithms",
    "policies",
    "read_expert_cost",
    "read_loads",
    "read_placement",
    "read_trace",
    "replicas_for",
    "route",
    "router_profiles",
    "solve_homes",
    "solve_shares",
    "time_bound_us",
    "write_placement",
    "write_trace",
]
