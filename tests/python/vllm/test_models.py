# SPDX-License-Identifier: Apache-2.0
"""Several models at once, versions, and every module that holds the function."""

import logging
import sys

import pytest
import torch
from choice_reference import choose
from engine import Config, Layers, context, needs_interpreter, served, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import seams

TARGET, DRAFTER = [*range(8), 0, 1, 2, 3], [*range(4), 3, 2]


@needs_interpreter
def test_a_model_and_its_drafter_have_entries_of_their_own(monkeypatch):
    module, _, _ = stand_in(monkeypatch)
    models = {"target": Layers(TARGET, 8), "drafter": Layers(DRAFTER, 4, num_layers=1)}
    forward = context(ep_size=2)
    forward.no_compile_layers["experts"].eplb_state.logical_replica_count = models["target"].count[0]
    other = context(ep_size=2).no_compile_layers["experts"]
    other.eplb_state.logical_replica_count = models["drafter"].count[0]
    forward.no_compile_layers["drafter"] = other
    sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    monkeypatch.setenv("METRO_VLLM_METRICS", "1")
    plugin.register()
    state = sys.modules[seams.EPLB_STATE].EplbState()
    for name, layers in models.items():  # a drafter may be a part of the same model
        state.add_model(layers, Config("tiny", name))
    for seed in range(4):
        for name, layers in models.items():
            layer = seed % len(layers.count)
            ids = torch.randint(0, layers.num_experts, (5, 2), generator=torch.Generator().manual_seed(seed))
            out = layers.call(getattr(module, seams.FUNCTION), ids, layer)
            assert torch.equal(out, choose(ids, layers.table[layer], layers.count[layer], "metro", 2)[0]), name
    assert plugin.status()["models"] == {"tiny": "whole", "tiny 2": "whole"}
    sources = plugin._plugin.connector.sources()
    assert [rows[0].shape[0] for rows in sources.values()] == [3, 1]
    assert [int(rows[0][:, 0].sum()) for rows in sources.values()] == [4, 4]


@needs_interpreter
def test_a_drafter_that_is_not_known_does_not_stop_the_model(monkeypatch, caplog):
    module, _, _ = stand_in(monkeypatch)
    target, drafter = Layers(TARGET, 8), Layers(DRAFTER, 4)
    forward = context(ep_size=2)
    forward.no_compile_layers["experts"].eplb_state.logical_replica_count = target.count[0]
    sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    ids, mapping = torch.tensor([[1, 2]]), getattr(module, seams.FUNCTION)
    for _ in range(2):
        assert torch.equal(target.call(mapping, ids), target.table[0][ids, 0])
        assert torch.equal(drafter.call(mapping, ids), served("hash", ids, drafter))
    status = plugin.status()
    assert status["off"] == "" and status["fallbacks"] == 2 and status["calls"] == {"home": 2}
    assert caplog.text.count("vLLM's own mapping for model 1") == 1


@needs_interpreter
@pytest.mark.parametrize(("what", "why"), [("tables", "no MoE layer"), ("moe_config", "in a way that is not known")])
def test_a_layer_that_is_not_known_stays(monkeypatch, caplog, what, why):
    module, _, _ = stand_in(monkeypatch)
    layers, forward = Layers(TARGET, 8), context(ep_size=2)
    experts = forward.no_compile_layers["experts"]
    if what == "tables":
        experts.eplb_state.logical_replica_count = torch.zeros(8)
    else:
        del experts.moe_config
    sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    plugin.register()
    ids = torch.tensor([[1, 2]])
    for _ in range(2):
        assert torch.equal(layers.call(getattr(module, seams.FUNCTION), ids), served("hash", ids, layers))
    assert caplog.text.count(why) == 1 and plugin.status()["fallbacks"] == 2


@needs_interpreter
@pytest.mark.parametrize("version", ["0.24.0", "0.34.0", "1.0"])
def test_an_unknown_version_that_looks_alike_is_served_by_home(monkeypatch, caplog, version):
    module, _, stock = stand_in(monkeypatch, version=version)
    sys.modules["vllm.forward_context"].get_forward_context = context
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    plugin.register()
    layers = Layers(TARGET, 8)
    sys.modules[seams.EPLB_STATE].EplbState().add_model(layers, Config())
    ids = torch.tensor([[1, 2], [3, 0], [5, 1]])
    assert torch.equal(layers.call(getattr(module, seams.FUNCTION), ids), served("home", ids, layers))
    assert caplog.text.count(f"vLLM {version} was not tried") == 1 and plugin.status()["calls"] == {"home": 1}


