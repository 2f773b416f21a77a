# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the parts of vLLM that the plugin meets, and vLLM's own modules where they are."""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from choice_reference import choose, first_replicas, tables

from metro_moe.vllm import seams

needs_interpreter = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4), reason="triton's interpreter fails with NumPy >= 2.4"
)
space = types.SimpleNamespace


class Layers:
    """vLLM's EPLB tensors of a model, each layer a row of them."""

    def __init__(self, slots, num_experts, num_layers=3):
        table, count = tables(slots, num_experts)
        self.num_experts = num_experts
        self.logical_to_physical_map = self.table = table.repeat(num_layers, 1, 1)
        self.logical_replica_count = self.count = count.repeat(num_layers, 1)
        self.physical_to_logical_map = torch.tensor(slots).repeat(num_layers, 1)
        self.load = torch.zeros(num_layers, len(slots), dtype=torch.int32)
        self.num_unpadded_tokens_tensors = [torch.tensor(0, dtype=torch.int32)]
        self.record = torch.tensor(True)
        self.model = space(num_local_physical_experts=len(slots) // 4 if len(slots) % 4 == 0 else len(slots))

    def commit(self, slots, layer=None):
        """A rearrangement, in place as vLLM does it."""
        table, count = tables(slots, self.num_experts)
        at = slice(None) if layer is None else layer
        self.table[at], self.count[at], self.physical_to_logical_map[at] = table, count, torch.tensor(slots)

    def arguments(self, ids, layer=0, num_real=None):
        real = None if num_real is None else torch.tensor(num_real, dtype=torch.int32)
        return dict(
            topk_ids=ids, expert_load_view=self.load[layer], logical_to_physical_map=self.table[layer],
            logical_replica_count=self.count[layer], record_enabled=self.record, num_unpadded_tokens=real,
        )  # fmt: skip

    def call(self, function, ids, layer=0, num_real=None):
        return function(**self.arguments(ids, layer, num_real))

    def experts(self, physical, layer=0):
        """What expert each physical id holds; -1 stays."""
        held = self.physical_to_logical_map[layer][physical.long().clamp(min=0)]
        return torch.where(physical < 0, -1, held).to(physical.dtype)


class Config:
    """What vLLM asks of a model's configuration."""

    def __init__(self, model="tiny", kind=""):
        self.model, self.kind = model, kind

    def compute_hash(self):
        return self.model + self.kind


class EplbState:
    """vLLM's bookkeeping, so far as the plugin hooks into it."""

    def __init__(self, parallel_config=None):
        self.parallel_config = parallel_config or space(enable_elastic_ep=False, enable_dbo=False, num_ubatches=0)
        self.model_states = {}

    @staticmethod
    def build_initial_global_physical_to_logical_map(num_routed_experts, num_redundant_experts):
        return [*range(num_routed_experts), *(i % num_routed_experts for i in range(num_redundant_experts))]

    def add_model(self, model, model_config):
        self.model_states[model_config.compute_hash()] = model  # a `Layers`

    def prepare_forward(self, model_config, num_unpadded_tokens, ubatch_slices=None):
        self.model_states[model_config.compute_hash()].num_unpadded_tokens_tensors[0].fill_(num_unpadded_tokens)

    def step(self, is_dummy=False, is_profile=False, log_stats=False):
        pass


def compute_logical_maps(physical_to_logical_map, num_logical_experts):
    rows = physical_to_logical_map if physical_to_logical_map.dim() == 2 else physical_to_logical_map[None]
    both = [tables(row.tolist(), num_logical_experts, len(row)) for row in rows]
    table, count = (torch.stack(part) for part in zip(*both))
    return (table, count) if physical_to_logical_map.dim() == 2 else (table[0], count[0])


def commit_all(model_state, new_physical_to_logical_map):
    for layer, slots in enumerate(new_physical_to_logical_map.tolist()):
        model_state.commit(slots, layer)


def commit_one(model_state, new_physical_to_logical_map, layer):
    model_state.commit(new_physical_to_logical_map.tolist(), layer)


class Dispatch:
    """Stands for vLLM's prepare/finalize that gathers; `gather` is put in by a test."""

    gather = staticmethod(lambda ids: ids)

    def prepare(self, a1, topk_weights, topk_ids, num_experts=0, expert_map=None, apply_router_weight_on_input=False,
                quant_config=None, defer_input_quant=False):  # fmt: skip
        return a1, None, None, type(self).gather(topk_ids), topk_weights


class StatLoggerManager:
    def __init__(self, vllm_config):
        self.stat_loggers = []


class AggregateStatLoggerBase:
    def record_sleep_state(self, is_awake, level):
        pass

    def record_admission_rejection(self, reason):
        pass


def stock_hash(topk_ids, expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled,
               num_unpadded_tokens=None):  # fmt: skip
    """vLLM's rule and its record."""
    out, load = choose(topk_ids, logical_to_physical_map, logical_replica_count, "hash", 1, num_unpadded_tokens)
    if record_enabled:
        expert_load_view[: len(load)] += load[: len(expert_load_view)]
    return out


def served(policy, ids, layers, layer=0, num_gpus=4, num_real=None):
    """What the plugin must answer for a batch of one layer."""
    table, count = layers.logical_to_physical_map[layer], layers.logical_replica_count[layer]
    if policy == "home":
        return first_replicas(ids, table, count, num_real)[0]
    return choose(ids, table, count, policy, num_gpus, num_real)[0]


def stand_in(monkeypatch, parameters=None, version="0.25.1"):
    """(module with the mapping, module that imported it by name, the mapping)."""
    stock = stock_hash if parameters is None else eval(f"lambda {parameters}: topk_ids")
    names = [seams.MODULE, seams.EPLB_STATE, seams.EPLB_POLICY, seams.GATHER_MODULE, seams.LOGGERS, seams.PROMETHEUS,
             "vllm.models.by_name", "vllm.forward_context", "vllm.distributed.parallel_state", "vllm.config",
             "vllm.engine.arg_utils"]  # fmt: skip
    folders = {".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)}
    for name in sorted(folders):
        module = types.ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["vllm"].__version__ = version
    base_router, other = sys.modules[seams.MODULE], sys.modules["vllm.models.by_name"]
    setattr(base_router, seams.FUNCTION, stock)
    other.their_name_for_it = stock
    group = space(world_size=1, rank_in_group=0, ranks=[0])
    sys.modules["vllm.distributed.parallel_state"].get_ep_group = lambda: group
    state = sys.modules[seams.EPLB_STATE]
    state.EplbState = type("EplbState", (EplbState,), dict(vars(EplbState)))
    state._commit_eplb_maps, state._commit_eplb_maps_for_layer = commit_all, commit_one
    state.compute_logical_maps = compute_logical_maps
    dispatch = type(seams.GATHER_CLASS, (Dispatch,), dict(vars(Dispatch)))
    setattr(sys.modules[seams.GATHER_MODULE], seams.GATHER_CLASS, dispatch)
    sys.modules[seams.LOGGERS].StatLoggerManager = type("Manager", (StatLoggerManager,), dict(vars(StatLoggerManager)))
    sys.modules[seams.LOGGERS].AggregateStatLoggerBase = AggregateStatLoggerBase
    registry = lambda: space(_collector_to_names={}, register=print)  # noqa: E731
    sys.modules[seams.PROMETHEUS].get_prometheus_registry = registry
    sys.modules["vllm.engine.arg_utils"].get_prometheus_registry = registry
    sys.modules["vllm.config"].get_current_vllm_config_or_none = lambda: None
    return base_router, other, stock


def vllm_itself():
    """(module with the mapping, the mapping) of vLLM, or a skip."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:  # none, or this very folder as a namespace package
        pytest.skip("vLLM is not installed")
    module = importlib.import_module(seams.MODULE)
    return module, getattr(module, seams.FUNCTION)


@pytest.fixture(scope="session")
def vllm_modules():
    """vLLM's module with the mapping, which it defines only where it believes to be on a GPU."""
    if importlib.util.find_spec("vllm") is None or importlib.util.find_spec("vllm").origin is None:
        pytest.skip("vLLM is not installed")
    platforms = importlib.import_module("vllm.platforms")
    kind = type(platforms.current_platform)
    before = kind.is_cuda_alike
    if seams.MODULE not in sys.modules:
        kind.is_cuda_alike = lambda self: True
    module, _ = vllm_itself()
    kind.is_cuda_alike = before
    if not hasattr(module, "_eplb_map_and_record_i32_kernel"):
        pytest.skip("vLLM was imported without its kernel")
    return module


class Any:
    """Tables of whichever layer is asked for."""

    def data_ptr(self):
        return self

    def __eq__(self, address):
        return True


def context(uniform=True, mode="FULL", ep_size=4, dp_size=1, lora=False, max_query_len=1, ubatches=None, count=None,
            gathers=True, naive=False):  # fmt: skip
    """A forward context, as the plugin reads it."""
    parallel = space(ep_size=ep_size, dp_size=dp_size, pcp_size=1, is_sequence_parallel=False)
    dispatch = type(seams.GATHER_CLASS if gathers else "DeepEPLLPrepareAndFinalize", (), {})()
    weights = [torch.zeros(4, 1 << 20, dtype=torch.bfloat16)]
    experts = space(quant_method=space(moe_kernel=space(prepare_finalize=dispatch)), get_expert_weights=lambda: weights)
    layer = space(
        moe_config=space(moe_parallel_config=parallel, is_lora_enabled=lora), routed_experts=experts, enable_dbo=False,
        do_naive_dispatch_combine=naive, eplb_state=space(logical_replica_count=Any() if count is None else count),
    )  # fmt: skip
    return space(
        no_compile_layers={"attention": space(), "experts": layer},
        batch_descriptor=space(uniform=uniform),
        cudagraph_runtime_mode=space(name=mode),
        attn_metadata={"layer": space(max_query_len=max_query_len)},
        ubatch_slices=ubatches,
    )
