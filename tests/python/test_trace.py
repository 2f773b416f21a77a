# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import metro_moe

SHIPPED = ROOT / "data/learned/learned-128e-top8-decode.npy"


@pytest.fixture
def trace():
    ids = np.random.default_rng(0).integers(0, 16, (120, 3, 4)).astype(np.uint8)
    return metro_moe.RoutingTrace(ids, 16, phase="decode", sequence_lengths=[10] * 12, model="m")


@given(
    ids=arrays.arrays(
        st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64]),
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 99),
    ),
    masked=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, ids, masked):
    if masked and ids.dtype.kind == "i":
        ids[0, 0, 0] = -1
    path = tmp_path_factory.mktemp("trace") / "t.npy"
    metro_moe.write_trace(metro_moe.RoutingTrace(ids, 100, source="s", licence="l"), path)
    read = metro_moe.read_trace(path)
    assert (read.ids == ids).all()
    assert (np.load(path) == ids).all()
    assert read.ids.dtype == np.load(path).dtype
    assert (read.info.source, read.info.licence, read.info.phase) == ("s", "l", "mixed")
    assert (read.num_tokens, read.num_layers, read.topk) == ids.shape
    expected = np.stack([np.bincount(layer[layer >= 0].ravel(), minlength=100) for layer in ids.transpose(1, 0, 2)])
    assert (read.loads() == expected).all()


def test_reading_maps_the_file():
    if not SHIPPED.exists():
        pytest.skip("the shipped traces are not here")
    trace = metro_moe.read_trace(SHIPPED)
    ids = trace.ids
    assert not ids.flags.owndata
    assert not ids.flags.writeable
    del trace
    assert (ids == np.load(SHIPPED)).all()  # the view keeps the mapping


def test_what_nobody_can_write_is_viewed_and_the_rest_copied(tmp_path):
    ids = np.zeros((2, 1, 1), np.uint8)
    copied = metro_moe.RoutingTrace(ids, 4)
    ids[0] = 3
    assert (copied.ids == 0).all()
    np.save(tmp_path / "ids.npy", ids)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    assert np.shares_memory(metro_moe.RoutingTrace(mapped, 4).ids, mapped)
    frozen = np.frombuffer(bytes(2), np.uint8).reshape(2, 1, 1)
    assert np.shares_memory(metro_moe.RoutingTrace(frozen, 4).ids, frozen)
    writable = np.load(tmp_path / "ids.npy", mmap_mode="c")
    assert not np.shares_memory(metro_moe.RoutingTrace(writable, 4).ids, writable)


def test_a_read_only_view_is_no_promise():
    base = np.zeros((64, 1, 1), np.int32)
    view = base[:]
    view.setflags(write=False)
    raw = bytearray(256)
    traces = [
        metro_moe.RoutingTrace(view, 4),
        metro_moe.RoutingTrace(np.frombuffer(memoryview(raw).toreadonly(), np.int32).reshape(64, 1, 1), 4),
    ]
    base[:] = 2**30
    raw[:] = b"\x7f" * 256
    for trace in traces:
        assert (trace.ids == 0).all()
        assert trace.loads().sum() == 64


def test_batches_refuse_fewer_than_no_tokens(trace):
    with pytest.raises(metro_moe.UsageError, match="a batch of -1 tokens, must be at least 0"):
        metro_moe.DecodeBatches(trace, 60).draw(-1)


def test_sizes_are_checked_before_anything_is_copied():
    one = np.zeros((1, 1, 1), np.uint8)
    for shape in [(2**31, 2**31, 1), (1, 2**31, 1), (1, 1, 2**31)]:
        with pytest.raises(metro_moe.InputError, match="ids have shape"):
            metro_moe.RoutingTrace(np.broadcast_to(one, shape), 4)


def test_gather_and_loads_take_bounds(trace):
    assert (trace.gather([3, 1], 2) == trace.ids[[3, 1], 2]).all()
    assert trace.loads(0, 60).sum() + trace.loads(60).sum() == 120 * 3 * 4
    for rows, layer in [([120], 0), ([-1], 0), ([0], 3), ([0], -1)]:
        with pytest.raises(IndexError):
            trace.gather(rows, layer)
    for bounds in [(-1, 3), (5, 4), (0, 121)]:
        with pytest.raises(ValueError, match=r"are not in 0..120"):
            trace.loads(*bounds)