def test_strict_leaves_an_unknown_version_alone(monkeypatch, caplog):
    module, _, stock = stand_in(monkeypatch, version="0.34.0")
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    monkeypatch.setenv("METRO_VLLM_STRICT", "1")
    plugin.register()
    sys.modules[seams.EPLB_STATE].EplbState().add_model(Layers(TARGET, 8), Config())
    assert getattr(module, seams.FUNCTION) is stock
    assert caplog.text.count("vLLM 0.34.0 was not tried") == 1


@pytest.mark.parametrize("version", ["0.25.1", "0.25.1+cu130", "0.33.0", "0.34.0"])
def test_known_versions_and_any_if_asked(monkeypatch, version):
    module, other, stock = stand_in(monkeypatch, version=version)
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    monkeypatch.setenv("METRO_VLLM_ANY_VERSION", str(int(version == "0.34.0")))
    plugin.register()
    assert plugin._plugin.connector.settings.decode == "metro"
    assert getattr(module, seams.FUNCTION) is not stock
    assert other.their_name_for_it is getattr(module, seams.FUNCTION)  # by another name too
    assert sorted(plugin.status()["bound"]) == [seams.MODULE, "vllm.models.by_name"]
    late = sys.modules["vllm.models"].late = getattr(module, seams.FUNCTION)  # loaded after the plugin
    plugin.unregister()
    assert other.their_name_for_it is stock is getattr(module, seams.FUNCTION)
    assert sys.modules["vllm.models"].late is stock is not late


def test_other_packages_are_left_alone(monkeypatch):
    module, _, stock = stand_in(monkeypatch)
    foreign = type(sys)("vllm_ascend.router")
    foreign.mapping = stock
    monkeypatch.setitem(sys.modules, "vllm_ascend.router", foreign)
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    plugin.register()
    assert foreign.mapping is stock


def test_a_hook_that_does_not_fit_is_left_out(monkeypatch, caplog):
    module, _, stock = stand_in(monkeypatch)
    del sys.modules[seams.EPLB_STATE].EplbState.step
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    with caplog.at_level(logging.WARNING):
        plugin.register()
    assert getattr(module, seams.FUNCTION) is not stock and not caplog.text


def check_output(monkeypatch, capsys, version="0.33.0", arguments=(), **settings):
    from metro_moe.vllm import __main__ as command

    stand_in(monkeypatch, version=version)
    for name, value in settings.items():
        monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
    status = command.main(["check", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_check_says_what_would_be_bound(monkeypatch, capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["DeepseekV3ForCausalLM"], "n_routed_experts": 256}')
    status, out = check_output(monkeypatch, capsys, arguments=[tmp_path], decode="home")
    assert status == 0 and "vLLM 0.33.0: tested" in out and "served by home" in out
    assert "found    mapping of experts to replicas (every policy)" in out
    assert "MISSING  graphs of the V2 runner" in out  # the stand-in has none
    assert "DeepseekV3ForCausalLM: 256 experts; start of redundant experts: spread\n" in out


def test_check_of_an_unknown_version_and_of_nothing_asked(monkeypatch, capsys):
    status, out = check_output(monkeypatch, capsys, version="0.34.0", decode="optimal")
    assert status == 0 and "vLLM 0.34.0: not tried; known are 0.25.1, 0.33.0" in out and "served by home" in out
    status, out = check_output(monkeypatch, capsys, version="0.34.0", decode="optimal", strict=1)
    assert "served by hash (METRO_VLLM_STRICT=1)" in out
    monkeypatch.delenv("METRO_VLLM_DECODE")
    assert "nothing is asked for: set METRO_VLLM_DECODE=home" in check_output(monkeypatch, capsys)[1]


def test_check_of_a_model_without_a_config(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit, match="no config.json"):
        check_output(monkeypatch, capsys, arguments=[tmp_path])
