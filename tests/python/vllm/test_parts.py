# SPDX-License-Identifier: Apache-2.0
"""Ranks that see a part of the batch: the choice after the gather, the exchange, and that all ranks agree."""

import logging
import sys
import threading

import pytest
import torch
from choice_reference import choose, max_activated
from engine import Config, Layers, context, needs_interpreter, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import agreement, exchange, seams
from metro_moe.vllm.gather import to_logical

NUM_EXPERTS, NUM_GPUS, RANKS = 16, 4, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]


def batches(seed, rows=3):
    """Each rank's rows, and how many of them are real; a rank may have none (-1, as the plugin marks it)."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, NUM_EXPERTS, (RANKS, rows, 2), generator=random, dtype=torch.int32)
    real = torch.randint(0, rows + 1, (RANKS,), generator=random).tolist()
    real[seed % RANKS] = rows
    return list(ids), [number or -1 for number in real]


def want(ids, real, layers, layer=0):
    """`metro` of the real rows of all ranks."""
    rows = torch.cat([rank[: max(0, n)] for rank, n in zip(ids, real)])
    return rows, choose(rows, layers.table[layer], layers.count[layer], "metro", NUM_GPUS)[0]


@pytest.fixture
def start(monkeypatch):
    def start(forward, **settings):
        module, _, _ = stand_in(monkeypatch)
        sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
        for name, value in {"decode": "metro", **settings}.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
        plugin.register()
        layers = Layers(SLOTS, NUM_EXPERTS)
        state = sys.modules[seams.EPLB_STATE].EplbState()
        state.add_model(layers, Config())
        return layers, getattr(module, seams.FUNCTION), state

    return start


def test_slots_become_experts_again():
    held = torch.tensor(SLOTS)
    ids = torch.tensor([[0, 23], [-1, 7], [99, 3]], dtype=torch.int32)
    assert to_logical(ids, held).tolist() == [[0, 15], [-1, 0], [-1, 5]]


@needs_interpreter
@pytest.mark.parametrize("seed", range(8))
def test_after_the_gather_every_rank_serves_metro_of_the_whole_batch(start, seed):
    layers, mapping, _ = start(context(dp_size=RANKS))
    ids, real = batches(seed)
    dispatch = getattr(sys.modules[seams.GATHER_MODULE], seams.GATHER_CLASS)
    answers, homes = [], []
    for rank in range(RANKS):  # what each rank sends
        homes.append(layers.call(mapping, ids[rank], num_real=real[rank]))
    for rank in range(RANKS):  # and what it makes of what it got
        mine = layers.call(mapping, ids[rank], num_real=real[rank])
        type.__setattr__(dispatch, "gather", staticmethod(lambda sent: torch.cat(homes)))
        answers.append(dispatch().prepare(ids[rank], None, mine)[3])
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    sent = layers.experts(torch.cat(homes))
    assert torch.equal(layers.experts(answers[0]), sent)
    rows, _ = want(ids, real, layers)
    got = torch.cat([a[: max(0, n)] for a, n in zip(answers[0].split(3), real)])
    assert torch.equal(layers.experts(got), rows)
    # Padding repeats real rows; only ranks without any may add expert 0.
    active = set(rows.flatten().tolist()) | ({0} if -1 in real else set())
    assert set(sent.flatten().tolist()) <= active
    everything = torch.cat([torch.as_tensor(sorted(active)).reshape(-1, 1)]).int()
    best = choose(everything, layers.table[0], layers.count[0], "metro", NUM_GPUS)[0]
    assert max_activated(answers[0], len(SLOTS), NUM_GPUS) <= max_activated(best, len(SLOTS), NUM_GPUS)


@needs_interpreter
def test_where_the_gather_does_not_come_home_stands(start):
    layers, mapping, _ = start(context(dp_size=RANKS))
    ids, _ = batches(0)
    out = layers.call(mapping, ids[0])
    assert torch.equal(out, layers.table[0, ids[0].long(), 0].int())
    assert plugin.status()["models"] == {"tiny": "gather"}


@needs_interpreter
def test_a_layer_that_stays_does_not_take_the_last_ones_choice(start):
    forward = context(dp_size=RANKS)
    layers, mapping, _ = start(forward)
    ids, _ = batches(0)
    dispatch = getattr(sys.modules[seams.GATHER_MODULE], seams.GATHER_CLASS)
    layers.call(mapping, ids[0])
    forward.batch_descriptor.uniform = False
    out = layers.call(mapping, ids[1], 1)
    assert dispatch().prepare(ids[1], None, out)[3] is out


@needs_interpreter
@pytest.mark.parametrize("forward", [dict(mode="NONE"), dict(mode="PIECEWISE"), dict(uniform=False)], ids=str)
@pytest.mark.parametrize("gathers", [True, False])
def test_what_ranks_could_see_differently_stays(start, forward, gathers):
    layers, mapping, _ = start(context(dp_size=RANKS, gathers=gathers, **forward), exchange="always")
    ids, _ = batches(0)
    out = layers.call(mapping, ids[0])
    assert torch.equal(out, choose(ids[0], layers.table[0], layers.count[0], "hash", NUM_GPUS)[0])


@needs_interpreter
def test_an_exception_after_the_gather_leaves_what_came(start, caplog):
    layers, mapping, _ = start(context(dp_size=RANKS))
    ids, _ = batches(0)
    out = layers.call(mapping, ids[0])
    plugin._plugin.connector.models[layers.count.data_ptr()].state.physical_to_logical_map = None
    dispatch = getattr(sys.modules[seams.GATHER_MODULE], seams.GATHER_CLASS)
    assert dispatch().prepare(ids[0], None, out)[3] is out
    assert plugin.status()["off"] and caplog.text.count("vLLM's own mapping") == 1
    connector = plugin._plugin.connector
    connector.off = ""
    next(iter(connector.models.values())).is_alone = False
    layers.call(mapping, ids[0])
    with pytest.raises(seams.RanksDiffer, match="METRO_VLLM_DECODE=hash"):  # other ranks go on
        dispatch().prepare(ids[0], None, out)


@needs_interpreter
def test_idle_ranks_are_marked_only_where_vllm_tells_padding(start):
    layers, mapping, state = start(context(dp_size=RANKS))
    layers.call(mapping, batches(0)[0][0])
    state.step()
    assert layers.num_unpadded_tokens_tensors[0] == 0  # never told: the number means nothing
    state.prepare_forward(Config(), 3)
    assert layers.num_unpadded_tokens_tensors[0] == 3
    state.step()
    assert layers.num_unpadded_tokens_tensors[0] == -1


@needs_interpreter
def test_without_data_parallelism_the_padding_is_left_alone(start):
    layers, mapping, state = start(context())
    layers.call(mapping, batches(0)[0][0])
    state.prepare_forward(Config(), 3)
    state.step()
    assert layers.num_unpadded_tokens_tensors[0] == 3


@needs_interpreter
def test_a_batch_that_is_gathered_before_the_mapping_stays(start, caplog):
    layers, mapping, _ = start(context(dp_size=RANKS, naive=True), decode="home")
    ids, _ = batches(0)
    layers.call(mapping, ids[0], num_real=1)
    assert "naive dispatch" in plugin.status()["off"]


# -- exchange


@pytest.mark.parametrize("num_experts", [8, 16, 100, 256])
def test_words_hold_what_is_active(num_experts):
    random = torch.Generator().manual_seed(num_experts)
    ids = [torch.randint(-1, num_experts + 2, (5, 3), generator=random) for _ in range(3)]
    real = [None, torch.tensor(2, dtype=torch.int32), torch.tensor(-1, dtype=torch.int32)]
    words = torch.cat([exchange.active_words(i, n, num_experts) for i, n in zip(ids, real)])
    rows = torch.cat([ids[0], ids[1][:2]]).flatten()
    active = {int(e) for e in rows if 0 <= e < num_experts}
    found = exchange.active_ids(words, num_experts).flatten().tolist()
    assert {e for e in found if e >= 0} == active and len(found) >= num_experts


@needs_interpreter
@pytest.mark.parametrize("seed", range(6))
def test_with_the_exchange_each_rank_maps_its_rows_as_for_the_whole_batch(start, seed):
    layers, mapping, _ = start(context(dp_size=RANKS, gathers=False), exchange="always")
    ids, real = batches(seed)
    words = torch.cat([
        exchange.active_words(rows, torch.tensor(n, dtype=torch.int32), NUM_EXPERTS) for rows, n in zip(ids, real)
    ])
    calls = []
    group = sys.modules["vllm.distributed.parallel_state"].get_ep_group()
    group.all_gather = lambda mine, dim: calls.append(mine) or words
    out = [layers.call(mapping, rows, num_real=n) for rows, n in zip(ids, real)]
    rows, best = want(ids, real, layers)
    got = torch.cat([o[: max(0, n)] for o, n in zip(out, real)])
    assert torch.equal(got, best)
    assert len(calls) == RANKS  # idle ranks too: the collective matches
    for sent, mine in zip(calls, words):
        assert torch.equal(sent[0], mine)
    assert plugin.status()["models"] == {"tiny": "exchange"}


@needs_interpreter
def test_an_exchange_that_costs_more_than_it_saves_is_not_made(start, caplog):
    forward = context(dp_size=RANKS, gathers=False)
    layers, mapping, _ = start(forward, exchange_us=1000)
    ids, _ = batches(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            out = layers.call(mapping, ids[0])
    assert torch.equal(out, choose(ids[0], layers.table[0], layers.count[0], "hash", NUM_GPUS)[0])
    assert caplog.text.count("costs more than it saves") == 1 and not plugin.status()["off"]


def test_the_modelled_gain():
    gain = lambda tokens, physical=384, us=10.0: exchange.modelled_gain_us(tokens, 8, 256, physical, 16, us)  # noqa: E731
    assert gain(32) > 30  # a few experts of 10 us
    assert gain(32, us=0.0) == 0
    assert gain(100_000) == pytest.approx(8 * 10)  # all replicas against all experts
    assert gain(100_000, physical=256) == 0


# -- all ranks or none


def agree_on(said, seconds=5.0, skip=()):
    store, verdicts = torch.distributed.HashStore(), {}

    def rank(index):
        verdicts[index] = agreement.agree(said[index], "m", list(range(len(said))), index, seconds, store)

    threads = [threading.Thread(target=rank, args=(i,)) for i in range(len(said)) if i not in skip]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return verdicts


def test_ranks_that_agree_are_on():
    assert set(agree_on(["a"] * 3).values()) == {""}
    assert agreement.agree("a", "m", [0], 0) == ""


def test_one_that_says_otherwise_turns_all_off_with_one_reason():
    verdicts = set(agree_on(["a", "a", "off: no Triton"]).values())
    assert verdicts == {"rank 0 has a, rank 2 has off: no Triton"}


@pytest.mark.parametrize("missing", [0, 1])
def test_one_that_never_comes_turns_the_others_off(missing):
    verdicts = agree_on(["a"] * 3, seconds=0.3, skip=(missing,))
    assert len(verdicts) == 2 and len(set(verdicts.values())) == 1
    assert f"rank {missing} does not answer" in verdicts.popitem()[1]


@needs_interpreter
def test_a_rank_that_is_off_is_off_everywhere(start, monkeypatch, caplog):
    layers, mapping, _ = start(context())
    monkeypatch.setattr(agreement, "agree", lambda mine, *rest: "rank 3 does not answer")
    layers.call(mapping, batches(0)[0][0])
    assert plugin.status()["off"] == "rank 3 does not answer" and caplog.text.count("rank 3") == 1


@pytest.mark.parametrize("other", [0, 1])
def test_ranks_that_commit_together_take_the_worst(start, monkeypatch, other):
    start(context())
    group = sys.modules["vllm.distributed.parallel_state"].get_ep_group()
    group.world_size, group.cpu_group = 2, "cpu"
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flag, op, group: flag.mul_(other))
    assert agreement.all_fine(True, group) == bool(other)
    assert not agreement.all_fine(False, group)