def test_batches_take_one_token_of_each_sequence_first(trace):
    batches = metro_moe.DecodeBatches(trace, 60)
    assert batches.capacity == 60
    rows = batches.draw(6, seed=1)
    assert sorted(row // 10 for row in rows) == list(range(6, 12))
    assert rows == metro_moe.DecodeBatches(trace, 60).draw(6, seed=1)
    assert sorted(batches.draw(60)) == list(range(60, 120))
    with pytest.raises(metro_moe.InfeasibleError):
        batches.draw(61)


@pytest.mark.parametrize(
    ("ids", "keywords", "error", "message"),
    [
        (np.full((1, 1, 1), 16), {}, metro_moe.InputError, r"\[0\]\[0\]\[0\] is 16"),
        (np.full((1, 1, 1), -2), {}, metro_moe.InputError, "is -2"),
        (np.full((1, 1, 1), 2**40), {}, metro_moe.InputError, "must be an expert 0..15"),
        (np.zeros((2, 2)), {}, ValueError, r"must be \[tokens, layers, topk\]"),
        (np.zeros((1, 1, 1)), {}, TypeError, "must hold integers"),
        (np.zeros((0, 1, 1), int), {}, metro_moe.InputError, "at least 1"),
        (np.zeros((3, 1, 1), int), {"sequence_lengths": [2]}, metro_moe.InputError, "sum to 2"),
        (np.zeros((3, 1, 1), int), {"sequence_lengths": [2**62, 2**62]}, metro_moe.InputError, r"sequence_lengths\[0\]"),
    ],
)
def test_traces_are_checked(ids, keywords, error, message):
    with pytest.raises(error, match=message):
        metro_moe.RoutingTrace(ids, 16, **keywords)


def test_files_are_checked(trace, tmp_path):
    with pytest.raises(metro_moe.UsageError, match="must end in .npy"):
        metro_moe.write_trace(trace, tmp_path / "t.bin")
    np.save(tmp_path / "t.npy", np.zeros((1, 1, 1), np.uint8))
    with pytest.raises(metro_moe.InputError, match="t.json is missing"):
        metro_moe.read_trace(tmp_path / "t.npy")


def test_compare_is_the_programs(cli, trace, tmp_path):
    metro_moe.write_trace(trace, tmp_path / "t.npy")
    code, out, err = cli(
        "compare", "--trace", tmp_path / "t.npy", "--gpus", "2,4", "--replication", "1.0,1.5", "--tokens", 8,
        "--ep", "2", "--algorithm", "homed", "--batches", 4, "--json",
    )  # fmt: skip
    assert code == 0, err
    told = []
    rows = metro_moe.compare(
        trace, gpus=[2, 4], ep=[2], replication=[1.0, 1.5], tokens=[8], algorithms=["homed"], batches=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    said = json.loads(out)["rows"]
    assert len(rows) == len(said) == 2 * 2 * len(metro_moe.policies())
    for row, expected in zip(rows, said):
        own = row.as_dict()
        shared = own.keys() & expected.keys()
        assert {"gpus", "ep", "policy", "max_activated", "vs_no_replication", "vs_ep"} <= shared
        for key in shared:
            want = expected[key]
            assert own[key] == (want if isinstance(want, str) else pytest.approx(want, rel=1e-6)), key
        assert row.max_activated == own["max_activated"]
    assert told[-1][0] == told[-1][1]


def test_compare_passes_on_what_progress_raises(trace):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metro_moe.compare(trace, gpus=[2], replication=[1.0], tokens=[4], progress=stop)
    with pytest.raises(metro_moe.InfeasibleError):
        metro_moe.compare(trace, gpus=[2], replication=[1.0], tokens=[61])


def test_synthetic_traces():
    profile = metro_moe.router_profiles()[0]
    first = metro_moe.generate_trace(profile, [4, 4], "decode", 1)
    assert (first.ids == metro_moe.generate_trace(profile, [4, 4], seed=1).ids).all()
    assert first.info.sequence_lengths == [4, 4]
    with pytest.raises(metro_moe.UsageError, match="profile is 'none', must be one of"):
        metro_moe.generate_trace("none", [4])
