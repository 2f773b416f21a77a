# SPDX-License-Identifier: Apache-2.0
"""Binding, gating and falling back, against a stand-in for vLLM (test_vllm_itself.py has the real one)."""

import logging
import sys

import pytest
import torch
from choice_reference import choose
from engine import Layers, context, needs_interpreter, served, stand_in
from torch import library as torch_ops

import metro_moe
from metro_moe import vllm as plugin
from metro_moe.vllm import replica_choice, seams
from metro_moe.vllm.op import map_to_physical

NUM_EXPERTS, NUM_GPUS = 16, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]
IDS = torch.randint(0, NUM_EXPERTS, (6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


@pytest.fixture
def layers():
    return Layers(SLOTS, NUM_EXPERTS)


@pytest.fixture
def start(monkeypatch):
    """Registers with settings and a forward context."""

    def start(forward=None, parameters=None, version="0.25.1", **settings):
        modules = stand_in(monkeypatch, parameters, version)
        forward = forward or context()
        sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
        for name, value in settings.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
        plugin.register()
        return modules

    return start


def mapping(module):
    return getattr(module, seams.FUNCTION, None) or module.their_name_for_it


def is_stock(out, num_real=None):
    table, count = Layers(SLOTS, NUM_EXPERTS).arguments(IDS)["logical_to_physical_map"], Layers(SLOTS, NUM_EXPERTS).count[0]
    return torch.equal(out, choose(IDS, table, count, "hash", NUM_GPUS, num_real)[0])


@needs_interpreter
@pytest.mark.parametrize("policy", ["home", "metro"])
def test_decode_is_mapped_and_prefill_is_not(start, layers, policy):
    forward = context()
    module, other, _ = start(forward, decode=policy)
    for caller in (module, other):  # the one that imported it by name too
        out = layers.call(mapping(caller), IDS, num_real=5)
        assert torch.equal(out, served(policy, IDS, layers, num_real=5))
        assert torch.equal(torch.tensor(SLOTS)[out][:5], IDS[:5])
    forward.batch_descriptor.uniform = False
    assert is_stock(layers.call(mapping(module), IDS))
    assert plugin.status()["calls"] == {policy: 2, "hash": 1}
    assert layers.load[0].sum() == 2 * 5 * 4 + IDS.numel() and layers.load[1:].sum() == 0


@needs_interpreter
def test_a_wrong_mapping_is_seen(start, layers, monkeypatch):
    """The check above can fail."""
    good = replica_choice.map_to_physical_and_record
    module, _, _ = start(decode="metro")
    monkeypatch.setattr(
        replica_choice, "map_to_physical_and_record", lambda *a, **k: (good(*a, **k) + 1) % len(SLOTS)
    )
    out = layers.call(mapping(module), IDS)
    assert not torch.equal(torch.tensor(SLOTS)[out], IDS)


@needs_interpreter
@pytest.mark.parametrize(
    ("forward", "decode"),
    [
        (dict(uniform=True), True),
        (dict(uniform=False, mode="NONE"), True),
        (dict(uniform=False, mode="NONE", max_query_len=7), False),
        (dict(uniform=False, mode="PIECEWISE"), False),
        (dict(uniform=False, mode="FULL"), False),
        (dict(ubatches=[0, 1]), False),
    ],
    ids=str,
)
def test_what_is_decode(start, layers, forward, decode):
    module, _, _ = start(context(**forward), decode="home")
    assert is_stock(layers.call(mapping(module), IDS)) != decode


@needs_interpreter
@pytest.mark.parametrize(("policy", "mapped"), [("metro", False), ("home", True)])
def test_ranks_that_see_a_part_of_the_batch(start, layers, caplog, policy, mapped):
    module, _, _ = start(context(dp_size=2, gathers=False), decode=policy, exchange="never")
    assert is_stock(layers.call(mapping(module), IDS)) != mapped
    assert ("use home" in caplog.text) != mapped


@needs_interpreter
def test_lora_and_large_batches_stay(start, layers):
    module, _, _ = start(context(lora=True), decode="home")
    assert is_stock(layers.call(mapping(module), IDS))
    assert "LoRA" in plugin.status()["off"]
    plugin.unregister()
    module, _, _ = start(decode="home", max_tokens=5)
    assert is_stock(layers.call(mapping(module), IDS))


def test_an_exception_of_ours_is_said_once_and_stock_serves(start, layers, caplog, monkeypatch):
    def broken(*arguments, **more):
        raise RuntimeError("broken")

    monkeypatch.setattr(replica_choice, "map_to_physical_and_record", broken)
    module, _, _ = start(decode="metro")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert is_stock(layers.call(mapping(module), IDS))
    assert caplog.text.count("broken") == 1


@needs_interpreter
@pytest.mark.parametrize("policy", ["home", "metro"])
def test_after_all_ranks_agreed_an_error_ends_the_rank_and_says_what_to_set(start, layers, monkeypatch, policy):
    """Were it to go on with the hash, tokens would be computed twice or not at all."""
    from metro_moe.vllm import agreement

    module, _, _ = start(decode=policy)
    sys.modules["vllm.distributed.parallel_state"].get_ep_group().world_size = 4
    monkeypatch.setattr(agreement, "agree", lambda *a: "")
    layers.call(mapping(module), IDS, num_real=5)

    def broken(*arguments, **more):
        raise RuntimeError("broken")

    monkeypatch.setattr(plugin._plugin.connector, "serve", broken)
    with pytest.raises(seams.RanksDiffer, match="METRO_VLLM_DECODE=hash.*broken"):
        layers.call(mapping(module), IDS, num_real=5)
    assert plugin.status()["off"] == ""


@needs_interpreter
@pytest.mark.parametrize("policy", ["hash", "home", "metro"])
def test_rows_that_vllm_masked_stay_masked(start, layers, policy):
    """vLLM 0.33 gives padded rows -1 before the mapping: no replica, no count."""
    module, _, _ = start(decode=policy)
    ids = IDS.clone()
    ids[4:] = -1
    for num_real in (None, 4, 6, -1):  # the V2 runner tells an idle rank's rows as real
        layers.load.zero_()
        out = layers.call(mapping(module), ids, num_real=num_real)
        assert (out[4:] == -1).all() and (out[:4] >= 0).all()
        assert layers.load.sum() == (16 if num_real is None else 4 * max(0, min(4, num_real)))


@pytest.mark.parametrize("parameters", ["topk_ids", "topk_ids, load, tables", "topk_ids, *rest"])
def test_an_unknown_signature_stays(start, caplog, parameters):
    module, other, stock = start(decode="metro", parameters=parameters)
    assert mapping(module) is stock and mapping(other) is stock
    assert caplog.text.count("vLLM stays as it is") == 1


def test_a_vllm_without_the_mapping_stays(monkeypatch, caplog):
    module, _, _ = stand_in(monkeypatch)
    monkeypatch.delattr(module, seams.FUNCTION)
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    plugin.register()
    assert "has no" in caplog.text and plugin.status()["off"]


def test_nothing_happens_unless_asked(start):
    module, _, stock = start()
    assert mapping(module) is stock


def test_registering_twice_and_taking_back(start):
    module, other, stock = start(decode="home")
    once = mapping(module)
    plugin.register()
    assert mapping(module) is once is mapping(other) is not stock
    plugin.unregister()
    assert mapping(module) is stock and mapping(other) is stock


@needs_interpreter
def test_the_op_is_what_its_schema_and_fake_say(layers):
    arguments = (IDS, layers.load[0], layers.table[0], layers.count[0], layers.record, None, None, "home", NUM_GPUS)
    torch_ops.opcheck(map_to_physical(), arguments, test_utils=("test_schema", "test_faketensor"))


@needs_interpreter
def test_recording(start, layers, tmp_path):
    module, _, _ = start(decode="home", record=tmp_path, record_tokens=8, max_tokens=8)
    batches = [torch.randint(0, NUM_EXPERTS, (3, 4, 2)) for _ in range(4)]
    for batch in batches:  # three real rows of four each
        for layer in range(3):
            layers.call(mapping(module), batch[layer], layer, num_real=3)
    want = torch.cat([batch[:, :3].permute(1, 0, 2) for batch in batches])[-8:]
    recorder = plugin.current_recorder()
    assert torch.equal(recorder.tokens().long(), want)
    trace = metro_moe.read_trace(recorder.write())
    assert (trace.ids == want.numpy()).all() and trace.num_experts == NUM_EXPERTS
    recorder.reset()
    assert recorder.write() is None


@needs_interpreter
def test_rows_that_vllm_masked_are_not_recorded(start, layers, tmp_path):
    module, _, _ = start(decode="home", record=tmp_path, record_tokens=8, max_tokens=8)
    ids = torch.tensor([[1, 2], [-1, -1], [3, 4]])
    for layer in range(3):
        layers.call(mapping(module), ids, layer, num_real=3)
    assert plugin.current_recorder().tokens()[:, 0].tolist() == [[1, 2], [3, 4]]
