# SPDX-License-Identifier: Apache-2.0
"""The kernels against plain Python and against the C++ policies."""

import numpy as np
import pytest
import torch
from choice_reference import choose, max_activated, tables
from engine import needs_interpreter

import metro_moe
from metro_moe.vllm import replica_choice

pytestmark = needs_interpreter


def run(ids, table, count, policy, num_gpus, num_real=None, record=True):
    load = torch.zeros(int(count.sum()), dtype=torch.int32)
    real = None if num_real is None else torch.tensor(num_real, dtype=torch.int32)
    out = replica_choice.map_to_physical_and_record(
        ids, load, table, count, torch.tensor(record), real, policy=policy, num_gpus=num_gpus
    )
    return out, load


def layer(num_experts, num_redundant, seed):
    random = np.random.default_rng(seed)
    slots = [*range(num_experts), *random.integers(0, num_experts, num_redundant)]
    return [int(e) for e in random.permutation(slots)]


SHAPES = [(8, 4, 2), (16, 8, 4), (128, 64, 8), (16, 8, 1), (12, 4, 16), (128, 0, 64)]


@pytest.mark.parametrize("policy", replica_choice.POLICIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_the_kernels_are_the_reference(policy, shape, dtype):
    num_experts, num_redundant, num_gpus = shape
    random = np.random.default_rng(1)
    for seed, num_real in enumerate((None, 0, 3, 7, 9, 100, -1)):
        table, count = tables(layer(num_experts, num_redundant, seed), num_experts)
        ids = torch.from_numpy(random.integers(-1, num_experts + 1, (9, 4))).to(dtype)
        out, load = run(ids, table, count, policy, num_gpus, num_real)
        want, want_load = choose(ids, table, count, policy, num_gpus, num_real)
        assert out.dtype == dtype and torch.equal(out, want)
        assert torch.equal(load, want_load)
        assert run(ids, table, count, policy, num_gpus, num_real, record=False)[1].sum() == 0


@pytest.mark.parametrize("policy", replica_choice.POLICIES)
def test_the_logical_ids_come_back(policy):
    slots = layer(32, 16, 3)
    table, count = tables(slots, 32)
    ids = torch.randint(0, 32, (20, 8), generator=torch.Generator().manual_seed(0))
    out, _ = run(ids, table, count, policy, 8)
    assert torch.equal(torch.tensor(slots)[out], ids)


def test_metro_activates_what_the_library_does_and_home_one_replica_each():
    for seed in range(6):
        slots = layer(24, 16, seed)
        table, count = tables(slots, 24)
        placement = metro_moe.LayerPlacement(np.array(slots, np.int32), 24, 8)
        ids = torch.randint(0, 24, (12, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
        ours, _ = run(ids, table, count, "metro", 8)
        library = metro_moe.route(placement, ids.numpy(), "metro")
        assert np.array_equal(ours.numpy() // 5, library.replica_ids // 5)  # the same GPUs
        assert max_activated(ours, 40, 8) == library.metrics.max_activated
        home, _ = run(ids, table, count, "home", 8)
        assert len(home.unique()) == len(ids.unique())


def test_home_of_a_homed_placement_activates_an_even_share():
    num_experts, num_gpus = 32, 8
    placement = metro_moe.place(np.ones((1, num_experts)), 48, num_gpus, "homed").layers[0]
    table, count = tables(placement.replica_to_expert.tolist(), num_experts)
    for expert, slot in enumerate(placement.home.tolist()):  # the home stands first
        row = table[expert, : count[expert]].tolist()
        table[expert, : count[expert]] = torch.tensor([slot, *(s for s in row if s != slot)])
    every = torch.arange(num_experts, dtype=torch.int32).reshape(8, 4)
    out, _ = run(every, table, count, "home", num_gpus)
    assert max_activated(out, 48, num_gpus) == num_experts // num_gpus


def test_padding_activates_nothing():
    table, count = tables(layer(16, 8, 0), 16)
    ids = torch.randint(0, 16, (8, 2), generator=torch.Generator().manual_seed(2))
    for policy in ("home", "metro"):
        padded, _ = run(ids, table, count, policy, 4, num_real=3)
        alone, _ = run(ids[:3], table, count, policy, 4)
        assert torch.equal(padded[:3], alone)
        assert set(padded[3:].flatten().tolist()) <= set(alone.flatten().tolist())


def test_what_is_refused():
    table, count = tables(layer(8, 4, 0), 8)
    ids = torch.zeros((1, 2), dtype=torch.int32)
    for policy, num_gpus in (("optimal", 2), ("metro", 5), ("metro", 0), ("metro", 65)):
        with pytest.raises(ValueError, match="must be one of"):
            run(ids, table, count, policy, num_gpus)
    assert run(ids[:0], table, count, "metro", 2)[0].shape == (0, 2)
