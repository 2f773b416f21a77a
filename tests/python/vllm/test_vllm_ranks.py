# SPDX-License-Identifier: Apache-2.0
"""Two processes with real collectives (gloo) around vLLM's own modules: its groups, EPLB state, rearrangement with its
weight transfer, mapping and gather. Outputs of a layer of numbers must be those of its experts, whatever was moved.

Skipped where vLLM is not installed.
"""

import importlib
import os
import socket
import types

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from engine import Config, context, needs_interpreter, vllm_modules  # noqa: F401

from metro_moe.vllm import seams

RANKS, NUM_EXPERTS, REDUNDANT, ROWS, TOPK = 2, 8, 4, 6, 2
LOCAL = (NUM_EXPERTS + REDUNDANT) // RANKS


def join(rank, port):
    """vLLM's own groups of two ranks; its modules as on a GPU, so that it has its mapping kernel."""
    platform = type(importlib.import_module("vllm.platforms").current_platform)
    before, platform.is_cuda_alike = platform.is_cuda_alike, lambda self: True
    importlib.import_module(seams.MODULE)
    platform.is_cuda_alike = before
    parallel = importlib.import_module("vllm.distributed.parallel_state")
    parallel.init_distributed_environment(RANKS, rank, f"tcp://127.0.0.1:{port}", rank, "gloo")
    group = parallel.init_model_parallel_group(
        [list(range(RANKS))], rank, "gloo", use_device_communicator=False, group_name="ep"
    )
    parallel._EP = group
    return group


class Group:
    """vLLM's group, which gathers with gloo."""

    def __init__(self, group):
        self._group = group

    def __getattr__(self, name):
        return getattr(self._group, name)

    def gather(self, tensor):
        parts = [torch.empty_like(tensor) for _ in range(RANKS)]
        dist.all_gather(parts, tensor.contiguous(), group=self._group.cpu_group)
        return torch.cat(parts)

    def dispatch(self, a1, weights, ids, **more):
        return self.gather(a1), self.gather(weights), self.gather(ids)


def model_of(state_module, rank):
    """Two layers of experts whose weight is one number, loaded by vLLM's map."""
    start = state_module.EplbState.build_initial_global_physical_to_logical_map(NUM_EXPERTS, REDUNDANT)
    mine = list(start)[rank * LOCAL : (rank + 1) * LOCAL]
    weights = [[torch.tensor([[100.0 * layer + expert] for expert in mine])] for layer in range(2)]
    return types.SimpleNamespace(
        num_routed_experts=NUM_EXPERTS, num_redundant_experts=REDUNDANT, num_physical_experts=NUM_EXPERTS + REDUNDANT,
        num_logical_experts=NUM_EXPERTS, num_expert_groups=1, num_moe_layers=2, moe_layers=[],
        num_local_physical_experts=LOCAL, expert_weights=weights, set_eplb_state=lambda *tensors: None,
    )  # fmt: skip


def layer_output(slots, model, layer, rank):
    """[rows] this rank's part: it has the weights of its own slots alone."""
    local = slots.long() - rank * LOCAL
    mine = (local >= 0) & (local < LOCAL)
    values = model.expert_weights[layer][0][local.clamp(0, LOCAL - 1), 0]
    return torch.where(mine, values, 0.0).sum(1)


