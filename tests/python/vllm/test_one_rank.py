# SPDX-License-Identifier: Apache-2.0
"""The harness of bench/vllm without vLLM and without a GPU: what one rank of N is told, and what it drops."""

import json
import pathlib
import sys
import types

import choice_reference
import numpy as np
import pytest
import torch

BENCH = pathlib.Path(__file__).parents[3] / "bench/vllm"
sys.path.insert(0, str(BENCH))

import equal  # noqa: E402
import rank_engine  # noqa: E402
import rank_tables  # noqa: E402
import ranks  # noqa: E402
import tokens  # noqa: E402
import trials  # noqa: E402

TRACE = BENCH.parents[1] / "data/learned/learned-128e-top8-decode.npy"


def test_the_trace_is_requests_and_steps():
    trace, num_experts = rank_tables.read_trace(TRACE)
    assert trace.shape == (512, 64, 8, 8) and num_experts == 128
    assert np.array_equal(trace[3, 5], np.load(TRACE)[3 * 64 + 5])
    known, served = rank_tables.halves(trace)
    assert np.array_equal(known[1], trace[2]) and np.array_equal(served[1], trace[3])


def test_a_trace_of_uneven_requests_is_refused(tmp_path):
    np.save(tmp_path / "t.npy", np.zeros((3, 1, 1), np.uint8))
    (tmp_path / "t.json").write_text(json.dumps({"num_experts": 2, "sequence_lengths": [1, 2]}))
    with pytest.raises(ValueError, match="same number"):
        rank_tables.read_trace(tmp_path / "t.npy")


def test_loads_count_every_id_and_repeat_by_layer():
    trace, num_experts = rank_tables.read_trace(TRACE)
    loads = rank_tables.layer_loads(trace, num_experts, 19)
    assert loads.shape == (19, 128) and (loads.sum(axis=1) == 512 * 64 * 8).all()
    assert np.array_equal(loads[18], loads[2]) and loads[2, 7] == (trace[:, :, 2] == 7).sum()


@pytest.mark.parametrize("drafts", [0, 1, 3])
def test_drafted_rows_are_the_next_steps_of_their_request(drafts):
    trace = np.arange(6 * 8 * 2 * 3, dtype=np.int32).reshape(6, 8, 2, 3)  # every id tells where it is from
    batches = rank_tables.draw_batches(trace, 2, 3, drafts, num_layers=5, num_batches=4)
    assert batches.shape == (4, 5, 2 * 3 * (1 + drafts), 3)
    request, step, layer = batches[..., 0] // 48, batches[..., 0] // 6 % 8, batches[..., 0] // 3 % 2
    assert (layer == (np.arange(5) % 2)[None, :, None]).all()
    by_request = lambda a: a.reshape(4, 5, 6, 1 + drafts)  # noqa: E731
    assert (by_request(request) == by_request(request)[..., :1]).all()
    assert (by_request(step) == by_request(step)[..., :1] + np.arange(1 + drafts)).all()
    assert all(len(set(rows)) == 6 for rows in by_request(request)[..., 0].reshape(-1, 6))  # no request twice
    assert np.array_equal(request[:, 0], request[:, 1]) and np.array_equal(step[:, 2], step[:, 3])  # layers of one pass
    assert not np.array_equal(request[:, 0], request[:, 2])


def test_tables_are_vllms():
    slots = [[0, 1, 2, 1, 0, 1], [2, 1, 0, 0, 0, 2]]
    table, count = rank_tables.logical_tables(slots, 3, 8)
    for layer in range(2):
        want = choice_reference.tables(slots[layer], 3, 8)
        assert np.array_equal(table[layer], want[0]) and np.array_equal(count[layer], want[1])
    with pytest.raises(ValueError, match="no slot"):
        rank_tables.logical_tables([[0, 0, 1]], 3, 8)


def test_homes_come_first_and_nothing_else_moves():
    slots = [[0, 1, 2, 1, 0, 1]]
    plain, _ = rank_tables.logical_tables(slots, 3, 4)
    table, count = rank_tables.logical_tables(slots, 3, 4, home=[[4, 3, 2]])
    assert table[0].tolist() == [[4, 0, -1, -1], [3, 1, 5, -1], [2, -1, -1, -1]] and count[0].tolist() == [2, 3, 1]
    assert np.array_equal(np.sort(table), np.sort(plain))
    with pytest.raises(ValueError, match="no slot of its expert"):
        rank_tables.logical_tables(slots, 3, 4, home=[[1, 3, 2]])


