# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from conftest import layer_placements
from hypothesis import given

import metro_moe
from metro_moe import tensorrt_llm


@pytest.fixture
def placement():
    return metro_moe.place(np.random.default_rng(1).random((3, 8)), 12, 4, "homed")


def test_the_config_is_yaml_of_the_engines_keys(placement, tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    tensorrt_llm.write_config(placement, tmp_path / "b.yaml", first_layer=3, layer_updates_per_iter=2)
    config = yaml.safe_load((tmp_path / "b.yaml").read_text())
    assert config == {
        "num_slots": 12,
        "initial_global_assignments": {3 + i: layer.replica_to_expert.tolist() for i, layer in enumerate(placement.layers)},
        "layer_updates_per_iter": 2,
    }  # fmt: skip
    # What the engine asserts of it: every layer names num_slots slots, every expert has one.
    for slots in config["initial_global_assignments"].values():
        assert len(slots) == config["num_slots"]
        assert set(slots) == set(range(8))
    assert [p.name for p in tmp_path.iterdir()] == ["b.yaml"]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_groups_are_the_engines_moe_ranks(placement, shards):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    sharded = metro_moe.Placement(placement.layers, shards=shards)
    name = "it's: a/b.yaml"
    options = yaml.safe_load(tensorrt_llm.format_options(sharded, load_balancer=name))
    assert options["moe_config"] == {"load_balancer": name}
    tp, ep = options["moe_tensor_parallel_size"], options["moe_expert_parallel_size"]
    # What the engine demands of them, and how it numbers ranks.
    assert tp * ep == options["tensor_parallel_size"] == 4 * shards
    assert (tp, ep) == (shards, 4)
    groups = [tensorrt_llm.ranks_of_group(sharded, group) for group in range(ep)]
    assert sorted(sum(groups, [])) == list(range(tp * ep))
    for group, ranks in enumerate(groups):
        assert [rank % ep for rank in ranks] == [group] * shards
        assert [rank // ep for rank in ranks] == list(range(shards))
    # The balancer's file is over the groups, each with as many slots.
    config = yaml.safe_load(tensorrt_llm.format_config(sharded))
    assert config == yaml.safe_load(tensorrt_llm.format_config(placement))
    assert config["num_slots"] % ep == 0
    assert "moe_config" not in yaml.safe_load(tensorrt_llm.format_options(sharded))
    with pytest.raises(metro_moe.InputError, match="group is 4, must be 0..3"):
        tensorrt_llm.ranks_of_group(sharded, 4)


def slot_of(tables, expert, occurrence):
    """How the engine's kernel looks a slot up."""
    count = tables.expert_replica_count[expert]
    return tables.global_slot_ids[tables.expert_replica_start_offset[expert] + occurrence % count]


def test_the_tables_lead_to_every_replica(placement):
    for layer in placement.layers:
        tables = tensorrt_llm.replica_tables(layer)
        reached = [slot_of(tables, e, i) for e in range(8) for i in range(tables.expert_replica_count[e])]
        assert sorted(reached) == list(range(12))
        assert all(layer.replica_to_expert[slot_of(tables, e, i)] == e for e in range(8) for i in range(3))
        assert {table.dtype for table in tables} == {np.dtype(np.int32)}


@given(layer=layer_placements())
def test_tables_or_a_reason(layer):
    slots, rest = divmod(layer.num_replicas, layer.num_gpus)
    if rest or layer.replica_to_gpu.tolist() != [s // slots for s in range(layer.num_replicas)]:
        with pytest.raises(metro_moe.InfeasibleError, match="share the slots equally"):
            tensorrt_llm.replica_tables(layer)
        return
    tables = tensorrt_llm.replica_tables(layer)
    assert tables.expert_replica_count.sum() == layer.num_replicas
    assert sorted(tables.global_slot_ids.tolist()) == list(range(layer.num_replicas))


def test_round_robin_reads_the_same_tables():
    """With one source rank, policy round-robin is the engine's rule over these tables."""
    layer = metro_moe.LayerPlacement([0, 1, 2, 1, 0, 1], 3, 1)
    tables, seen = tensorrt_llm.replica_tables(layer), {}
    ids = np.random.default_rng(2).integers(0, 3, (7, 2))
    expected = []
    for expert in ids.ravel().tolist():
        expected.append(slot_of(tables, expert, seen.get(expert, 0)))
        seen[expert] = seen.get(expert, 0) + 1
    assert metro_moe.Router(layer, "round-robin").route(ids).ravel().tolist() == expected


def test_bad_numbers(placement):
    with pytest.raises(metro_moe.InputError, match="first_layer is -1"):
        tensorrt_llm.initial_global_assignments(placement, first_layer=-1)
    with pytest.raises(metro_moe.InputError, match="layer_updates_per_iter is -1"):
        tensorrt_llm.format_config(placement, layer_updates_per_iter=-1)
