# SPDX-License-Identifier: Apache-2.0
"""Homes: the plain NumPy rule and the library are one, bit for bit."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import layer_placements, least_max_activated
from hypothesis import given

import metro_moe


def without_homes(layer):
    return metro_moe.LayerPlacement(
        layer.replica_to_expert, layer.num_experts, layer.num_gpus, replica_to_gpu=layer.replica_to_gpu
    )


def most(layer, home):
    return np.bincount(layer.replica_to_gpu[home]).max()


@given(layer=layer_placements())
def test_numpy_and_the_library_agree(layer):
    bare = without_homes(layer)
    home = metro_moe.exact_homes(layer.replica_to_expert, layer.num_experts, layer.replica_to_gpu)
    assert home.dtype == np.int32
    assert home.tolist() == bare.homes().tolist()
    assert layer.homes().tolist() == (home if layer.home is None else layer.home).tolist()
    everything = np.arange(layer.num_experts).reshape(1, -1)
    assert most(layer, home) == least_max_activated(layer, everything)
    assert metro_moe.route(bare, everything, "home").replica_ids.ravel().tolist() == home.tolist()


def random_layer(rng):
    """Larger ones than Hypothesis draws: chains of moves, crowded and empty GPUs, copies on one GPU."""
    num_experts, num_gpus = int(rng.integers(1, 300)), int(rng.integers(1, 70))
    crowd = int(rng.integers(1, num_gpus + 1))
    experts = rng.permutation(np.concatenate([np.arange(num_experts), rng.integers(0, num_experts, rng.integers(0, 300))]))
    gpus = np.where(rng.random(len(experts)) < 0.25, rng.integers(0, num_gpus, len(experts)), rng.integers(0, crowd, len(experts)))
    return metro_moe.LayerPlacement(experts, num_experts, num_gpus, replica_to_gpu=gpus)


def test_numpy_and_the_library_agree_on_large_layers():
    rng = np.random.default_rng(12)
    moved = 0
    for _ in range(1000):
        layer = random_layer(rng)
        home = metro_moe.exact_homes(layer.replica_to_expert, layer.num_experts, layer.replica_to_gpu, num_gpus=layer.num_gpus)
        assert home.tolist() == layer.homes().tolist()
        moved += most(layer, home) < most(layer, [np.flatnonzero(layer.replica_to_expert == e)[0] for e in range(layer.num_experts)])
    assert moved > 500


def test_equal_slots_need_no_list_of_gpus():
    placement = metro_moe.place(np.arange(1.0, 257)[None], 384, 16)
    experts = placement.layers[0].replica_to_expert
    home = metro_moe.exact_homes(experts, 256, slots_per_gpu=24)
    assert home.tolist() == metro_moe.exact_homes(experts, 256, np.arange(384) // 24).tolist()
    assert np.bincount(home // 24).max() == 16


@pytest.mark.parametrize("algorithm", [algorithm.name for algorithm in metro_moe.placement_algorithms()])
def test_place_writes_homes_that_are_as_few(algorithm):
    load = np.random.default_rng(3).lognormal(size=128) * 1000
    layer = metro_moe.place(load[None], 192, 16, algorithm).layers[0]
    exact = without_homes(layer).homes()
    assert most(layer, layer.home) == most(layer, exact)
    fullest = [np.bincount(layer.replica_to_gpu[home], weights=load).max() for home in (layer.home, exact)]
    assert fullest[0] <= fullest[1]
    if algorithm != "homed":
        assert metro_moe.solve_homes(layer, load).tolist() == layer.home.tolist()


def test_the_rule_needs_numpy_alone():
    folder = pathlib.Path(metro_moe.exact_homes.__code__.co_filename).parent
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import homes\n"
        "assert not any('metro' in name for name in sys.modules), 'imports the package'\n"
        "print(homes.exact_homes([0, 1, 2, 0, 1], 3, [0, 0, 0, 1, 1]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[3, 1, 2]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([0, 0], 2, [0, 0]), {}, "no replica of expert 1"),
        (([0, 2], 2, [0, 0]), {}, r"replica_to_expert\[1\] is 2, must be 0..1"),
        (([0, -1], 2, [0, 0]), {}, r"replica_to_expert\[1\] is -1"),
        (([0, 1], 2, [0]), {}, "has 1 entries"),
        (([0, 1], 2, [0, 3]), {"num_gpus": 3}, r"replica_to_gpu\[1\] is 3, must be 0..2"),
        (([0, 1, 0], 2), {"slots_per_gpu": 2}, "must divide the 3"),
        (([0, 1], 2), {}, "either"),
        (([0.5, 1], 2, [0, 0]), {}, "integers"),
    ],
)
def test_bad_layers_are_refused(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        metro_moe.exact_homes(*arguments, **keywords)