def test_activated_slots_and_the_rank_that_is_waited_for():
    physical = np.array([[[[0, 3], [0, 5], [1, -1]], [[2, 3], [2, 3], [4, 2]]]])
    activated = rank_tables.count_activated(physical, 6, 2)
    assert activated.tolist() == [[[2, 2], [1, 2]]]
    assert rank_tables.busiest_ranks(activated).tolist() == [[0, 1]]


def test_each_slot_is_on_one_rank_and_others_are_dropped():
    maps = [rank_tables.expert_maps(rank, 12, 4, 2, 3) for rank in range(4)]
    assert all(m.shape == (2, 3, 12) and m.dtype == np.int32 for m in maps)
    assert maps[2][0, 0].tolist() == [-1] * 6 + [0, 1, 2] + [-1] * 3
    assert (sum((m >= 0).astype(int) for m in maps) == 1).all()
    mixed = rank_tables.expert_maps([[0, 1, 2], [3, 3, 0]], 12, 4, 2, 3)
    assert np.array_equal(mixed[0, 2], maps[2][0, 2]) and np.array_equal(mixed[1, 1], maps[3][1, 1])


def test_communication_is_from_the_table():
    one = rank_tables.communication_ms(256, 2048, 1)
    assert one == pytest.approx(0.49 * (12.74 + 11.5) / 1e3 + 2**20 / 303.2e6 + 2**20 / 306.2e6)
    assert rank_tables.communication_ms(256, 2048, 48) == pytest.approx(48 * one)


def test_cells_without_drafts_and_with_many_requests_come_first():
    assert rank_tables.cells([1, 4], [0, 1, 3]) == [(4, 0), (1, 0), (4, 3), (1, 3), (4, 1), (1, 1)]


class Layer:
    """What the harness meets of vLLM's MoE runner: routes by itself, maps by a table, computes with its local slots."""

    def __init__(self, num_physical, topk):
        self.router = types.SimpleNamespace(
            eplb_state=types.SimpleNamespace(num_unpadded_tokens_tensors=["vLLM's"]), _compute_routing=self.compute
        )
        self.routed_experts = types.SimpleNamespace(_expert_map=None, forward_modular=self.experts)
        self.topk, self.seen = topk, None

    def compute(self, hidden, logits, dtype, *, input_ids=None):
        return torch.ones(len(hidden), self.topk), torch.zeros(len(hidden), self.topk, dtype=torch.int32)

    def experts(self, x, topk_weights, topk_ids, shared_experts=None, shared_experts_input=None):
        local = self.routed_experts._expert_map[topk_ids.long()]
        self.seen = sorted(set(local[local >= 0].tolist()))
        return x + (local >= 0).sum(dim=1, keepdim=True)

    def step(self, rows):
        x = torch.arange(rows * 2, dtype=torch.float32).reshape(rows, 2)
        weights, ids = self.router._compute_routing(x, None, torch.int32)
        return x, ids, self.routed_experts.forward_modular(x=x, topk_weights=weights, topk_ids=ids)


@pytest.fixture
def emulation():
    layers = [Layer(12, 2) for _ in range(3)]
    return rank_engine.Emulation(layers, None, 4, 12, 2, 5, [1, 2], device="cpu")


def test_a_decode_batch_is_the_traces_of_all_ranks_and_this_ranks_rows_go_on(emulation):
    generator = np.random.default_rng(0)
    batches = generator.integers(0, 12, (5, 3, 8, 2), dtype=np.int32)
    emulation.serve(2, batches)
    ranks_of = generator.integers(0, 4, (5, 3))
    emulation.become(ranks_of)
    for step in range(12):  # more than there are batches
        batch = step % 5
        for index, layer in enumerate(emulation.layers):
            x, ids, out = layer.step(2)
            assert np.array_equal(ids.numpy(), batches[batch, index])
            rank = ranks_of[batch, index]
            mine = batches[batch, index] // 3 == rank
            assert layer.seen == sorted(set((batches[batch, index][mine] % 3).tolist()))
            assert torch.equal(out, x + torch.from_numpy(mine[:2].sum(axis=1, keepdims=True)))
            assert [int(t) for t in layer.router.eplb_state.num_unpadded_tokens_tensors] == [8]


