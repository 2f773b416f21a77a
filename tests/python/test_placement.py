# SPDX-License-Identifier: Apache-2.0
import json
import pickle

import hypothesis
import numpy as np
import pytest
from conftest import layer_placements
from hypothesis import given
from hypothesis import strategies as st

import metro_moe

ALGORITHMS = [algorithm.name for algorithm in metro_moe.placement_algorithms()]

# deepseek-ai/EPLB, its README.
EPLB_LOADS = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
EPLB_REPLICAS = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


def test_eplb_golden():
    placement = metro_moe.place(EPLB_LOADS, 16, 8, "eplb", num_groups=4, num_nodes=2)
    assert [layer.replica_to_expert.tolist() for layer in placement.layers] == EPLB_REPLICAS
    assert placement.layers[0].replica_to_gpu.tolist() == [slot // 2 for slot in range(16)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@hypothesis.settings(max_examples=6)
@given(data=st.data())
def test_python_and_the_program_agree(cli, tmp_path_factory, algorithm, data):
    gpus, per_gpu, layers = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    experts = gpus * data.draw(st.integers(1, per_gpu))
    row = st.lists(st.integers(0, 1000), min_size=experts, max_size=experts)
    loads = np.array(data.draw(st.lists(row, min_size=layers, max_size=layers)), float)
    folder = tmp_path_factory.mktemp("place")
    np.save(folder / "loads.npy", loads)
    code, _, err = cli(
        "place", "--loads", folder / "loads.npy", "--gpus", gpus, "--replicas", gpus * per_gpu,
        "--algorithm", algorithm, "-o", folder / "p.json",
    )  # fmt: skip
    if code == 4:
        with pytest.raises(metro_moe.InfeasibleError):
            metro_moe.place(loads, gpus * per_gpu, gpus, algorithm)
        return
    assert code == 0, err
    placement = metro_moe.place(loads, gpus * per_gpu, gpus, algorithm)
    assert placement == metro_moe.read_placement(folder / "p.json")
    metro_moe.write_placement(placement, folder / "q.json")
    assert (folder / "p.json").read_bytes() == (folder / "q.json").read_bytes()
    assert (metro_moe.read_loads(folder / "loads.npy") == loads).all()


@given(layer=layer_placements(), shards=st.sampled_from([1, 2, 4]))
def test_files_and_pickles_bring_it_back(tmp_path_factory, layer, shards):
    placement = metro_moe.Placement([layer, layer], shards=shards)
    assert placement.shards == shards
    path = tmp_path_factory.mktemp("placement") / "p.json"
    metro_moe.write_placement(placement, path)
    assert metro_moe.read_placement(path) == placement
    assert pickle.loads(pickle.dumps(placement)) == placement
    said = json.loads(path.read_text())["layers"][1]
    assert said["replica_to_gpu"] == layer.replica_to_gpu.tolist()
    assert said.get("home") == (None if layer.home is None else layer.home.tolist())


@given(layer=layer_placements(), data=st.data())
def test_shares_sum_to_one(layer, data):
    load = data.draw(st.lists(st.integers(0, 99), min_size=layer.num_experts, max_size=layer.num_experts))
    shares = metro_moe.solve_shares(layer, load)
    sums = np.bincount(layer.replica_to_expert, weights=shares, minlength=layer.num_experts)
    assert np.allclose(sums, 1)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([0, 0], 2, 1), {}, "has no replica of expert 1"),
        (([0, 1, 2], 2, 1), {}, r"replica_to_expert\[2\]"),
        (([0, 1, 0], 2, 2), {}, "3 replicas"),
        (([0, 1], 2, 2), {"replica_to_gpu": [0, 2]}, r"replica_to_gpu\[1\]"),
        (([0, 1], 2, 1), {"home": [1, 0]}, r"home\[0\]"),
        (([0, 1], 2, 1), {"shares": [1.0, float("nan")]}, "shares"),
        (([0, 1], 0, 1), {}, "num_experts"),
        (([0], 1, 0), {}, "num_gpus|GPU"),
        (([0], 1, -1), {}, "num_gpus|GPU"),
    ],
)
def test_layers_are_checked(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        metro_moe.LayerPlacement(*arguments, **keywords)


def test_placements_are_checked():
    layer = metro_moe.LayerPlacement([0, 1], 2, 1)
    with pytest.raises(ValueError, match="layers is empty"):
        metro_moe.Placement([])
    with pytest.raises(metro_moe.InputError, match=r"layers\[1\]"):
        metro_moe.Placement([layer, metro_moe.LayerPlacement([0], 1, 1)])
    with pytest.raises(ValueError, match=r"must be \[layers, experts\]"):
        metro_moe.place([1, 2], 2, 1)
    with pytest.raises(metro_moe.InputError, match="must have a layer"):
        metro_moe.place(np.empty((0, 4)), 4, 1)
    with pytest.raises(metro_moe.InputError):
        metro_moe.place([[1, float("inf")]], 2, 1)
    with pytest.raises(metro_moe.UsageError, match="best"):
        metro_moe.place([[1, 2]], 2, 1, "best")
    with pytest.raises(metro_moe.InputError, match="none.json"):
        metro_moe.read_placement("none.json")


def test_errors_are_value_errors_with_exit_codes():
    codes = [(metro_moe.UsageError, 2), (metro_moe.InputError, 3), (metro_moe.InfeasibleError, 4), (metro_moe.DeviceError, 5)]
    for error, code in codes:
        assert issubclass(error, metro_moe.MetroError)
        assert error.code == code
        assert issubclass(error, ValueError) == (code != 5)
