# SPDX-License-Identifier: Apache-2.0
"""Outputs are stock's, whatever the mapping state: random replicas, rearrangements, padding, empty ranks.

Against the stand-in, whose stock is a plain reading of vLLM's rule; test_vllm_itself.py has the real one.
"""

import sys

import numpy as np
import pytest
import torch
from choice_reference import tables
from engine import Config, Layers, context, needs_interpreter, stand_in
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from moe import outputs, random_layer

from metro_moe import vllm as plugin
from metro_moe.vllm import exchange, replica_choice, seams

pytestmark = needs_interpreter
few = settings(
    max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)  # shrinking runs the interpreter for minutes
shapes = st.sampled_from([(4, 4, 2), (8, 4, 4), (8, 8, 2), (9, 3, 3), (16, 8, 8)])  # experts, redundant, GPUs
seeds = st.integers(0, 2**31)


def register(monkeypatch, forward, **settings):
    """(the mapping, vLLM's own, the gathering class): a process that serves under these settings."""
    plugin.unregister()
    module, _, stock = stand_in(monkeypatch)
    sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
    for name, value in settings.items():
        monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
    plugin.register()
    return getattr(module, seams.FUNCTION), stock, getattr(sys.modules[seams.GATHER_MODULE], seams.GATHER_CLASS)


def layers_of(shape, random, mapping=None):
    num_experts, redundant, _ = shape
    layers = Layers(random_layer(random, num_experts, redundant), num_experts)
    sys.modules[seams.EPLB_STATE].EplbState().add_model(layers, Config())
    return layers


def check_whole(monkeypatch, policy, shape, seed):
    random = np.random.default_rng(seed)
    num_experts, redundant, num_gpus = shape
    mapping, stock, _ = register(monkeypatch, context(ep_size=num_gpus), decode=policy)
    layers = layers_of(shape, random)
    for _ in range(3):
        rows, layer = int(random.integers(1, 7)), int(random.integers(3))
        ids = torch.from_numpy(random.integers(0, num_experts, (rows, 2)))
        real = int(random.integers(1, rows + 1))
        weights = torch.from_numpy(random.random((real, 2)))
        held = layers.physical_to_logical_map[layer]
        ours = [layers.call(mapping, ids, layer, real)[:real] for _ in range(num_gpus)]
        want = [layers.call(stock, ids, layer, real)[:real]] * num_gpus
        assert torch.equal(outputs(ours, weights, held, num_gpus), outputs(want, weights, held, num_gpus))
        layers.commit(random_layer(random, num_experts, redundant), layer)
    assert plugin.status()["off"] == "" and policy in plugin.status()["calls"]


@given(shape=shapes, seed=seeds, policy=st.sampled_from(["home", "metro"]))
@few
def test_the_whole_batch_on_every_rank(monkeypatch, policy, shape, seed):
    check_whole(monkeypatch, policy, shape, seed)


def check_parts(monkeypatch, gathers, shape, seed):
    random = np.random.default_rng(seed)
    num_experts, redundant, num_gpus = shape
    forward = context(ep_size=num_gpus, dp_size=num_gpus, gathers=gathers)
    mapping, stock, dispatch = register(monkeypatch, forward, decode="metro", exchange="always")
    layers, rows = layers_of(shape, random), 2
    for layer in range(2):
        ids = [torch.from_numpy(random.integers(0, num_experts, (rows, 2))) for _ in range(num_gpus)]
        real = [int(random.choice([-1, 1, 2])) for _ in range(num_gpus)]
        held, views = layers.physical_to_logical_map[layer], []
        words = [exchange.active_words(i, torch.tensor(n, dtype=torch.int32), num_experts) for i, n in zip(ids, real)]
        sys.modules["vllm.distributed.parallel_state"].get_ep_group().all_gather = (
            lambda mine, dim, words=words: torch.cat(words)
        )
        sent = [layers.call(mapping, i, layer, n) for i, n in zip(ids, real)]
        if gathers:
            type.__setattr__(dispatch, "gather", staticmethod(lambda mine, sent=sent: torch.cat(sent)))
        for rank in range(num_gpus):
            mine = layers.call(mapping, ids[rank], layer, real[rank])
            views.append(dispatch().prepare(mine, None, mine)[3] if gathers else torch.cat(sent))
        stocks = torch.cat([layers.call(stock, i, layer, n) for i, n in zip(ids, real)])
        kept = torch.cat([torch.arange(rows) < n for n in real])
        weights = torch.from_numpy(random.random((int(kept.sum()), 2)))
        got = outputs([view[kept] for view in views], weights, held, num_gpus)
        assert torch.equal(got, outputs([stocks[kept]] * num_gpus, weights, held, num_gpus))
        layers.commit(random_layer(random, num_experts, redundant), layer + 1)
    assert plugin.status()["off"] == "" and plugin.status()["calls"]["metro"]


@given(shape=shapes, seed=seeds, gathers=st.booleans())
@few
def test_a_part_of_the_batch_on_each_rank(monkeypatch, gathers, shape, seed):
    check_parts(monkeypatch, gathers, shape, seed)


@pytest.mark.parametrize("check", [check_whole, check_parts])
def test_a_wrong_mapping_is_seen(monkeypatch, check):
    """The checks above can fail: every replica but one step further."""
    right = replica_choice.map_to_physical_and_record

    def wrong(ids, load, *rest, **more):
        return (right(ids, load, *rest, **more) + 1) % len(load)

    monkeypatch.setattr(replica_choice, "map_to_physical_and_record", wrong)
    with pytest.raises(AssertionError):
        for seed in range(4):
            check(monkeypatch, "metro" if check is check_whole else True, (8, 4, 4), seed)


def test_ranks_that_differ_are_seen():
    """And so can the layer: one rank that maps otherwise than the others."""
    held = torch.tensor([0, 1, 1, 0])
    table, count = tables(held.tolist(), 2)
    ids, weights = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.float64)
    first, last = table[ids, 0], table[ids, count[ids] - 1]
    want = outputs([first, first], weights, held, 2)
    assert torch.equal(outputs([last, last], weights, held, 2), want)
    assert not torch.equal(outputs([first, last], weights, held, 2), want)