def test_other_batches_are_left_to_vllm(emulation):
    emulation.become(0)
    emulation.maps.fill_(0)
    x, ids, out = emulation.layers[0].step(7)
    assert ids.shape == (7, 2) and len(out) == 7
    assert emulation.layers[0].router.eplb_state.num_unpadded_tokens_tensors == ["vLLM's"]
    assert int(emulation.step) == 0


def test_the_table_sets_every_policy_beside_stock():
    row = {"shape": "s", "drafts": 0, "requests": 8, "max_activated": 5.0, "router_us": 2.0, "slowest_ms": 3.0,
           "sent_ms": 1.0, "graph_checked": True}  # fmt: skip
    rows = [{**row, "policy": "stock", "busiest_ms": 4.0}, {**row, "policy": "cuda", "busiest_ms": 3.0},
            {"shape": "s", "policy": "engine", "start_s": 40}]  # fmt: skip
    text = ranks.table(rows).splitlines()
    assert len(text) == 3 and "-20.0%" in text[2] and "stock" in text[1]


def test_as_many_rearrangements_as_were_asked_for():
    interval = tokens.step_interval(1000, 100)
    steps = tokens.num_calls(1000) * tokens.STEPS
    assert steps // interval >= 100 and tokens.num_calls(1000) * tokens.AT_ONCE >= 1000
    with pytest.raises(ValueError, match="too few"):
        tokens.step_interval(13, 100)


def test_tokens_are_judged_both_ways():
    plugin = {"graphs": {"m": {"metro": 3}}, "off": ""}
    since = {"mappings": 90, "samples": 4, "ours": 8, "stock": 12}
    home = {"graphs": {"m": {"home": 3}}, "off": ""}
    stock = {"tokens": [[1, 2], [3]], "rearranged": 0}
    same = {"tokens": [[1, 2], [3]], "rearranged": 3, "plugin": plugin, "since": since, "python": {"metro": 4},
            "counts": True, "runner": "V2"}  # fmt: skip
    other = {**same, "tokens": [[1, 2], [4]]}
    verdict = lambda *a: equal.judge(*a)["verdict"]  # noqa: E731
    assert verdict("metro", same, stock, 3) == "ok" and verdict("home wrong", {**other, "plugin": home}, stock, 0) == "ok"
    assert verdict("metro", other, stock, 3) == "tokens"
    assert verdict("home wrong", {**same, "plugin": home}, stock, 0) == "tokens"
    assert verdict("metro", same, stock, 4) == "rearranged too seldom"
    assert verdict("metro", {**same, "plugin": {"graphs": {}, "off": ""}}, stock, 3) == "not captured"
    assert verdict("metro", {**same, "plugin": {**plugin, "off": "LoRA"}}, stock, 3) == "not captured"
    assert verdict("metro", {**same, "since": {"mappings": 4}}, stock, 3) == "not replayed"
    assert verdict("auto", same, stock, 3) == "not captured"
    assert verdict("metro", {"failed": "out of time"}, stock, 3) == "FAILED"



def test_a_child_that_dies_keeps_what_it_reported(tmp_path, monkeypatch):
    script = tmp_path / "child.py"
    script.write_text("import trials\ntrials.report({'policy': 'home', 'ms': 1})\nraise SystemExit('boom')\n")
    monkeypatch.setattr(sys, "argv", [str(script)])
    bench = trials.Bench("t", types.SimpleNamespace(budget=60, out=tmp_path / "out", extension=None, site=""))
    rows = bench.run("one", {"kind": "x"}, 50, tag={"shape": "s"})
    assert rows[0] == {"trial": "one", "shape": "s", "policy": "home", "ms": 1}
    assert "boom" in rows[1]["failed"] and "boom" in bench.log.read_text()
    assert [json.loads(line) for line in bench.jsonl.read_text().splitlines()] == rows
    bench.deadline = 0
    assert "out of time" in bench.run("two", {}, 50)[0]["failed"]
