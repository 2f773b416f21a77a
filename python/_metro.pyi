"""The metro library; import metro_moe instead."""

from collections.abc import Callable, Sequence
import os
from typing import Annotated

import numpy
import numpy.typing
from numpy.typing import NDArray


class LayerPlacement:
    """
    Where the replicas of one MoE layer's experts live. Immutable; checked when it is made.

    A replica is a physical slot, numbered from 0 over all GPUs. Arrays are read-only views.
    """

    def __init__(self, replica_to_expert: numpy.typing.ArrayLike, num_experts: int, num_gpus: int, *, replica_to_gpu: numpy.typing.ArrayLike | None = None, home: numpy.typing.ArrayLike | None = None, shares: numpy.typing.ArrayLike | None = None) -> None:
        """
        Without `replica_to_gpu` the GPUs share the slots equally, in order; without `home` they are exact, see `homes`; without `shares` they are equal.
        """

    @property
    def num_experts(self) -> int: ...

    @property
    def num_gpus(self) -> int: ...

    @property
    def num_replicas(self) -> int: ...

    @property
    def replica_to_expert(self) -> Annotated[NDArray[numpy.int32], dict(writable=False)]: ...

    @property
    def replica_to_gpu(self) -> Annotated[NDArray[numpy.int32], dict(writable=False)]: ...

    @property
    def home(self) -> Annotated[NDArray[numpy.int32], dict(writable=False)] | None:
        """[experts] slot, or None"""

    def homes(self) -> numpy.typing.NDArray[numpy.int32]:
        """
        [experts] the slot that serves each expert under policy `home`: `home` where it is given, else as few
        experts on the fullest GPU as the replicas allow, by the fixed rule of docs/formats.md.
        """

    @property
    def shares(self) -> Annotated[NDArray[numpy.float64], dict(writable=False)] | None:
        """[replicas] weight, or None"""

    def __eq__(self, other: object, /) -> bool: ...

    def __reduce__(self) -> tuple: ...

    def __repr__(self) -> str: ...

class Placement:
    """The placements of all MoE layers of a model. Immutable."""

    def __init__(self, layers: Sequence[LayerPlacement], *, shards: int = 1) -> None:
        """Layers must agree on experts and GPUs."""

    @property
    def num_experts(self) -> int: ...

    @property
    def num_gpus(self) -> int:
        """Where experts are sharded: groups of GPUs."""

    @property
    def shards(self) -> int:
        """GPUs that share each replica."""

    @property
    def layers(self) -> list[LayerPlacement]: ...

    def __eq__(self, other: object, /) -> bool: ...

    def __reduce__(self) -> tuple: ...

    def __repr__(self) -> str: ...

def read_placement(path: str | os.PathLike) -> Placement:
    """Reads a placement file (JSON)."""

def write_placement(placement: Placement, path: str | os.PathLike) -> None:
    """Writes a placement file; it appears whole, by one atomic rename."""

class PlacementAlgorithm:
    """A placement algorithm: its row of the table (docs/policies.md)."""

    @property
    def name(self) -> str: ...

    @property
    def rule(self) -> str:
        """How it places, in one line."""

    @property
    def source(self) -> str:
        """Who places so."""

    @property
    def uses_loads(self) -> bool: ...

    @property
    def uses_groups(self) -> bool:
        """It looks at groups and nodes."""

    @property
    def repeats_on_gpu(self) -> bool:
        """It may put two copies of an expert on one GPU."""

    @property
    def summary(self) -> str:
        """The rule, by its name before 0.2."""

    def __repr__(self) -> str: ...

def placement_algorithms() -> list[PlacementAlgorithm]:
    """All placement algorithms."""

def replicas_for(num_experts: int, replication: float, num_gpus: int) -> int:
    """
    Slots of a layer: the least multiple of `num_gpus` that is at least num_experts * replication.
    """

