# SPDX-License-Identifier: Apache-2.0
"""Homes first through every commit of vLLM's own code, and a start that its weight loader and its state share."""

import importlib
import itertools
import types

import numpy as np
import pytest
import torch
from choice_reference import tables
from engine import Config, vllm_modules  # noqa: F401
from moe import random_layer

from metro_moe import vllm as plugin
from metro_moe.vllm import ordered, seams, spread

GPUS = 4


def least_possible(slots, num_experts, slots_per_gpu):
    """Homes on the fullest GPU, by trying every choice: an oracle for small layers."""
    choices = [sorted({s // slots_per_gpu for s, e in enumerate(slots) if e == expert}) for expert in range(num_experts)]
    return min(max(np.bincount(pick)) for pick in itertools.product(*choices))


@pytest.mark.parametrize("seed", range(20))
def test_the_first_replica_is_the_best_home_and_nothing_else_moves(seed):
    random = np.random.default_rng(seed)
    slots = random_layer(random, 8, 4)
    row = torch.tensor(slots)
    table, count = tables(slots, 8, width=5)
    before = table.clone()
    ordered.put_homes_first(row, table, 3)
    assert torch.equal(table.sort(1).values, before.sort(1).values)  # the same replicas of each expert
    assert (table[:, 0] >= 0).all() and torch.equal(row[table[:, 0]], torch.arange(8))
    assert torch.bincount(table[:, 0] // 3).max() == least_possible(slots, 8, 3) == ordered.most_homes(row, 8, 3)


def test_slots_of_gpus_that_just_joined_are_empty():
    slots = [0, 1, 2, 3, 2, 0, -1, -1, -1]
    table = torch.tensor([[0, 5], [1, -1], [2, 4], [3, -1]])
    ordered.put_homes_first(torch.tensor(slots), table, 3)
    assert torch.bincount(table[:, 0] // 3).tolist() == [2, 2]
    lost = torch.tensor([[0, -1], [1, -1]])
    ordered.put_homes_first(torch.tensor([0, -1]), lost, 1)  # expert 1 is nowhere: vLLM's order stays
    assert lost.tolist() == [[0, -1], [1, -1]]


@pytest.mark.parametrize(("experts", "redundant", "gpus"), [(16, 8, 4), (128, 64, 8), (256, 32, 16), (8, 8, 2), (6, 3, 3), (10, 2, 4)])
def test_a_spread_start(experts, redundant, gpus):
    slots = spread.spread_start(experts, redundant, gpus)
    copies = np.bincount(slots, minlength=experts)
    assert len(slots) == experts + redundant and copies.min() >= 1 and copies.max() <= 1 + -(-redundant // experts)
    each = np.array(slots).reshape(gpus, -1)
    assert all(len(set(row)) == len(row) for row in each.tolist())  # no two copies on a GPU
    row = torch.tensor(slots)
    assert ordered.most_homes(row, experts, each.shape[1]) == -(-experts // gpus)


def moe(num_experts, redundant):
    """What EplbState asks of a model."""
    physical = num_experts + redundant
    return types.SimpleNamespace(
        num_routed_experts=num_experts, num_redundant_experts=redundant, num_physical_experts=physical,
        num_logical_experts=num_experts, num_expert_groups=1, num_moe_layers=2, moe_layers=[],
        num_local_physical_experts=physical // GPUS, expert_weights=[[torch.zeros(physical // GPUS, 2)]] * 2,
        set_eplb_state=lambda *tensors: None,
    )  # fmt: skip


@pytest.fixture
def worker(vllm_modules, monkeypatch):  # noqa: F811
    """A worker of 4 that loads a model and gets its EPLB state, by vLLM's own code."""
    state = importlib.import_module(seams.EPLB_STATE)
    group = types.SimpleNamespace(world_size=GPUS, rank_in_group=0, ranks=list(range(GPUS)))
    monkeypatch.setattr(importlib.import_module("vllm.distributed.parallel_state"), "get_ep_group", lambda: group)
    monkeypatch.setattr(state, "create_eplb_communicator", lambda **more: None)
    monkeypatch.setattr(state, "get_eplb_group", lambda: None)
    monkeypatch.setattr(state, "PIN_MEMORY", False, raising=False)
    eplb = types.SimpleNamespace(use_async=False, window_size=2, step_interval=100, policy="default", communicator="torch_gloo")
    parallel = types.SimpleNamespace(eplb_config=eplb, num_ubatches=0, enable_elastic_ep=False, enable_dbo=False)
    hf = types.SimpleNamespace(architectures=["DeepseekV3ForCausalLM"])
    config = types.SimpleNamespace(parallel_config=parallel, additional_config={}, model_config=types.SimpleNamespace(hf_config=hf))
    monkeypatch.setattr(importlib.import_module("vllm.config"), "get_current_vllm_config_or_none", lambda: config)
    made = types.SimpleNamespace(config=config, hf=hf, parallel=parallel, module=state)

    def load(num_experts=16, redundant=8, dummy=False):
        """(the expert that each slot's weights are of, the model's state)."""
        held = None
        if not dummy:
            experts = importlib.import_module("vllm.model_executor.layers.fused_moe.routed_experts").RoutedExperts
            mapping = experts.build_expert_params_mapping("gate_proj", "down_proj", "up_proj", num_experts, redundant)
            held = {slot: int(name.split(".")[1]) for _, name, slot, _ in mapping}
            held = [held[slot] for slot in range(num_experts + redundant)]
        eplb_state = state.EplbState(parallel, torch.device("cpu"))
        eplb_state.add_model(moe(num_experts, redundant), Config())
        return held, next(iter(eplb_state.model_states.values()))

    made.load = load
    yield made
    plugin.unregister()


@pytest.mark.parametrize("how", ["environment", "additional_config"])
def test_the_loader_and_the_state_agree_on_a_spread_start(worker, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    worker.config.additional_config = {"metro": {"decode": "home"}} if how != "environment" else {"metro": {"max_tokens": 99}}
    plugin.register()
    held, state = worker.load()
    assert state.physical_to_logical_map.tolist() == [held, held]
    assert held == spread.spread_start(16, 8, GPUS)
    homes = state.logical_to_physical_map[:, :, 0]
    assert torch.bincount(homes[0] // 6).tolist() == [4] * GPUS
    assert torch.equal(state.physical_to_logical_map[1][homes[1]], torch.arange(16))


@pytest.mark.parametrize("why", ["dummy", "architecture", "elastic", "start", "hash"])
def test_where_weights_are_not_loaded_by_the_map_the_start_is_vllms(worker, monkeypatch, why):
    monkeypatch.setenv("METRO_VLLM_DECODE", "hash" if why == "hash" else "home")
    monkeypatch.setenv("METRO_VLLM_PREFILL", "hash")
    if why == "architecture":
        worker.hf.architectures = ["DeepseekV4ForCausalLM"]
    if why == "start":
        monkeypatch.setenv("METRO_VLLM_START", "stock")
    if why == "elastic":
        worker.parallel.enable_elastic_ep = True
        worker.parallel.elastic_ep_max_dp_size = worker.parallel.data_parallel_size = 1
        monkeypatch.setattr(worker.module, "get_ep_group", lambda: types.SimpleNamespace(world_size=GPUS))
    plugin.register()
    held, state = worker.load(dummy=why == "dummy")
    stock = [*range(16), *range(8)]
    assert state.physical_to_logical_map[0].tolist()[:24] == stock and held in (None, stock)


def tensors(num_experts, kinds):
    """A layer's checkpoint: (name, tensor) by expert, or of all at once."""
    for kind in kinds:
        if kind == "fused":
            yield "gate_up_proj", torch.zeros(num_experts, 4, 2)
            yield "down_proj", torch.zeros(num_experts, 2, 2)
        for e in range(num_experts if kind == "by expert" else 0):
            for part in ("gate_proj", "up_proj", "down_proj"):
                yield f"{e}.{part}.weight", torch.full((2, 2), float(e))


class Param:
    """Keeps what vLLM's loader puts into each slot."""

    def __init__(self):
        self.slots = {}

    def weight_loader(self, param, loaded_weight, weight_name, shard_id, expert_id, return_success):
        self.slots.setdefault(expert_id, []).append(int(loaded_weight.flatten()[0]))
        return True


def layer_of(num_experts, redundant):
    """What RoutedExperts.load_weights of both versions asks of a layer."""
    owner = importlib.import_module(seams.EXPERTS_MODULE).RoutedExperts

    class Layer:
        load_weights = owner.load_weights
        _orient_fused_weight = staticmethod(getattr(owner, "_orient_fused_weight", None))
        layer_name, is_fused_checkpoint_transposed = "model.layers.0.mlp.experts", False
        moe_config = types.SimpleNamespace(hidden_dim_unpadded=2, is_act_and_mul=True)

        def get_expert_mapping(self, include_fused=False):
            return owner.build_expert_params_mapping(
                "gate_proj", "down_proj", "up_proj", num_experts, redundant, include_fused=include_fused, routed_experts_prefix=""
            )

    layer = Layer()
    layer.w13_weight, layer.w2_weight = Param(), Param()
    return layer


@pytest.mark.parametrize("kinds", [["by expert"], ["fused"], ["fused", "by expert"]])
def test_layers_that_load_themselves_tell_how(worker, monkeypatch, caplog, kinds):
    """vLLM's own layer loader, of any architecture: by expert the start is spread, fused it is vLLM's."""
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    worker.hf.architectures = ["SomeMoeForCausalLM"]
    plugin.register()
    layers = [layer_of(16, 8) for _ in range(2)]
    for layer in layers:
        assert set(layer.load_weights(tensors(16, kinds))) == {"w13_weight", "w2_weight"}
    _, state = worker.load(dummy=True)
    held = state.physical_to_logical_map[0].tolist()
    is_spread = kinds == ["by expert"]
    assert held == (spread.spread_start(16, 8, GPUS) if is_spread else [*range(16), *range(8)])
    if "by expert" in kinds:
        for layer in layers:
            assert {slot: values[-1] for slot, values in layer.w2_weight.slots.items()} == dict(enumerate(held))
    assert caplog.text.count("the checkpoint has fused experts") == (0 if is_spread else 1)


@pytest.mark.parametrize("where", ["in a layer", "in the next"])
def test_fused_experts_behind_a_spread_start_end_it(worker, monkeypatch, where):
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    first = ["by expert", "fused"] if where == "in a layer" else ["by expert"]
    with pytest.raises(seams.RanksDiffer, match="METRO_VLLM_START=stock"):
        for kinds in (first, ["fused"]):
            list(layer_of(16, 8).load_weights(tensors(16, kinds)))


def test_a_second_model_does_not_change_how_the_first_was_loaded(worker, monkeypatch):
    """A drafter with as many experts, whose loop is not known, asks behind the target."""
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    list(layer_of(16, 8).load_weights(tensors(16, ["by expert"])))
    worker.hf.architectures = ["SomeDrafter"]
    held, state = worker.load()
    assert held == state.physical_to_logical_map[0].tolist() == spread.spread_start(16, 8, GPUS)
    held, state = worker.load()  # another engine of this process
    assert held == state.physical_to_logical_map[0].tolist()[:24] == [*range(16), *range(8)]


def test_homes_stay_first_through_sync_and_async_commits(worker, monkeypatch):
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    _, state = worker.load()
    address = state.logical_to_physical_map.data_ptr()
    for seed in range(6):
        random = np.random.default_rng(seed)
        rows = torch.tensor([random_layer(random, 16, 8) for _ in range(2)])
        if seed % 2:
            worker.module._commit_eplb_maps(state, rows)
        else:  # as asynchronous EPLB does, one layer a step
            for layer in range(2):
                worker.module._commit_eplb_maps_for_layer(state, rows[layer], layer)
        for row, table, count in zip(rows, state.logical_to_physical_map, state.logical_replica_count):
            want, counts = tables(row.tolist(), 16, width=table.shape[1])
            assert torch.equal(count, counts) and torch.equal(table.sort(1).values, want.sort(1).values)
            assert torch.bincount(table[:, 0] // 6).max() == ordered.most_homes(row, 16, 6)
        assert state.logical_to_physical_map.data_ptr() == address


def test_without_the_plugin_vllm_orders_by_slot(worker):
    plugin.register()
    _, state = worker.load()
    assert torch.equal(state.logical_to_physical_map[0], tables([*range(16), *range(8)], 16, 1024)[0])


def test_a_drafter_is_ordered_too(worker, monkeypatch):
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    _, first = worker.load()
    state = worker.module.EplbState(worker.parallel, torch.device("cpu"))
    state.add_model(moe(16, 8), Config("tiny", "drafter"))
    state.add_model(moe(16, 8), Config("tiny"))
    for model in state.model_states.values():
        assert torch.bincount(model.logical_to_physical_map[0, :, 0] // 6).tolist() == [4] * GPUS
    assert sorted(name for name, _ in plugin._plugin.connector.states.values())[-2:] == ["tiny 2", "tiny 3"]
