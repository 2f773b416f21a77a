# SPDX-License-Identifier: Apache-2.0
"""The plugin in vLLM's own modules, on the CPU: its mapping kernel, commits, policies, hooks and gather.

Skipped where vLLM is not installed; docs/vllm.md says how to run it. No model and no process group.
"""

import importlib
import inspect
import logging
import sys
import types

import numpy as np
import pytest
import torch
from choice_reference import choose
from engine import Config, Layers, context, needs_interpreter, served, vllm_modules  # noqa: F401
from moe import outputs, random_layer

from metro_moe import vllm as plugin
from metro_moe.vllm import replica_choice, seams

NUM_EXPERTS, NUM_GPUS = 16, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]
IDS = torch.randint(0, NUM_EXPERTS, (6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


@pytest.fixture
def serve(vllm_modules, monkeypatch):  # noqa: F811
    """Registers with settings; gives vLLM's own function as it was, and as it is now."""

    def serve(forward=None, **settings):
        plugin.unregister()
        stock = getattr(vllm_modules, seams.FUNCTION)
        group = type("Group", (), {"world_size": 1, "rank_in_group": 0, "ranks": [0]})()
        parallel = importlib.import_module("vllm.distributed.parallel_state")
        monkeypatch.setattr(parallel, "get_ep_group", lambda: group)
        forward = forward or context()
        monkeypatch.setattr(importlib.import_module("vllm.forward_context"), "get_forward_context", lambda: forward)
        for name, value in settings.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
        plugin.register()
        return stock, getattr(vllm_modules, seams.FUNCTION)

    return serve


def model_state(slots, num_experts, layers=2):
    """vLLM's EplbModelState, its tables filled by vLLM's own commit."""
    module = importlib.import_module(seams.EPLB_STATE)
    module.PIN_MEMORY = False  # 0.33 pins what it copies, which takes a driver
    fields = dict.fromkeys(module.EplbModelState.__dataclass_fields__)
    state = module.EplbModelState(**fields)
    state.physical_to_logical_map = torch.zeros(layers, len(slots), dtype=torch.int64)
    state.logical_to_physical_map = torch.full((layers, num_experts, 32), -1, dtype=torch.int64)
    state.logical_replica_count = torch.zeros(layers, num_experts, dtype=torch.int64)
    state.expert_load_pass = torch.zeros(layers, len(slots), dtype=torch.int32)
    state.num_unpadded_tokens_tensors = [torch.tensor(0, dtype=torch.int32)]
    state.physical_to_logical_map_buffer = state.physical_to_logical_map
    state.model = types.SimpleNamespace(num_local_physical_experts=len(slots) // NUM_GPUS)
    module._commit_eplb_maps(state, torch.tensor([slots] * layers))
    return state


def call(function, state, ids, layer, real):
    return function(
        topk_ids=ids, expert_load_view=state.expert_load_pass[layer], record_enabled=torch.tensor(True),
        logical_to_physical_map=state.logical_to_physical_map[layer],
        logical_replica_count=state.logical_replica_count[layer],
        num_unpadded_tokens=torch.tensor(real, dtype=torch.int32),
    )  # fmt: skip


def test_it_is_bound_and_taken_back(serve, caplog):
    with caplog.at_level(logging.DEBUG, "vllm.metro"):
        stock, now = serve(decode="metro", placement="homed")
    assert now is not stock and "left out" not in caplog.text and "no mapping after" not in caplog.text
    assert seams.MODULE in plugin.status()["bound"]
    assert not torch.cuda.is_initialized()
    policies = importlib.import_module(seams.EPLB_POLICY).EPLB_POLICIES
    assert set(policies) == {"default", "homed"}
    plugin.unregister()
    assert getattr(sys.modules[seams.MODULE], seams.FUNCTION) is stock
    assert set(policies) == {"default"} and policies["default"].__name__ == "DefaultEplbPolicy"


@needs_interpreter
@pytest.mark.parametrize("policy", ["hash", "home", "metro"])
def test_its_router_maps_through_the_plugin(serve, policy):
    serve(decode=policy, metrics=1)
    layers = Layers(SLOTS, NUM_EXPERTS)
    state = importlib.import_module(seams.EPLB_STATE).EplbLayerState()
    state.set_layer_state(1, layers.load, layers.table, layers.count)
    state.should_record_tensor = layers.record
    state.num_unpadded_tokens_tensors = [torch.tensor(5, dtype=torch.int32)]
    module = sys.modules[seams.MODULE]
    router_class = type("Router", (module.BaseRouter,), {"_compute_routing": None, "routing_method_type": None})
    out = router_class(4, len(SLOTS), state)._apply_eplb_mapping(IDS)
    assert torch.equal(out, served(policy, IDS, layers, 1, NUM_GPUS, 5))
    assert layers.load[1].sum() == 20 and plugin.status()["off"] == ""


def run(serve, policy, seeds, rearrange="policy"):
    """Outputs under stock and the plugin through vLLM's rearrangements."""
    module = importlib.import_module(seams.EPLB_STATE)
    policies = importlib.import_module(seams.EPLB_POLICY).EPLB_POLICIES
    for seed in seeds:
        random = np.random.default_rng(seed)
        stock, ours = serve(context(ep_size=NUM_GPUS), decode=policy)
        state = model_state(random_layer(random, NUM_EXPERTS, 8), NUM_EXPERTS)
        for step in range(4):
            rows, layer = int(random.integers(1, 7)), step % 2
            ids = torch.from_numpy(random.integers(0, NUM_EXPERTS, (rows, 2))).int()
            real = int(random.integers(1, rows + 1))
            held = state.physical_to_logical_map[layer]
            weights = torch.from_numpy(random.random((real, 2)))
            got = [call(ours, state, ids, layer, real)[:real] for _ in range(NUM_GPUS)]
            want = [call(stock, state, ids, layer, real)[:real]] * NUM_GPUS
            assert torch.equal(outputs(got, weights, held, NUM_GPUS), outputs(want, weights, held, NUM_GPUS))
            load = torch.from_numpy(random.random((2, NUM_EXPERTS)))
            new = policies["default"].rebalance_experts(load, 24, 1, 1, NUM_GPUS, state.physical_to_logical_map)
            if step % 2:  # as synchronous EPLB commits, or a layer at a time
                module._commit_eplb_maps(state, new)
            else:
                module._commit_eplb_maps_for_layer(state, new[layer], layer)
        assert plugin.status()["off"] == "" and plugin.status()["calls"][policy] == 4 * NUM_GPUS


@needs_interpreter
@pytest.mark.parametrize("policy", ["home", "metro"])
def test_outputs_are_its_own_through_its_rearrangements(serve, policy):
    run(serve, policy, range(4))


@needs_interpreter
def test_a_wrong_mapping_is_seen(serve, monkeypatch):
    right = replica_choice.map_to_physical_and_record
    wrong = lambda ids, load, *a, **k: (right(ids, load, *a, **k) + 1) % len(load)  # noqa: E731
    monkeypatch.setattr(replica_choice, "map_to_physical_and_record", wrong)
    with pytest.raises(AssertionError):
        run(serve, "metro", range(4))


@needs_interpreter
def test_homed_comes_through_its_policy_table_and_homes_stand_first(serve):
    pytest.importorskip("metro_moe._metro")
    _, ours = serve(context(ep_size=NUM_GPUS), decode="home", placement="homed")
    state = model_state(random_layer(np.random.default_rng(0), NUM_EXPERTS, 8), NUM_EXPERTS)
    plugin._plugin.connector.add_model(state, type("P", (), {}), "tiny")
    call(ours, state, IDS, 0, 6)  # all ranks agreed
    policy = importlib.import_module(seams.EPLB_POLICY).EPLB_POLICIES["default"]
    module = importlib.import_module(seams.EPLB_STATE)
    every = torch.arange(NUM_EXPERTS, dtype=torch.int32).reshape(4, 4)
    for seed in range(5):
        load = torch.rand(2, NUM_EXPERTS, generator=torch.Generator().manual_seed(seed))
        old = state.physical_to_logical_map.clone()
        new = policy.rebalance_experts(load, 24, 1, 1, NUM_GPUS, old)
        assert new.dtype == torch.int64 and new.shape == old.shape
        if seed % 2:
            module._commit_eplb_maps(state, new)
        else:
            for layer in range(2):
                module._commit_eplb_maps_for_layer(state, new[layer], layer)
        assert torch.equal(state.physical_to_logical_map, new)
        for layer in range(2):
            homes = state.logical_to_physical_map[layer, :, 0]
            assert torch.equal(new[layer][homes], torch.arange(NUM_EXPERTS))
            out = call(ours, state, every, layer, 4)
            assert torch.bincount(out.flatten().long() // 6, minlength=4).tolist() == [4] * 4  # E / GPUs each
            for expert in range(NUM_EXPERTS):  # the same replicas, in another order
                count = int(state.logical_replica_count[layer, expert])
                listed = sorted(state.logical_to_physical_map[layer, expert, :count].tolist())
                assert listed == (new[layer] == expert).nonzero().flatten().tolist()
        again = policy.rebalance_experts(load, 24, 1, 1, NUM_GPUS, new)
        assert torch.equal(again, new)  # what stays on its GPU stays in its slot
    assert "off" in plugin.status() and plugin.status()["off"] == ""


@needs_interpreter
def test_its_prepare_hands_over_the_gathered_batch(serve, monkeypatch):
    forward = context(ep_size=NUM_GPUS, dp_size=2)
    _, ours = serve(forward, decode="metro")
    module = importlib.import_module(seams.GATHER_MODULE)
    state = model_state(SLOTS, NUM_EXPERTS)
    plugin._plugin.connector.add_model(state, type("P", (), {}), "tiny")
    mine = call(ours, state, IDS[:3], 1, 3)
    other = call(ours, state, IDS[3:], 1, 3)
    call(ours, state, IDS[:3], 1, 3)

    class Group:
        def dispatch(self, a1, weights, ids, **more):
            assert torch.equal(ids, mine)
            return torch.cat([a1, a1]), torch.cat([weights, weights]), torch.cat([ids, other])

    monkeypatch.setattr(module, "get_ep_group", Group)
    monkeypatch.setattr(module, "_quantize_and_setup_dispatch", lambda a1, *rest: (a1, None, None))
    naive = module.MoEPrepareAndFinalizeNaiveDPEPModular()
    a1, _, _, ids, weights = naive.prepare(torch.ones(3, 2), torch.ones(3, 4), mine, 24, None, False, None)
    assert len(a1) == len(weights) == 6
    want = choose(IDS, state.logical_to_physical_map[1], state.logical_replica_count[1], "metro", NUM_GPUS)[0]
    assert torch.equal(ids, want) and plugin.status()["models"] == {"tiny": "gather"}


def test_its_stat_loggers_and_registry_are_met(serve, monkeypatch, tmp_path):
    import prometheus_client

    importlib.import_module("vllm.engine.arg_utils")  # as in the server's process
    loggers, prometheus = importlib.import_module(seams.LOGGERS), importlib.import_module(seams.PROMETHEUS)
    made = lambda self, vllm_config: setattr(self, "stat_loggers", [])  # noqa: E731
    monkeypatch.setattr(loggers.StatLoggerManager, "__init__", made)
    serve(metrics_folder=tmp_path)
    config = type("C", (), {"additional_config": {"metro": {"metrics": 1}}})
    (ours,) = loggers.StatLoggerManager(config).stat_loggers
    assert isinstance(ours, loggers.AggregateStatLoggerBase)
    names = [name for base in type(ours).__mro__ for name in vars(base) if not name.startswith("_")]
    for name in names:  # every one that this vLLM may call, record_admission_rejection of 0.33 among them
        arity = [n for n in inspect.signature(getattr(ours, name)).parameters if n not in ("arguments", "more")]
        getattr(ours, name)(*([0] * len(arity)))
    (tmp_path / "1.json").write_text('{"rank": 0, "fallbacks": 0, "models": {"m": {"calls": 1, "samples": 1, "ours": 3, '
                                     '"stock": 4, "nanoseconds": 5, "not_live": 0, "stale": 0}}}')  # fmt: skip
    prometheus.unregister_vllm_metrics()  # keeps ours
    assert b'vllm:metro_saved_share{model="m",rank="0"} 0.25' in prometheus_client.generate_latest(
        prometheus.get_prometheus_registry()
    )
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert b"vllm:metro_saved_share" in prometheus_client.generate_latest(prometheus.get_prometheus_registry())


def test_additional_config_reaches_it_when_a_model_gets_its_tables(serve, monkeypatch):
    stock, now = serve()
    assert now is stock
    config = importlib.import_module("vllm.config")
    given = type("C", (), {"additional_config": {"metro": {"decode": "home"}}})
    state = importlib.import_module(seams.EPLB_STATE)
    monkeypatch.setattr(config, "get_current_vllm_config_or_none", lambda: given)
    assert "get_current_vllm_config_or_none" in vars(config)
    with pytest.raises(AttributeError):  # it has no model; the hook comes first
        state.EplbState.add_model(object(), None, Config())
    assert getattr(sys.modules[seams.MODULE], seams.FUNCTION) is not stock
