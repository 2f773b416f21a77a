# SPDX-License-Identifier: Apache-2.0
"""The tables of policies and placements, and policies that are Python functions."""

import json

import numpy as np
import pytest

import metro_moe

FIELDS = [
    "name", "rule", "source", "needs", "splits", "counts_tokens", "single_replica", "uses_homes",
    "uses_shares", "uses_cost", "device", "headline", "route_us", "calibration_key",
]  # fmt: skip


@pytest.fixture(scope="module")
def trace():
    rng = np.random.default_rng(3)
    ids = np.stack([rng.permuted(np.tile(np.arange(8), (96, 1)), axis=1)[:, :2] for _ in range(3)], axis=1)
    ids[::7, 1, 0] = -1
    return metro_moe.RoutingTrace(ids.astype(np.int32), 8)


def compare(trace, policies, **more):
    options = {"gpus": [2, 4], "replication": [1.5], "tokens": [8], "batches": 4, **more}
    return metro_moe.compare(trace, policies=policies, **options)


def test_the_table_is_the_programs(cli):
    code, out, err = cli("policies", "--json")
    assert code == 0, err
    ours = [{field: getattr(row, field) for field in FIELDS} for row in metro_moe.policies()]
    assert json.loads(out)["policies"] == ours
    code, out, err = cli("policies", "--algorithms", "--json")
    rows = json.loads(out)["algorithms"]
    assert rows == [{field: getattr(row, field) for field in rows[0]} for row in metro_moe.placement_algorithms()]
    assert metro_moe.DEFAULT_POLICY in {row["name"] for row in ours}


def last(layer, topk_ids):
    slots = np.full(layer.num_experts + 1, -1)
    slots[layer.replica_to_expert] = np.arange(len(layer.replica_to_expert))
    return slots[topk_ids]  # -1 takes the entry behind the last expert


def as_optimal(layer, topk_ids):
    assert topk_ids.dtype == np.int32
    return metro_moe.Router(layer, "optimal").route(topk_ids)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_function_is_a_policy_like_others(trace, threads):
    rows = compare(trace, ["optimal", as_optimal, "even", ("mine", last), last], num_threads=threads)
    assert [row.policy for row in rows[:5]] == ["optimal", "as_optimal", "even", "mine", "last"]
    for at in range(0, len(rows), 5):
        optimal, own, even, mine, same = (row.as_dict() | {"policy": ""} for row in rows[at : at + 5])
        assert own == optimal
        assert mine == same
        assert mine["max_activated"] >= optimal["max_activated"]
        assert mine["vs_even"] == pytest.approx(mine["max_activated"] / even["max_activated"])


def broken(change):
    def policy(layer, topk_ids):
        return change(last(layer, topk_ids), topk_ids)

    return policy


def set_at(where, value):
    def change(slots, ids):
        slots[where] = value
        return slots

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at((0, 0), 99), r"what policy 'policy' gave \[0\]\[0\] is 99, must be a replica of expert \d: one of \d"),
        (set_at((2, 1), -1), r"\[2\]\[1\] is -1, must be a replica of expert"),
        (lambda slots, ids: np.roll(slots, 1), r"must be (a replica of expert|-1)"),
        (lambda slots, ids: np.where(ids == -1, 0, slots), r"is 0, must be -1: the id there is -1"),
        (lambda slots, ids: slots[:-1], r"has shape \[7, 2\], must be \[8, 2\] as topk_ids"),
    ],
)
def test_what_a_function_gives_is_checked(trace, change, message):
    with pytest.raises(metro_moe.InputError, match=message):
        compare(trace, [broken(change)], batches=16)


def test_what_is_no_array_of_ids_is_told(trace):
    with pytest.raises(TypeError, match="what policy 'policy' gave"):
        compare(trace, [broken(lambda slots, ids: None)])


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_of_a_function_comes_back(trace, threads):
    calls = []

    def fails(layer, topk_ids):
        calls.append(1)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        compare(trace, ["even", fails], num_threads=threads)
    assert len(calls) <= threads, "it is not called again"


def test_names_of_functions(trace):
    with pytest.raises(metro_moe.UsageError, match="policy 'optimal' is defined twice"):
        compare(trace, [("optimal", last)])
    with pytest.raises(metro_moe.UsageError, match="policy 'last' is defined twice"):
        compare(trace, [last, last])
    with pytest.raises(metro_moe.UsageError, match="unknown policy 'best', known: even"):
        compare(trace, ["best"])
    for wrong in [3, ("a", 3), ("a",), None, object()]:
        with pytest.raises(TypeError, match=r"policies\[1\]"):
            compare(trace, ["even", wrong])
