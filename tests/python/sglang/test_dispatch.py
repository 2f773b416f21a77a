# SPDX-License-Identifier: Apache-2.0
"""The hooks on SGLang's own dispatch, location metadata, forward context and gate."""

import logging
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from conftest import EXPERTS, GPUS, LAYERS, REPLICAS, ForwardMode, random_rows, topk_module
from sglang.srt import plugins
from sglang.srt.eplb import expert_location_dispatch as dispatch
from sglang.srt.runtime_context import get_exec

import metro_moe
from metro_moe.homes import exact_homes

ROWS = random_rows(0)


def ids_of(rows=8, k=4, dtype=torch.int32, seed=0):
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(EXPERTS, k, replace=False) for _ in range(rows)]
    return torch.tensor(np.array(chosen), dtype=dtype)


def homes(rows, layer):
    return torch.from_numpy(exact_homes(rows[layer], EXPERTS, slots_per_gpu=REPLICAS // GPUS)).long()


def stock(server, ids, layer, **step):
    """What SGLang does without metro."""
    metro_moe.sglang.uninstall()
    with server.step(**step):
        return server.map(ids, layer)


@pytest.mark.parametrize("backend", ["none", "deepep"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_decode_goes_home_on_every_rank(server, backend, dtype):
    ids = ids_of(dtype=dtype)
    assert metro_moe.sglang.install("home")
    with server.exchange(backend):
        for rank in range(GPUS):
            server.place(ROWS, rank)
            for layer in range(LAYERS):
                for mode in (ForwardMode.DECODE, ForwardMode.TARGET_VERIFY):
                    with server.step(mode):
                        mapped = server.map(ids, layer)
                    assert mapped.dtype == dtype
                    assert torch.equal(mapped.long(), homes(ROWS, layer)[ids.long()])


def test_no_gpu_holds_more_homes_than_an_equal_share(server):
    metro_moe.sglang.install("home")
    server.place(ROWS)
    everything = torch.arange(EXPERTS).reshape(-1, 4)
    with server.step():
        gpus = server.map(everything, 3).flatten() // (REPLICAS // GPUS)
    assert torch.bincount(gpus, minlength=GPUS).max() <= EXPERTS // GPUS + 1


@pytest.mark.parametrize("policy", ["home", "optimal"])
@pytest.mark.parametrize(
    "step",
    [
        {"mode": ForwardMode.EXTEND, "extend": True},
        {"mode": ForwardMode.EXTEND},  # a prefill graph is captured with the flag cleared
        {"mode": ForwardMode.MIXED, "extend": True},
        {"mode": ForwardMode.SPLIT_PREFILL},
        {"mode": ForwardMode.DECODE, "extend": True},  # another rank of the batch prefills
        {"mode": ForwardMode.IDLE, "extend": True},
    ],
)
def test_prefill_is_stock(server, policy, step):
    server.place(ROWS)
    expected = stock(server, ids_of(), 3, **step)
    assert metro_moe.sglang.install(policy)
    with server.step(**step):
        assert torch.equal(server.map(ids_of(), 3), expected)


def test_an_idle_rank_takes_part_in_decode(server):
    server.place(ROWS)
    metro_moe.sglang.install("home")
    with server.step(ForwardMode.IDLE):
        assert torch.equal(server.map(ids_of(), 3).long(), homes(ROWS, 3)[ids_of().long()])


@pytest.mark.parametrize("policy", ["home", "optimal"])
def test_drafts_and_other_algorithms_are_stock(server, policy):
    server.place(ROWS)
    metro_moe.sglang.install(policy)
    with server.step():
        assert server.map(ids_of(), 3, is_draft=True) is not None
        assert torch.equal(server.map(ids_of(), 3, is_draft=True), ids_of()), "drafts keep logical ids"
        for algorithm in ("lp", "fake", None):
            with get_exec().moe.override(ep_dispatch_algorithm=algorithm):
                info = dispatch.ExpertLocationDispatchInfo.init_new(3)
                assert info is None if algorithm is None else info.ep_dispatch_algorithm == algorithm
                assert not hasattr(info, "_metro_route")
    assert torch.equal(server.map(ids_of(), 3), stock(server, ids_of(), 3)), "outside of any step"


def test_homes_follow_rebalancing_in_place(server):
    metadata = server.place(ROWS)
    metro_moe.sglang.install("home")
    with server.step():
        table = dispatch.ExpertLocationDispatchInfo.init_new(3).partial_logical_to_rank_dispatch_physical_map
        address, moved = table.data_ptr(), random_rows(1)
        metadata.update(server.metadata(moved), update_layer_ids=[3, 5])
        for layer in (2, 3, 5):
            rows = moved if layer in (3, 5) else ROWS
            assert torch.equal(server.map(ids_of(), layer).long(), homes(rows, layer)[ids_of().long()])
        info = dispatch.ExpertLocationDispatchInfo.init_new(3)
        assert info.partial_logical_to_rank_dispatch_physical_map.data_ptr() == address, "graphs read it there"
        assert torch.equal(table.long(), homes(moved, 3))
        server.place(random_rows(2))  # elastic EP: new metadata
        assert torch.equal(server.map(ids_of(), 3).long(), homes(random_rows(2), 3)[ids_of().long()])


def test_an_update_that_cannot_be_followed_is_an_error(server, monkeypatch):
    metadata = server.place(ROWS)
    metro_moe.sglang.install("home")
    with server.step():
        server.map(ids_of(), 3)
    monkeypatch.setattr("metro_moe.sglang.dispatch.exact_homes", lambda *a, **k: 1 / 0)
    with pytest.raises(metro_moe.DeviceError, match="unset METRO_SGLANG_DECODE"):
        metadata.update(server.metadata(random_rows(1)), update_layer_ids=[3])


# Policies that replace the mapping


def most_activated(mapped):
    slots = torch.unique(mapped[mapped >= 0])
    return int(torch.bincount(slots.long() // (REPLICAS // GPUS), minlength=GPUS).max())


def test_optimal_maps_the_real_rows_alone(server):
    metadata = server.place(ROWS)
    metro_moe.sglang.install("optimal")
    ids = ids_of(rows=12)
    for layer in range(LAYERS):
        with server.step(rows=12, real=5):
            mapped = server.map(ids, layer)
        assert mapped.dtype == ids.dtype
        assert (mapped[5:] == -1).all(), "rows that pad the batch activate nothing"
        back = metadata.physical_to_logical_map_cpu[layer][mapped[:5].long()]
        assert torch.equal(back, ids[:5].long())
        router = metro_moe.Router(metro_moe.LayerPlacement(ROWS[layer].astype(np.int32), EXPERTS, GPUS), "optimal")
        assert most_activated(mapped) == most_activated(torch.from_numpy(router.route(ids[:5].numpy())))


def test_optimal_follows_rebalancing(server):
    metadata = server.place(ROWS)
    metro_moe.sglang.install("optimal")
    moved = random_rows(1)
    with server.step():
        server.map(ids_of(), 3)
        metadata.update(server.metadata(moved), update_layer_ids=[3])
        mapped = server.map(ids_of(), 3)
    assert torch.equal(torch.from_numpy(moved[3])[mapped.long()], ids_of().long())


def test_optimal_leaves_large_steps_and_split_batches(server, caplog):
    server.place(ROWS)
    expected = stock(server, ids_of(), 3)
    metro_moe.sglang.install("optimal", max_tokens=7)
    with server.step():
        assert torch.equal(server.map(ids_of(), 3), expected)
    metro_moe.sglang.uninstall()
    metro_moe.sglang.install("optimal")
    with server.exchange("deepep"), server.step(), caplog.at_level(logging.WARNING):
        for layer in range(LAYERS):
            assert not hasattr(dispatch.ExpertLocationDispatchInfo.init_new(layer), "_metro_route")
    assert [record.levelno for record in caplog.records if record.name.startswith("metro")] == [logging.WARNING]
    assert "METRO_SGLANG_DECODE=home" in caplog.text


@pytest.mark.parametrize("policy", ["home", "optimal"])
def test_one_graph_of_the_compiled_function_serves_all_layers(server, policy):
    """SGLang compiles the function that maps and masks: no break in its graph, none anew for each layer."""
    server.place(ROWS)
    metro_moe.sglang.install(policy)
    function = topk_module._biased_grouped_topk_postprocess
    function = getattr(function, "_torchdynamo_orig_callable", function)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(function, dynamic=True, fullgraph=True, backend=counter)
    for layer in range(LAYERS):
        with server.step(real=5):
            real, info = topk_module.resolve_routing_inputs(layer_id=layer, is_draft=False)
            mapped = compiled(ids_of(), info, real)
            assert torch.equal(mapped, function(ids_of(), info, real))
        assert (mapped[5:] == -1).all() and (mapped[:5] >= 0).all()
    assert counter.frame_count <= 3


@pytest.mark.parametrize("policy", ["home", "optimal"])
def test_the_gate_itself(server, policy):
    """SGLang's TopK on the CPU, from logits to physical ids."""
    server.place(ROWS)
    metro_moe.sglang.install(policy)
    gate = topk_module.TopK(top_k=4, layer_id=3, is_draft=False)
    logits = torch.randn(8, EXPERTS, generator=torch.Generator().manual_seed(0))
    with server.step(real=6):
        chosen = gate.forward_native(torch.zeros(8, 16), logits)
    logical = torch.topk(logits.softmax(-1), 4).indices
    back = torch.from_numpy(ROWS[3])[chosen.topk_ids[:6].long()]
    assert torch.equal(back.sort(-1).values, logical[:6].sort(-1).values)
    assert (chosen.topk_ids[6:] == -1).all()


# The plugin


def load(monkeypatch, **environment):
    for name in ("METRO_SGLANG_DECODE", "METRO_SGLANG_MAX_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    entry = EntryPoint("metro", "metro_moe.sglang:register", plugins.GENERAL_PLUGINS_GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])
    monkeypatch.setattr(plugins, "_plugins_loaded", False)
    plugins.load_plugins()


def test_sglang_loads_the_plugin(server, monkeypatch, caplog):
    server.place(ROWS)
    expected = stock(server, ids_of(), 3)
    load(monkeypatch)
    with server.step():
        assert torch.equal(server.map(ids_of(), 3), expected), "off without the variable"
    with caplog.at_level(logging.INFO):
        load(monkeypatch, METRO_SGLANG_DECODE="home")
        with server.step():
            assert torch.equal(server.map(ids_of(), 3).long(), homes(ROWS, 3)[ids_of().long()])
    assert "metro: decode by home, the rest by SGLang; 12 layers, 16 experts in 24 slots on 4 GPUs" in caplog.text


@pytest.mark.parametrize(
    "environment",
    [{"METRO_SGLANG_DECODE": "best"}, {"METRO_SGLANG_DECODE": "optimal", "METRO_SGLANG_MAX_TOKENS": "many"}],
)
def test_a_wrong_setting_is_told_and_serves_stock(server, monkeypatch, caplog, environment):
    server.place(ROWS)
    expected = stock(server, ids_of(), 3)
    load(monkeypatch, **environment)
    assert repr(list(environment.values())[-1]) in caplog.text
    with server.step():
        assert torch.equal(server.map(ids_of(), 3), expected)


def test_an_unknown_sglang_stays_as_it_is(server, monkeypatch, caplog):
    def other(topk_ids, info, table):
        return topk_ids

    monkeypatch.setattr(dispatch, "topk_ids_logical_to_physical", other)
    assert not metro_moe.sglang.install("home")
    assert "known is (topk_ids, info, log2phy_prob)" in caplog.text
