# SPDX-License-Identifier: Apache-2.0
"""Three processes with a real group (gloo): they agree, exchange what is active, and choose alike; one is idle."""

import os
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from choice_reference import choose
from engine import Config, Layers, context, needs_interpreter, space, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import agreement, seams

RANKS, NUM_EXPERTS = 3, 12
SLOTS = [*range(NUM_EXPERTS), 0, 4, 8, 1, 5, 9]


def batch(rank):
    return torch.randint(0, NUM_EXPERTS, (2, 2), generator=torch.Generator().manual_seed(rank), dtype=torch.int32)


class Group:
    """What vLLM's GroupCoordinator is to the plugin."""

    world_size, ranks = RANKS, list(range(RANKS))

    def __init__(self, rank):
        self.rank_in_group, self.cpu_group = rank, dist.group.WORLD

    def all_gather(self, mine, dim):
        parts = [torch.empty_like(mine) for _ in range(RANKS)]
        dist.all_gather(parts, mine)
        return torch.cat(parts, dim)


def run(rank, port, told, answers):
    os.environ.update(METRO_VLLM_DECODE=told[rank], METRO_VLLM_EXCHANGE="always", TRITON_INTERPRET="1")
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    patch = pytest.MonkeyPatch()
    module, _, _ = stand_in(patch)
    forward = context(ep_size=RANKS, dp_size=RANKS, gathers=False)
    sys.modules["vllm.forward_context"].get_forward_context = lambda: forward
    group = Group(rank)
    sys.modules["vllm.distributed.parallel_state"].get_ep_group = lambda: group
    plugin.register()
    layers, state = Layers(SLOTS, NUM_EXPERTS), sys.modules[seams.EPLB_STATE].EplbState(space())
    state.add_model(layers, Config())
    outs = []
    for step in range(2):
        if rank != 1 or step == 0:
            state.prepare_forward(Config(), 2)  # rank 1 has no request in the second step
        real = layers.num_unpadded_tokens_tensors[0]
        outs.append(layers.call(getattr(module, seams.FUNCTION), batch(rank), 0, int(real)))
        state.step()
    answers[rank] = (outs, plugin.status(), agreement.all_fine(rank != 2, group))
    dist.barrier()
    dist.destroy_process_group()


def start(told):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with processes.get_context("spawn").Manager() as manager:
        answers = manager.dict()
        processes.spawn(run, (port, told, answers), nprocs=RANKS)
        return dict(answers)


@needs_interpreter
def test_ranks_with_a_real_group_choose_alike():
    answers, layers = start(["metro"] * RANKS), Layers(SLOTS, NUM_EXPERTS)
    for step, ranks in enumerate(([0, 1, 2], [0, 2])):
        want = choose(torch.cat([batch(r) for r in ranks]), layers.table[0], layers.count[0], "metro", RANKS)[0]
        got = torch.cat([answers[r][0][step] for r in ranks])
        assert torch.equal(got, want)
    idle = answers[1][0][1]
    assert set(layers.experts(idle).flatten().tolist()) == {0}
    for _, status, fine in answers.values():
        assert status["models"] == {"tiny": "exchange"} and status["off"] == "" and fine is False


@needs_interpreter
def test_one_rank_with_other_settings_leaves_all_with_vllms_own():
    answers, layers = start(["metro", "home", "metro"]), Layers(SLOTS, NUM_EXPERTS)
    for rank, (outs, status, _) in answers.items():
        assert torch.equal(outs[0], choose(batch(rank), layers.table[0], layers.count[0], "hash", RANKS)[0])
        assert "rank 1 has" in status["off"]
