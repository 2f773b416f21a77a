# SPDX-License-Identifier: Apache-2.0
"""What experts cost, and policy `hybrid` under it."""

import json

import numpy as np
import pytest
from conftest import instances
from hypothesis import given
from hypothesis import strategies as st

import metro_moe

costs = st.builds(
    lambda steps, beyond, base: metro_moe.ExpertCost(np.cumsum([0, *steps]), beyond_us=beyond, base_us=base),
    st.lists(st.floats(0, 50), max_size=12), st.floats(0, 9), st.floats(0, 30),
)  # fmt: skip


def phi(cost, tokens):
    table = cost.phi_us
    return table[tokens] if tokens < len(table) else table[-1] + cost.beyond_us * (tokens - len(table) + 1)


def slowest(layer, replica_ids, cost):
    """The plain reading of the model."""
    tokens = np.bincount(replica_ids[replica_ids >= 0], minlength=len(layer.replica_to_gpu))
    us = np.full(layer.num_gpus, cost.base_us)
    for slot, n in enumerate(tokens):
        us[layer.replica_to_gpu[slot]] += phi(cost, n)
    return us


@given(instances(), costs)
def test_hybrid_is_at_most_its_rivals(instance, cost):  # invariant 9
    layer, topk_ids = instance
    route = lambda policy: metro_moe.Router(layer, policy, cost=cost).route(topk_ids)  # noqa: E731
    ours = route("hybrid")
    np.testing.assert_allclose(metro_moe.modelled_us(layer, ours, cost), slowest(layer, ours, cost))
    time = metro_moe.modelled_us(layer, ours, cost).max()
    assert metro_moe.time_bound_us(layer, topk_ids, cost) <= time
    for policy in ("home", "single", "optimal", "even"):
        assert time <= metro_moe.modelled_us(layer, route(policy), cost).max(), policy


def test_a_file_is_what_the_program_takes(cli, tmp_path):
    placement = metro_moe.Placement([metro_moe.LayerPlacement([0, 1, 0, 2], 3, 2)])
    metro_moe.write_placement(placement, str(tmp_path / "p.json"))
    (tmp_path / "cost.json").write_text('{"phi": [0, 10, 10], "beyond": 4, "base": 1}')
    topk_ids = [[0]] * 6 + [[1], [2]]
    (tmp_path / "topk.json").write_text(json.dumps(topk_ids))
    cost = metro_moe.read_expert_cost(str(tmp_path / "cost.json"))
    assert (cost.base_us, cost.beyond_us, list(cost.phi_us), cost.phi(5)) == (1, 4, [0, 10, 10], 22)
    result = metro_moe.route(placement, topk_ids, "hybrid", cost=cost)
    code, out, err = cli("route", "--placement", str(tmp_path / "p.json"), "--topk", str(tmp_path / "topk.json"),
                         "--policy", "hybrid", "--cost", str(tmp_path / "cost.json"), "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["replica_ids"] == result.replica_ids.tolist()
    assert json.loads(out)["modelled_us"] == metro_moe.modelled_us(placement.layers[0], result.replica_ids, cost).tolist()


@pytest.mark.parametrize(
    ("phi_us", "more", "message"),
    [([], {}, "phi is empty"), ([0, 2, 1], {}, r"phi\[2\] is 1"), ([0, float("nan")], {}, r"phi\[1\] is nan"),
     ([0], {"base_us": -1}, "base is -1")],
)  # fmt: skip
def test_costs_are_checked(phi_us, more, message):
    with pytest.raises(metro_moe.InputError, match=message):
        metro_moe.ExpertCost(phi_us, beyond_us=1, **more)


def test_without_a_cost_the_standard_one():
    layer = metro_moe.LayerPlacement([0, 1, 0, 2], 3, 2)
    standard = metro_moe.ExpertCost.standard()
    ids = metro_moe.Router(layer, "hybrid").route([[0], [0], [1]])
    assert metro_moe.modelled_us(layer, ids).tolist() == metro_moe.modelled_us(layer, ids, standard).tolist()
    with pytest.raises(metro_moe.UsageError, match="bf17"):
        metro_moe.read_expert_cost("none.json", dtype="bf17")
