# SPDX-License-Identifier: Apache-2.0
"""SGLang's own formats, made here as it makes them. What its own modules do: tests/python/sglang."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metro_moe
from metro_moe import sglang

MAP = np.array([[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 0, 1], [3, 2, 1, 0, 2, 3]])  # layer 0 is dense


def record(mode, tokens, positions, number, rank=0):
    """One pass: [layers, tokens, 8] physical ids, -1 where nothing was written."""
    ids = np.full((3, len(tokens), 8), -1, np.int32)
    ids[1, :, :2] = tokens
    ids[2, :, :2] = np.array(tokens)[:, ::-1]
    return {
        "forward_pass_id": number, "rank": rank, "gatherer_key": "primary", "forward_mode": mode,
        "input_ids": [7] * len(tokens), "positions": positions, "extend_seq_lens": None,
        "topk_ids_of_layer": ids, "misc_objects": [],
    }  # fmt: skip


def dump(*records):
    return {"records": list(records), "last_physical_to_logical_map": MAP}


def test_decode_passes_become_sequences():
    # Requests at positions 10, 20, 30; the second ends, a fourth joins at 5.
    trace = sglang.recorded_trace(
        [
            dump(
                record(1, [[0, 1]] * 3, [0, 1, 2], 1),
                record(2, [[0, 1], [2, 3], [4, 5]], [10, 20, 30], 2),
                record(2, [[1, 2], [5, 0], [3, 2]], [11, 31, 5], 3),
            )
        ],
        num_experts=4,
        model="m",
    )
    assert trace.ids.shape == (6, 2, 2)  # without the dense layer and the six unused columns
    assert trace.info.sequence_lengths == [2, 1, 2, 1]
    assert (trace.info.phase, trace.info.model, trace.num_experts) == ("decode", "m", 4)
    assert trace.ids[:, 0].tolist() == [[0, 1], [1, 2], [2, 3], [0, 1], [1, 0], [3, 2]]
    # Layer 2 has another map, and got the pairs the other way round.
    assert trace.ids[0, 1].tolist() == [MAP[2][1], MAP[2][0]]


def test_prefill_runs_and_verified_drafts():
    dumps = [dump(record(1, [[0, 1]] * 5, [0, 1, 2, 0, 1], 1), record(5, [[2, 3]] * 4, [8, 9, 4, 5], 2))]
    assert sglang.recorded_trace(dumps, phase="prefill").info.sequence_lengths == [3, 2]
    assert sglang.recorded_trace(dumps, phase="decode").info.sequence_lengths == [2, 2]
    assert sglang.recorded_trace(dumps, phase="mixed").num_tokens == 9


def test_ranks_that_saw_the_same_count_once():
    same = [dump(record(2, [[0, 1]], [3], 1, rank)) for rank in range(4)]
    assert sglang.recorded_trace(same).num_tokens == 1
    apart = [dump(record(2, [[rank, 1]], [3], 1, rank)) for rank in range(4)]
    assert sglang.recorded_trace(apart).num_tokens == 4


def test_padding_is_left_out():
    padded = record(2, [[0, 1], [2, 3]], [3, 4], 1)
    padded["topk_ids_of_layer"][:, 1] = -1
    assert sglang.recorded_trace([dump(padded)]).num_tokens == 1


@given(
    passes=st.lists(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), min_size=1, max_size=4), min_size=1, max_size=6),
    mode=st.sampled_from([1, 2, 5, 8]),
)
def test_no_token_is_lost_or_made(passes, mode):
    records = [record(mode, tokens, [i] * len(tokens), i) for i, tokens in enumerate(passes)]
    trace = sglang.recorded_trace([dump(*records)], phase="mixed")
    recorded = sorted(MAP[1][ids].tolist() for tokens in passes for ids in np.array(tokens))
    assert sorted(trace.ids[:, 0].tolist()) == recorded
    assert sum(trace.info.sequence_lengths) == trace.num_tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("records"), "no records"),
        (lambda d: d["records"].clear(), "no decode pass"),
        (lambda d: d["records"][0].pop("topk_ids_of_layer"), "no topk_ids_of_layer"),
        (lambda d: d["records"][0]["topk_ids_of_layer"].fill(6), r"\[0\]\[0\]\[0\] is 6, must be a physical expert 0..5"),
        (lambda d: d["records"][0]["topk_ids_of_layer"].fill(-2), "is -2"),
        (lambda d: d["records"][0]["topk_ids_of_layer"].fill(-1), "no decode pass with tokens"),
        (lambda d: d["records"][0].update(positions=[1]), "1 positions for 2 tokens"),
        (lambda d: d.update(last_physical_to_logical_map=MAP[:2]), r"must be \[2, tokens, k\]"),
    ],
)  # fmt: skip
def test_damaged_dumps(change, message):
    damaged = dump(record(2, [[0, 1], [2, 3]], [3, 4], 1))
    change(damaged)
    with pytest.raises(metro_moe.InputError, match=message):
        sglang.recorded_trace([damaged])


def test_mode_stat():
    counts = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert (sglang.recorded_loads({"logical_count": counts}) == counts.sum(axis=0)).all()
    with pytest.raises(metro_moe.InputError, match="no logical_count"):
        sglang.recorded_loads(dump())


def test_pt_files(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    written = dump(record(2, [[0, 1]], [3], 1))
    written["last_physical_to_logical_map"] = torch.from_numpy(MAP)
    written["records"][0]["topk_ids_of_layer"] = torch.from_numpy(written["records"][0]["topk_ids_of_layer"])
    torch.save(written, tmp_path / "expert_distribution_recorder_1.0_0.pt")
    trace = sglang.read_recording(tmp_path.glob("*.pt"))
    assert trace.ids.tolist() == [[[0, 1], [MAP[2][1], MAP[2][0]]]]
    (tmp_path / "bad.pt").write_bytes(b"no such thing")
    with pytest.raises(metro_moe.InputError, match="bad.pt: cannot be read"):
        sglang.load_recording(tmp_path / "bad.pt")


def test_without_torch_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"x.pt: reading .pt files needs torch"):
        sglang.load_recording(tmp_path / "x.pt")


# --init-expert-location


@pytest.fixture
def placement():
    return metro_moe.place(np.random.default_rng(0).random((2, 8)), 12, 4, "homed")


def test_expert_location(placement, tmp_path):
    sglang.write_expert_location(placement, tmp_path / "l.json", layers=4, first_layer=1)
    rows = json.loads((tmp_path / "l.json").read_text())["physical_to_logical_map"]
    assert rows[1:3] == [layer.replica_to_expert.tolist() for layer in placement.layers]
    assert rows[0] == rows[3] == [*range(8), 0, 1, 2, 3]
    again = sglang.read_expert_location(tmp_path / "l.json", num_gpus=4)
    assert (again.layers[1].replica_to_expert == placement.layers[0].replica_to_expert).all()
    assert [p.name for p in tmp_path.iterdir()] == ["l.json"]


def test_what_sglang_cannot_hold(placement, tmp_path):
    uneven = metro_moe.Placement([metro_moe.LayerPlacement([0, 1, 0], 2, 2, replica_to_gpu=[0, 0, 1])])
    with pytest.raises(metro_moe.InfeasibleError, match="layer 0: SGLang needs"):
        sglang.expert_location(uneven)
    with pytest.raises(metro_moe.InputError, match="do not fit in 2 layers"):
        sglang.expert_location(placement, layers=2, first_layer=1)
    with pytest.raises(metro_moe.InputError, match="must end in .json"):
        sglang.write_expert_location(placement, tmp_path / "l.pt")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"physical_to_logical_map": [[0, 1], [0]]}', '{"physical_to_logical_map": [[0.5]]}',
             '{"physical_to_logical_map": []}', '{"physical_to_logical_map": [[0, 2]]}',
             '{"physical_to_logical_map": [[0, 4611686018427387904]]}'],
)  # fmt: skip
def test_damaged_locations(tmp_path, text):
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(metro_moe.InputError, match="l.json"):
        sglang.read_expert_location(tmp_path / "l.json", num_gpus=1)


def test_without_sglang(monkeypatch, caplog):
    for name in [name for name in sys.modules if name.split(".")[0] == "sglang"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sglang", None)
    assert not sglang.install("optimal")
    assert "SGLang stays as it is" in caplog.text


def test_a_policy_that_is_none():
    with pytest.raises(metro_moe.UsageError, match="policy is 'best'"):
        sglang.install("best")


def test_the_plugin_is_off_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("METRO_SGLANG_DECODE", raising=False)
    monkeypatch.setitem(sys.modules, "sglang", None)
    sglang.register()  # imports nothing of SGLang's