def run(rank, port, policy, is_dp, differ, answers):
    os.environ.update(METRO_VLLM_DECODE=policy, METRO_VLLM_CHECK_STEPS="2", TRITON_INTERPRET="1", GLOO_SOCKET_IFNAME="lo",
                      VLLM_HOST_IP="127.0.0.1", CUDA_VISIBLE_DEVICES="", MASTER_ADDR="127.0.0.1")  # fmt: skip
    group = Group(join(rank, port))
    from metro_moe import vllm as plugin

    patch = pytest.MonkeyPatch()
    state_module = importlib.import_module(seams.EPLB_STATE)
    parallel = importlib.import_module("vllm.distributed.parallel_state")
    patch.setattr(parallel, "get_ep_group", lambda: group)
    patch.setattr(state_module, "get_ep_group", lambda: group)
    patch.setattr(state_module, "get_eplb_group", lambda: group, raising=False)
    patch.setattr(state_module, "get_node_count", lambda: 1)
    patch.setattr(state_module, "PIN_MEMORY", False, raising=False)
    communicator = importlib.import_module("vllm.distributed.eplb.eplb_communicator")
    patch.setattr(communicator, "PIN_MEMORY", False, raising=False)
    for owner in (torch.accelerator, torch.cuda):  # there is none to wait for
        patch.setattr(owner, "current_stream", lambda *a: types.SimpleNamespace(synchronize=lambda: None))
    event = types.SimpleNamespace(record=lambda *a: None, synchronize=lambda: None, elapsed_time=lambda other: 0.0)
    patch.setattr(torch, "Event", lambda **more: event)
    patch.setattr(torch.cuda, "Event", lambda **more: event)
    forward = context(ep_size=RANKS, dp_size=RANKS if is_dp else 1)
    patch.setattr(importlib.import_module("vllm.forward_context"), "get_forward_context", lambda: forward)
    hf = types.SimpleNamespace(architectures=["Qwen3MoeForCausalLM"])
    eplb = types.SimpleNamespace(use_async=False, window_size=2, step_interval=4, policy="default", log_balancedness_interval=1,
                                 communicator="torch_gloo", enable_migration_batching=False)  # fmt: skip
    settings = types.SimpleNamespace(eplb_config=eplb, num_ubatches=0, enable_elastic_ep=False, enable_dbo=False)
    config = types.SimpleNamespace(parallel_config=settings, additional_config={}, model_config=types.SimpleNamespace(hf_config=hf))
    patch.setattr(importlib.import_module("vllm.config"), "get_current_vllm_config_or_none", lambda: config)
    plugin.register()
    mapping = getattr(importlib.import_module(seams.MODULE), seams.FUNCTION)
    model = model_of(state_module, rank)
    state = state_module.EplbState(settings, torch.device("cpu"))
    state.add_model(model, Config())
    held = next(iter(state.model_states.values()))
    gather_module = importlib.import_module(seams.GATHER_MODULE)
    patch.setattr(gather_module, "get_ep_group", lambda: group)
    patch.setattr(gather_module, "_quantize_and_setup_dispatch", lambda a1, *rest: (a1, None, None))
    naive, wrong, placements, error = gather_module.MoEPrepareAndFinalizeNaiveDPEPModular(), 0, set(), ""
    try:
        for step in range(12):
            ids = [torch.randint(0, NUM_EXPERTS, (ROWS, TOPK), generator=torch.Generator().manual_seed(2 * step + r * is_dp),
                                 dtype=torch.int32) for r in range(RANKS)]  # fmt: skip
            ids[0][-1] = -1  # masked by vLLM
            if not is_dp:
                ids[1][-1] = -1
            if differ and step == 1 and rank == 1:
                ids[1][0] = (ids[1][0] + 1) % NUM_EXPERTS
            for layer in range(2):
                slots = mapping(
                    topk_ids=ids[rank], expert_load_view=held.expert_load_pass[layer],
                    logical_to_physical_map=held.logical_to_physical_map[layer],
                    logical_replica_count=held.logical_replica_count[layer], record_enabled=torch.tensor(True),
                    num_unpadded_tokens=torch.tensor(ROWS, dtype=torch.int32),
                )  # fmt: skip
                rows = ids[rank]
                if is_dp:
                    a1 = torch.ones(ROWS, 2)
                    slots = naive.prepare(a1, torch.ones(ROWS, TOPK), slots, 12, None, False, None)[3]
                    rows = torch.cat(ids)
                out = layer_output(slots, model, layer, rank)
                dist.all_reduce(out, group=group.cpu_group)
                want = torch.where(rows >= 0, 100.0 * layer + rows, 0.0).sum(1)
                wrong += int((out != want).sum()) if not differ else 0
            state.step()
            placements.add(str(held.physical_to_logical_map.tolist()))
    except seams.RanksDiffer as raised:
        error = str(raised)
    answers[rank] = (wrong, len(placements), plugin.status(), error)
    dist.barrier()
    dist.destroy_process_group()


def start(policy, is_dp=False, differ=False):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with processes.get_context("spawn").Manager() as manager:
        answers = manager.dict()
        processes.spawn(run, (port, policy, is_dp, differ, answers), nprocs=RANKS)
        return dict(answers)


@needs_interpreter
@pytest.mark.parametrize("policy", ["hash", "home", "metro"])
@pytest.mark.parametrize("is_dp", [False, True], ids=["tp", "dp"])
def test_outputs_are_the_experts_through_vllms_rearrangements(vllm_modules, policy, is_dp):  # noqa: F811
    answers = start(policy, is_dp)
    for wrong, placements, status, error in answers.values():
        assert wrong == 0 and error == "" and placements > 1
        if policy != "hash":
            assert status["off"] == "" and status["calls"].get(policy) == 24 and status["num_gpus"] == RANKS
            where = "gather" if is_dp and policy == "metro" else "never" if is_dp else "whole"
            assert status["models"] == {"tiny": where}


@needs_interpreter
def test_top_k_that_differs_ends_both_ranks(vllm_modules):  # noqa: F811
    for _, _, _, error in start("home", differ=True).values():
        assert "ranks chose different replicas" in error and "METRO_VLLM_CHECK_STEPS" in error
