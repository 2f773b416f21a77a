# SPDX-License-Identifier: Apache-2.0
"""Placements that SGLang starts with, and recordings of its own recorder: there and back."""

import numpy as np
import pytest
import torch
from conftest import EXPERTS, GPUS, LAYERS, REPLICAS, ForwardMode, ModelConfig, random_rows
from sglang.srt.environ import envs
from sglang.srt.eplb import expert_distribution, expert_location
from sglang.srt.runtime_context import get_exec

import metro_moe


@pytest.mark.parametrize("algorithm", ["homed", "eplb"])
def test_sglang_starts_with_our_placement(server, tmp_path, algorithm):
    placement = metro_moe.place(np.random.default_rng(0).random((LAYERS - 3, EXPERTS)), REPLICAS, GPUS, algorithm)
    path = tmp_path / "location.json"
    metro_moe.sglang.write_expert_location(placement, path, layers=LAYERS, first_layer=3)
    with get_exec().moe.override(init_expert_location=str(path)):
        metadata = expert_location.compute_initial_expert_location_metadata(ModelConfig(), moe_ep_rank=1)
    rows = metadata.physical_to_logical_map_cpu.numpy()
    assert metadata.num_physical_experts == REPLICAS and metadata.ep_size == GPUS
    for layer, ours in enumerate(placement.layers, start=3):
        assert (rows[layer] == ours.replica_to_expert).all()
    again = metro_moe.sglang.read_expert_location(path, num_gpus=GPUS)
    assert (again.layers[3].replica_to_expert == placement.layers[0].replica_to_expert).all()


def test_a_recording_of_sglangs_own_recorder(server, tmp_path, monkeypatch):
    metadata = server.place(random_rows(0))
    gatherer = expert_distribution._DetailSinglePassGatherer(metadata, rank=0)
    accumulator = expert_distribution._DetailAccumulator.__new__(expert_distribution._DetailAccumulator)
    accumulator._records, accumulator._rank, accumulator._expert_location_metadata = [], 0, metadata
    monkeypatch.setattr(expert_distribution._UtilizationRateAccumulatorMixin, "append", lambda *a, **k: None)
    routed = []
    for step, mode in enumerate([ForwardMode.SPLIT_PREFILL, ForwardMode.DECODE, ForwardMode.DECODE]):
        with server.step(mode, rows=4):
            batch = metro_moe.sglang.phase.forward_batch()
            batch.positions, batch.extend_seq_lens_cpu = torch.arange(4) * 100 + step, None
            gatherer.reset()
            gatherer.on_forward_pass_start(batch)
            ids = torch.randint(0, EXPERTS, (4, 2), generator=torch.Generator().manual_seed(step))
            routed.append(ids)
            for layer in range(3, LAYERS):
                gatherer.on_select_experts(layer, server.map(ids, layer).int())
        accumulator.append(step, "primary", gatherer.collect(), {})
    with envs.SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR.override(str(tmp_path)):
        accumulator.dump("file")
    files = list(tmp_path.glob("*.pt"))
    decode = metro_moe.sglang.read_recording(files, num_experts=EXPERTS)
    assert decode.ids.shape == (8, LAYERS - 3, 2), "without the dense layers and the unused columns"
    assert decode.info.sequence_lengths == [2, 2, 2, 2]
    for layer in range(LAYERS - 3):
        for request in range(4):
            assert decode.ids[2 * request : 2 * request + 2, layer].tolist() == [
                routed[1][request].tolist(),
                routed[2][request].tolist(),
            ]
    prefill = metro_moe.sglang.read_recording(files, phase="prefill", num_experts=EXPERTS)
    assert sorted(prefill.ids[:, 0].tolist()) == sorted(routed[0].tolist()), "chunked prefill is prefill"