def place(loads: numpy.typing.ArrayLike, num_replicas: int, num_gpus: int, algorithm: str = 'eplb', *, num_groups: int = 1, num_nodes: int = 1) -> Placement:
    """
    Places every layer for loads of shape [layers, experts], and solves the shares for
    policy `shares`. `num_replicas` counts all physical slots of a layer; only `eplb` looks
    at groups and nodes.

        placement = metro_moe.place(loads, num_replicas=320, num_gpus=32, algorithm="homed")
    """

def solve_shares(placement: LayerPlacement, load: numpy.typing.ArrayLike) -> numpy.typing.NDArray[numpy.float64]:
    """
    Replica weights that even out the expected tokens per GPU for this load [experts].
    """

def solve_homes(placement: LayerPlacement, load: numpy.typing.ArrayLike) -> numpy.typing.NDArray[numpy.int32]:
    """
    Home slots with as few experts on the fullest GPU as the replicas allow, and little of this load [experts].
    """

def read_loads(path: str | os.PathLike) -> NDArray[numpy.float64]:
    """Reads a loads file as [layers, experts]."""

class ExpertCost:
    """
    What the routed experts of one GPU cost in one layer: base + the sum of phi(tokens) over its replicas
    that got a token, in microseconds. Immutable.

        cost = metro_moe.ExpertCost([0, 28.3, 28.3, 28.5], beyond_us=0.47, base_us=18.9)
    """

    def __init__(self, phi_us: numpy.typing.ArrayLike, *, beyond_us: float, base_us: float = 0.0) -> None:
        """
        `phi_us[n]` of n tokens: the first is 0, and it never falls. `beyond_us` for each token after the last.
        """

    @staticmethod
    def standard() -> ExpertCost:
        """
        DeepSeek-V3's experts in bf16 on an H100: what is used where no cost is given.
        """

    def phi(self, tokens: int) -> float:
        """Microseconds of a replica with so many tokens."""

    @property
    def base_us(self) -> float: ...

    @property
    def beyond_us(self) -> float: ...

    @property
    def phi_us(self) -> Annotated[NDArray[numpy.float64], dict(writable=False)]: ...

    def __repr__(self) -> str: ...

def read_expert_cost(path: str, *, shape: tuple[int, int] | None = None, dtype: str | None = None) -> ExpertCost:
    """
    An expert cost file, or the experts of a calibration that `shape` (hidden, intermediate) and
    `dtype` pick: `--cost`.
    """

def modelled_us(placement: LayerPlacement, replica_ids: numpy.typing.ArrayLike, cost: ExpertCost | None = None) -> numpy.typing.NDArray[numpy.float64]:
    """
    [gpus] microseconds of what replica ids [tokens, topk] activate; -1 costs nothing.
    """

def time_bound_us(placement: LayerPlacement, topk_ids: numpy.typing.ArrayLike, cost: ExpertCost | None = None) -> float:
    """
    What the slowest GPU takes at least, however the batch is routed and split.
    """

class PolicyInfo:
    """
    Everything that this library knows of a routing policy: its row of the table (docs/policies.md).
    """

    @property
    def name(self) -> str: ...

    @property
    def rule(self) -> str:
        """How it chooses, in one line."""

    @property
    def source(self) -> str:
        """Who routes so."""

    @property
    def needs(self) -> str:
        """
        What a rank must know to route its own tokens: "own-rows", "bitmap" (which experts all ranks' tokens activate) or "ids" (of all ranks' tokens).
        """

    @property
    def splits(self) -> bool:
        """Tokens of one expert may go to several of its replicas."""

    @property
    def counts_tokens(self) -> bool:
        """The choice depends on how many tokens of the expert come before."""

    @property
    def single_replica(self) -> bool:
        """Each active expert is served by one replica."""

    @property
    def uses_homes(self) -> bool:
        """It looks at LayerPlacement.home."""

    @property
    def uses_shares(self) -> bool:
        """It looks at LayerPlacement.shares."""

    @property
    def uses_cost(self) -> bool:
        """It looks at what an expert's tokens cost."""

    @property
    def device(self) -> bool:
        """cuda.Router has it."""

    @property
    def headline(self) -> bool:
        """Pages with room for a few policies show it."""

    @property
    def route_us(self) -> float:
        """Microseconds of one layer on a GPU where no calibration says better."""

    @property
    def calibration_key(self) -> str:
        """The policy whose measured time is its own, if it has none."""

    @property
    def summary(self) -> str:
        """The rule, by its name before 0.2."""

    def __repr__(self) -> str: ...

