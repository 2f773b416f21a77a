# SPDX-License-Identifier: Apache-2.0
"""The router with tables of its own and vLLM's beside them; a plain one stands for the CUDA router."""

import logging
import sys

import pytest
import torch
from choice_reference import choose, serve
from engine import Layers, context, needs_interpreter, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import op, seams
from metro_moe.vllm.cuda_backend import CudaBackend
from metro_moe.vllm.settings import Settings

pytestmark = needs_interpreter
NUM_EXPERTS, NUM_GPUS = 16, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]
OTHER = [*range(NUM_EXPERTS), 7, 6, 1, 2, 15, 12, 8, 4]
IDS = torch.randint(0, NUM_EXPERTS, (6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


class Router:
    """The last replica of each expert, by the tables it was told of."""

    broken = False

    def __init__(self, physical_to_logical, num_gpus, policy, topk, max_tokens):
        self.maps = torch.from_numpy(physical_to_logical).clone()

    def update(self, layer, replica_to_expert, stream):
        if Router.broken:
            raise RuntimeError("no such map")
        self.maps[layer] = torch.from_numpy(replica_to_expert)

    def serve_tensor(self, layer, ids, maps, num_valid=None):
        last = {int(e): slot for slot, e in enumerate(self.maps[layer])}
        return serve(ids, maps, last, None if num_valid is None else int(num_valid))


@pytest.fixture
def served(monkeypatch):
    """(backend, the stand-in's state module, a call): `metro` by the cuda backend."""
    monkeypatch.setattr(Router, "broken", False)
    module, _, _ = stand_in(monkeypatch)
    sys.modules["vllm.forward_context"].get_forward_context = context
    real = CudaBackend.__init__
    monkeypatch.setattr(CudaBackend, "__init__", lambda this, *a: real(this, *a, router_class=Router))
    monkeypatch.setenv("METRO_VLLM_DECODE", "metro")
    monkeypatch.setenv("METRO_VLLM_BACKEND", "cuda")
    plugin.register()
    layers = Layers(SLOTS, NUM_EXPERTS)
    call = lambda layer=0, num_real=None: layers.call(getattr(module, seams.FUNCTION), IDS, layer, num_real)  # noqa: E731
    return op.exact, sys.modules[seams.EPLB_STATE], layers, call


def hashed(layers, layer=0, num_real=None):
    return choose(IDS, layers.table[layer], layers.count[layer], "hash", NUM_GPUS, num_real)[0]


def faults(backend):
    (model,) = backend.routers.values()
    return model.faults.sum(0).tolist()


def test_its_answer_is_served_and_padding_repeats_a_real_row(served):
    backend, _, layers, call = served
    out = call(num_real=5)
    last = {e: slot for slot, e in enumerate(SLOTS)}
    assert out.tolist() == [[last[int(e)] for e in IDS[row]] for row in (0, 1, 2, 3, 4, 0)]
    assert layers.load[0].sum() == 20 and faults(backend) == [0, 0]


def test_commits_are_followed(served):
    backend, state, layers, call = served
    call()
    state._commit_eplb_maps(layers, torch.tensor([OTHER, SLOTS, OTHER]))
    state._commit_eplb_maps_for_layer(layers, torch.tensor(OTHER), layer=1)
    for layer in range(3):
        assert torch.equal(layers.experts(call(layer), layer), IDS)
        assert not torch.equal(call(layer), hashed(layers, layer))
    assert faults(backend) == [0, 0]


def test_a_commit_that_it_could_not_follow_goes_to_the_hash_for_that_layer_alone(served, caplog):
    backend, state, layers, call = served
    call()
    Router.broken = True
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            state._commit_eplb_maps_for_layer(layers, torch.tensor(OTHER), 1)
    assert caplog.text.count("no such map") == 1 and plugin.status()["off"] == ""
    # A captured graph runs the op, not the host's code around it.
    arguments = list(layers.arguments(IDS, 1).values())
    assert torch.equal(op.map_to_physical()(*arguments, None, "optimal", NUM_GPUS), hashed(layers, 1))
    assert faults(backend) == [IDS.numel(), 0]
    assert not torch.equal(call(0), hashed(layers, 0))
    Router.broken = False
    state._commit_eplb_maps_for_layer(layers, torch.tensor(OTHER), 1)  # the next one that works brings it back
    assert not torch.equal(call(1), hashed(layers, 1))


def test_a_layer_stays_only_where_all_ranks_could_follow(served):
    backend, state, layers, call = served
    call()
    backend.all_agree = lambda fine: False
    state._commit_eplb_maps(layers, torch.tensor([OTHER] * 3))
    assert torch.equal(call(2), hashed(layers, 2))


def test_a_commit_that_was_never_told_changes_no_output(served):
    """The replayed op sees vLLM's tables: stale answers are counted, and none is served."""
    backend, _, layers, call = served
    call()
    layers.commit(OTHER, 1)  # behind its back
    out = call(1, num_real=5)
    assert torch.equal(layers.experts(out, 1)[:5], IDS[:5])
    not_live, stale = faults(backend)
    assert not_live == 0 and stale > 0


@pytest.mark.parametrize("policy", ["metro", "optimal"])
def test_every_policy_adds_to_the_checksum_that_it_is_given(served, policy):
    """`optimal` in the router's launch, the others behind theirs; padding is left out."""
    _, _, layers, call = served
    call()
    sums = []
    for num_real, padding in ((5, 0), (5, 3), (6, 3)):
        ids, checksum = IDS.clone(), torch.zeros(1, dtype=torch.int64)
        ids[5:] = padding
        arguments = list(layers.arguments(ids, 1, num_real).values())
        op.map_to_physical()(*arguments, None, policy, NUM_GPUS, checksum)
        sums.append(int(checksum))
    assert sums[0] == sums[1] != sums[2]


def test_checksums_tell_choices_apart():
    from metro_moe.vllm import checksum

    def of(ids, num_real=None):
        value = torch.zeros(1, dtype=torch.int64)
        checksum.add(value, ids, num_real)
        return int(value)

    want = 0  # as src/cuda/engine_rule.hpp has it
    for index, slot in enumerate(IDS.flatten().tolist()):
        term = ((index + 1) * 0x1E3779B97F4A7C15 + (slot + 2) * 0x3F58476D1CE4E5B9) % 2**64
        want += (term ^ (term >> 31)) * 0x14D049BB133111EB
    assert of(IDS) % 2**64 == want % 2**64
    changed = IDS.clone()
    changed[2, 1], changed[2, 2] = IDS[2, 2], IDS[2, 1]
    assert of(changed) != of(IDS) and of(changed, torch.tensor(2)) == of(IDS, torch.tensor(2))


@pytest.mark.parametrize("policy", ["optimal", "auto"])
def test_by_name_and_by_the_size_of_the_batch(monkeypatch, policy):
    module, _, _ = stand_in(monkeypatch)
    sys.modules["vllm.forward_context"].get_forward_context = context
    real = CudaBackend.__init__
    monkeypatch.setattr(CudaBackend, "__init__", lambda this, *a: real(this, *a, router_class=Router))
    monkeypatch.setenv("METRO_VLLM_DECODE", policy)
    monkeypatch.setenv("METRO_VLLM_AUTO_TOKENS", "4")
    plugin.register()
    layers, mapping = Layers(SLOTS, NUM_EXPERTS), getattr(module, seams.FUNCTION)
    last, first = {e: slot for slot, e in enumerate(SLOTS)}, {e: SLOTS.index(e) for e in range(NUM_EXPERTS)}
    for rows, by_size in ((4, last), (5, first)):
        want = last if policy == "optimal" else by_size
        assert layers.call(mapping, IDS[:rows]).tolist() == [[want[int(e)] for e in row] for row in IDS[:rows]]
    assert plugin.status()["calls"] == ({"optimal": 2} if policy == "optimal" else {"optimal": 1, "home": 1})


def test_auto_without_cuda_is_home_and_says_so_once(monkeypatch, caplog):
    module, _, _ = stand_in(monkeypatch)
    sys.modules["vllm.forward_context"].get_forward_context = context
    monkeypatch.setattr("metro_moe.cuda.is_built", lambda: False)
    monkeypatch.setenv("METRO_VLLM_DECODE", "auto")
    plugin.register()
    layers = Layers(SLOTS, NUM_EXPERTS)
    for _ in range(2):
        out = layers.call(getattr(module, seams.FUNCTION), IDS[:2])
        assert torch.equal(out, layers.table[0][IDS[:2].long(), 0].int())
    assert caplog.text.count("decode=auto serves home alone") == 1


def test_it_needs_cuda(monkeypatch):
    monkeypatch.setattr("metro_moe.cuda.is_built", lambda: False)
    with pytest.raises(RuntimeError, match="built with CUDA"):
        CudaBackend(Settings(decode="metro", backend="cuda"))
