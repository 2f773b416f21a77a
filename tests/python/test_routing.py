# SPDX-License-Identifier: Apache-2.0
import json

import hypothesis
import numpy as np
import pytest
from conftest import POLICIES, instances, least_max_activated
from hypothesis import given

import metro_moe


def replicas_of(layer, expert):
    return np.flatnonzero(layer.replica_to_expert == expert)


@pytest.mark.parametrize("policy", POLICIES)
@given(instance=instances())
def test_every_id_goes_to_one_replica_of_its_expert(policy, instance):  # invariant 1
    layer, topk_ids = instance
    before = topk_ids.copy()
    replica_ids = metro_moe.Router(layer, policy).route(topk_ids)
    assert (topk_ids == before).all()
    assert replica_ids.shape == topk_ids.shape
    masked = topk_ids == -1
    assert (replica_ids[masked] == -1).all()
    assert (layer.replica_to_expert[replica_ids[~masked]] == topk_ids[~masked]).all()


@pytest.mark.parametrize("policy", POLICIES)
@given(instance=instances())
def test_the_same_batch_gives_the_same_routing(policy, instance):  # invariant 3
    layer, topk_ids = instance
    router = metro_moe.Router(layer, policy, seed=7)
    first = router.route(topk_ids)
    router.route(np.flip(topk_ids))
    assert (router.route(topk_ids) == first).all()
    assert (metro_moe.Router(layer, policy, seed=7).route(topk_ids) == first).all()


@given(instance=instances())
def test_optimal_is_the_optimum(instance):  # invariant 4
    layer, topk_ids = instance
    best = metro_moe.route(layer, topk_ids, "optimal").metrics.max_activated
    assert best == least_max_activated(layer, topk_ids)
    for policy in POLICIES:
        assert best <= metro_moe.route(layer, topk_ids, policy).metrics.max_activated


@pytest.mark.parametrize("policy", [p.name for p in metro_moe.policies() if p.single_replica])
@given(instance=instances())
def test_single_replica_policies_wake_each_expert_once(policy, instance):  # invariant 5
    layer, topk_ids = instance
    active = set(topk_ids.ravel().tolist()) - {-1}
    assert metro_moe.route(layer, topk_ids, policy).metrics.activated_total == len(active)


@given(instance=instances())
def test_plain_readings(instance):
    layer, topk_ids = instance
    home = layer.home
    even, hashed, seen = np.full_like(topk_ids, -1), np.full_like(topk_ids, -1), {}
    for (row, k), expert in np.ndenumerate(topk_ids):
        if expert == -1:
            continue
        slots = replicas_of(layer, expert)
        even[row, k] = slots[seen.get(expert, 0) % len(slots)]
        seen[expert] = seen.get(expert, 0) + 1
        hashed[row, k] = slots[(row * 2654435769 % 2**32) % len(slots)]
    assert (metro_moe.Router(layer, "even").route(topk_ids) == even).all()
    assert (metro_moe.Router(layer, "hash").route(topk_ids) == hashed).all()
    if home is None:
        home = metro_moe.exact_homes(layer.replica_to_expert, layer.num_experts, layer.replica_to_gpu)
    at_home = np.where(topk_ids == -1, -1, home[topk_ids])
    assert (metro_moe.Router(layer, "home").route(topk_ids) == at_home).all()


@given(instance=instances())
def test_metrics_count_what_was_routed(instance):
    layer, topk_ids = instance
    replica_ids, metrics = metro_moe.route(layer, topk_ids, "even")
    used = replica_ids[replica_ids != -1]
    tokens = np.bincount(layer.replica_to_gpu[used], minlength=layer.num_gpus)
    activated = np.bincount(layer.replica_to_gpu[np.unique(used)], minlength=layer.num_gpus)
    assert (metrics.tokens_per_gpu == tokens).all()
    assert (metrics.activated_per_gpu == activated).all()
    assert (metrics.max_activated, metrics.activated_total) == (activated.max(), activated.sum())
    assert metrics.max_tokens == tokens.max()


@hypothesis.settings(max_examples=8)
@given(instance=instances())
def test_python_and_the_program_agree(cli, tmp_path_factory, instance):
    layer, topk_ids = instance
    folder = tmp_path_factory.mktemp("route")
    metro_moe.write_placement(metro_moe.Placement([layer]), folder / "p.json")
    np.save(folder / "b.npy", topk_ids)
    for policy in POLICIES:
        code, out, err = cli(
            "route", "--placement", folder / "p.json", "--topk", folder / "b.npy",
            "--policy", policy, "--seed", 3, "--json",
        )  # fmt: skip
        assert code == 0, err
        said = json.loads(out)
        result = metro_moe.route(layer, topk_ids, policy, seed=3)
        assert said["replica_ids"] == result.replica_ids.tolist()
        assert said["max_activated"] == result.metrics.max_activated
        assert said["activated_per_gpu"] == result.metrics.activated_per_gpu.tolist()
        assert said["tokens_per_gpu"] == result.metrics.tokens_per_gpu.tolist()


LAYER = metro_moe.LayerPlacement([0, 1, 2, 3, 0, 1], 4, 2)


def test_ids_that_are_no_expert_pass_as_masked():
    ids = np.array([[-1, 4, -2**62, 2**40, 3]])
    assert metro_moe.Router(LAYER).route(ids).tolist() == [[-1, -1, -1, -1, 3]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 4]], r"topk_ids\[0\]\[1\] is 4, must be an expert 0..3 or -1"),
        ([[-2]], r"topk_ids\[0\]\[0\] is -2"),
        ([[0.0]], "must be integers"),
        ([0, 1], r"must be integers \[tokens, topk\]"),
    ],
)
def test_route_checks_ids(ids, message):
    with pytest.raises(metro_moe.InputError, match=message):
        metro_moe.route(LAYER, ids)


def test_route_checks_the_rest():
    placement = metro_moe.Placement([LAYER])
    with pytest.raises(metro_moe.InputError, match="layer is 1"):
        metro_moe.route(placement, [[0]], layer=1)
    with pytest.raises(metro_moe.UsageError, match="unknown policy 'best'"):
        metro_moe.route(placement, [[0]], "best")
    with pytest.raises(metro_moe.MetroError) as caught:
        metro_moe.Router(LAYER, "static", num_nodes=3)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(ValueError, match=r"replica_ids\[0, 1\] is 6"):
        metro_moe.count_metrics(LAYER, [[0, 6]])


def test_an_empty_batch():
    result = metro_moe.route(LAYER, [])
    assert result.replica_ids.shape == (0, 0)
    assert result.metrics.max_activated == 0
