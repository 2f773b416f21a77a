# SPDX-License-Identifier: Apache-2.0
"""Environment and additional_config: which wins, and what is refused."""

import sys

import pytest
import torch
from engine import Config, EplbState, Layers, context, needs_interpreter, served, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import seams
from metro_moe.vllm.settings import Settings

SLOTS = [*range(8), 0, 1, 2, 3]


@pytest.mark.parametrize(
    "environment",
    [{"DECODE": "best"}, {"PREFILL": "metro"}, {"MAX_TOKENS": "many"}, {"MAX_TOKENS": "0"}, {"BACKEND": "x"},
     {"POLICY": "home"}, {"RECORD": "x", "RECORD_TOKENS": "1"}, {"EXCHANGE": "yes"}, {"PLACEMENT": "eplb"},
     {"METRICS": "-1"}],
    ids=str,
)  # fmt: skip
def test_bad_environment(environment):
    with pytest.raises(ValueError, match="METRO_VLLM_"):
        Settings.read(None, {f"METRO_VLLM_{name}": value for name, value in environment.items()})


@pytest.mark.parametrize(
    "config",
    [{"polcy": "home"}, {"decode": 3}, {"decode": "best"}, {"max_tokens": "5"}, {"max_tokens": True}, [], "home"],
    ids=str,
)
def test_bad_additional_config(config):
    with pytest.raises(ValueError, match="additional_config|METRO_VLLM_"):
        Settings.read({"metro": config}, {})


def test_the_environment_wins_and_the_rest_adds_up():
    config = {"metro": {"decode": "metro", "max_tokens": 7}, "another": 1}
    settings = Settings.read(config, {"METRO_VLLM_DECODE": "home", "PATH": "x"})
    assert (settings.decode, settings.max_tokens, settings.prefill) == ("home", 7, "hash")
    assert Settings.read(config, {}).decode == "metro" and Settings.read(config, {}).is_on
    assert not Settings.read(None, {}).is_on and not Settings.read({"another": 1}, {}).is_on


@pytest.fixture
def load_model(monkeypatch):
    """Registers, then gives a model its EPLB tables under a configuration, as a worker does."""

    def load_model(config, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", value)
        module, _, stock = stand_in(monkeypatch)
        sys.modules["vllm.forward_context"].get_forward_context = context
        plugin.register()
        sys.modules["vllm.config"].get_current_vllm_config_or_none = lambda: type("C", (), {"additional_config": config})
        layers = Layers(SLOTS, 8)
        sys.modules[seams.EPLB_STATE].EplbState().add_model(layers, Config())
        ids = torch.tensor([[0, 1], [2, 5]])
        return layers, lambda: layers.call(getattr(module, seams.FUNCTION), ids), getattr(module, seams.FUNCTION) is stock

    return load_model


@needs_interpreter
def test_additional_config_binds_when_the_model_is_there(load_model):
    layers, call, is_stock = load_model({"metro": {"decode": "home"}})
    assert not is_stock and torch.equal(call(), layers.table[0, [[0, 1], [2, 5]], 0])
    assert plugin.status()["models"] == {"tiny": "whole"}


@pytest.mark.parametrize("config", [None, {}, {"another": 1}], ids=str)
def test_nothing_happens_unless_asked(load_model, config):
    assert load_model(config)[2]


def test_a_misspelt_key_is_refused_with_one_warning(load_model, caplog):
    _, _, is_stock = load_model({"metro": {"decod": "home"}})
    sys.modules[seams.EPLB_STATE].EplbState().add_model(Layers(SLOTS, 8), Config("again"))
    assert is_stock and caplog.text.count("'decod', must be one of decode,") == 1


@needs_interpreter
def test_the_environment_wins_in_a_worker(load_model):
    layers, call, _ = load_model({"metro": {"decode": "metro", "max_tokens": 1}}, decode="home")
    assert torch.equal(call(), served("hash", torch.tensor([[0, 1], [2, 5]]), layers))  # max_tokens is from the configuration
    assert plugin.status()["calls"] == {"hash": 1}


@pytest.mark.parametrize("field", ["enable_elastic_ep", "enable_dbo"])
def test_what_a_parallel_config_may_not_have(load_model, caplog, field):
    layers, call, _ = load_model({"metro": {"decode": "home"}})
    config = EplbState().parallel_config
    setattr(config, field, True)
    sys.modules[seams.EPLB_STATE].EplbState(config).add_model(layers, Config())
    assert torch.equal(call(), served("hash", torch.tensor([[0, 1], [2, 5]]), layers))
    assert caplog.text.count("not supported") == 1 and plugin.status()["fallbacks"] == 1