def policies() -> list[PolicyInfo]:
    """The table of routing policies, a row each: `metro policies`."""

DEFAULT_POLICY: str = 'optimal'

class Router:
    """
    Chooses which replica serves each (token, k) of one MoE layer, on the CPU.

        router = metro_moe.Router(placement.layers[0], "optimal")
        replica_ids = router.route(topk_ids)

    Deterministic. Owns its workspace; holds the GIL while it routes.
    """

    def __init__(self, placement: LayerPlacement, policy: str = 'optimal', *, seed: int = 0, layer: int = 0, num_nodes: int = 1, cost: ExpertCost | None = None) -> None:
        """
        `seed` and `layer` matter to `random`, `num_nodes` to `static`, `cost` to `hybrid`.
        """

    def route(self, topk_ids: numpy.typing.ArrayLike, out: numpy.typing.NDArray[numpy.int32] | None = None) -> numpy.typing.NDArray[numpy.int32]:
        """
        The replica (slot) of each id of [tokens, topk]. An id that is no expert becomes -1.

        int32 arrays in C order are read, and `out` is written, without a copy; `out` may be `topk_ids`.
        """

    @property
    def policy(self) -> str: ...

    @property
    def num_experts(self) -> int: ...

class RoutingMetrics:
    """What one routed batch asks of each GPU in one layer."""

    @property
    def activated_per_gpu(self) -> Annotated[NDArray[numpy.int32], dict(writable=False)]:
        """[gpus] replicas that got a token"""

    @property
    def tokens_per_gpu(self) -> Annotated[NDArray[numpy.int64], dict(writable=False)]:
        """[gpus] (token, k) assignments"""

    @property
    def max_activated(self) -> int: ...

    @property
    def activated_total(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    def __repr__(self) -> str: ...

def count_metrics(placement: LayerPlacement, replica_ids: numpy.typing.ArrayLike) -> RoutingMetrics:
    """
    Counts what replica ids of shape [tokens, topk] activate; -1 counts nowhere.
    """

class TraceInfo:
    """What a trace's .json says of it."""

    @property
    def num_experts(self) -> int: ...

    @property
    def model(self) -> str: ...

    @property
    def phase(self) -> str:
        """"decode", "prefill" or "mixed\""""

    @property
    def sequence_lengths(self) -> list[int]: ...

    @property
    def source(self) -> str: ...

    @property
    def licence(self) -> str: ...

class RoutingTrace:
    """
    The experts that each token chose in each MoE layer: [tokens, layers, topk].

        trace = metro_moe.read_trace("decode.npy")   # maps the file
        trace.ids[0, 3]                              # a NumPy view of it
    """

    def __init__(self, ids: numpy.typing.ArrayLike, num_experts: int, *, model: str = '', phase: str = 'mixed', sequence_lengths: Sequence[int] | None = None, source: str = '', licence: str = '') -> None:
        """
        A trace over ids of shape [tokens, layers, topk]; -1 is masked, every id is checked.

        An array over bytes or a read-only mapping (numpy.load(..., mmap_mode='r')) is viewed, any other
        is copied. Without `sequence_lengths` all tokens are one sequence.
        """

    @property
    def ids(self) -> numpy.typing.NDArray[numpy.integer]:
        """Read-only view [tokens, layers, topk] of the type that is stored."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def topk(self) -> int: ...

    @property
    def num_experts(self) -> int: ...

    @property
    def info(self) -> TraceInfo: ...

    def loads(self, begin: int = 0, end: int | None = None) -> NDArray[numpy.float64]:
        """
        Tokens per [layer, expert] over tokens [begin, end): what `place` takes.
        """

    def gather(self, rows: Sequence[int], layer: int) -> NDArray[numpy.int32]:
        """
        The ids of these tokens in one layer: [len(rows), topk], a batch for Router.route.
        """

    def __repr__(self) -> str: ...

def read_trace(npy: str | os.PathLike) -> RoutingTrace:
    """
    Maps `<stem>.npy`, reads `<stem>.json` and checks every id. No copy of the data.
    """

def write_trace(trace: RoutingTrace, npy: str | os.PathLike) -> None:
    """
    Writes `<stem>.npy` with the smallest type that holds the ids, and `<stem>.json`.
    """

def router_profiles() -> list[str]:
    """Names for `generate_trace`."""

def generate_trace(profile: str, sequence_lengths: Sequence[int], phase: str = 'decode', seed: int = 0) -> RoutingTrace:
    """
    Draws a synthetic trace of a named profile (docs/trace-generator.md); the same on any machine.
    """

class DecodeBatches:
    """
    Draws decode batches from part of a trace, as continuous batching would mix its sequences.
    """

    def __init__(self, trace: RoutingTrace, begin: int = 0, end: int | None = None) -> None: ...

    @property
    def capacity(self) -> int:
        """Largest batch that can be drawn."""

    def draw(self, num_tokens: int, seed: int = 0, batch: int = 0) -> list[int]:
        """Rows of the trace, for RoutingTrace.gather."""

class CompareRow:
    """
    One policy at one point of the grid; means are over batches and layers. Fields as in `metro compare --json`.
    """

    @property
    def algorithm(self) -> str: ...

    @property
    def gpus(self) -> int: ...

    @property
    def ep(self) -> int: ...

    @property
    def replication(self) -> float: ...

    @property
    def replicas(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def policy(self) -> str: ...

    @property
    def max_activated(self) -> float: ...

    @property
    def max_tokens(self) -> float: ...

    @property
    def activated_total(self) -> float: ...

    @property
    def active_experts(self) -> float: ...

    @property
    def no_replication(self) -> float: ...

    @property
    def token_imbalance(self) -> float: ...

    @property
    def vs_even(self) -> float: ...

    @property
    def vs_no_replication(self) -> float: ...

    @property
    def vs_optimal(self) -> float: ...

    @property
    def vs_ep(self) -> float: ...

    @property
    def worse_than_none(self) -> int: ...

    @property
    def modelled(self) -> float: ...

    @property
    def modelled_bound(self) -> float: ...

    def as_dict(self) -> dict[str, float | int | str]:
        """For pandas: `pandas.DataFrame(row.as_dict() for row in rows)`."""

    def __repr__(self) -> str: ...

def compare(trace: RoutingTrace, *, gpus: Sequence[int], replication: Sequence[float], tokens: Sequence[int], policies: Sequence[str | Callable[[LayerPlacement, numpy.typing.NDArray[numpy.int32]], numpy.typing.ArrayLike] | tuple[str, Callable[[LayerPlacement, numpy.typing.NDArray[numpy.int32]], numpy.typing.ArrayLike]]] | None = None, algorithms: Sequence[str] = ['eplb'], ep: Sequence[int] = [], tokens_are_per_gpu: bool = False, batches: int = 32, seed: int = 0, num_threads: int = 0, progress: Callable[[int, int], None] | None = None, cost: ExpertCost | None = None) -> list[CompareRow]:
    """
    Replays decode batches of a trace under every combination of the lists: `metro compare`.

    `ep`: GPUs that the experts are spread over, each sharded beyond; left out: all.
    Placements come from the first half of the trace, batches from the second. `policies` left out:
    all. A policy is a name, or a function of your own: f(layer_placement, topk_ids) gives the replica of
    each id of [tokens, topk], checked to be one of its expert's, -1 for -1; its name is its __name__, or the
    first of (name, function). `progress(done, total)` is called now and then, from any thread. The result does not depend on
    `num_threads` (0: one per core). With a `cost` rows have `modelled` and `modelled_bound` in us, else 0.
    """
