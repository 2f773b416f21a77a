# SPDX-License-Identifier: Apache-2.0
"""The mapping alone: each policy against tests/python/vllm/choice_reference.py, then timed in a CUDA graph."""

import sys
import traceback

from trials import ROOT, report


def graph_us(call, calls=100):
    """us of one call, the median of seven replays of a graph that holds `calls` of them."""
    import torch

    with torch.cuda.stream(torch.cuda.Stream()):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    times = []
    for _ in range(7):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / calls)
    return sorted(times)[3]


def check_mapping(trial):
    """us a call inside a CUDA graph, each policy against choice_reference.py first."""
    import torch

    sys.path.insert(0, str(ROOT / "tests/python/vllm"))
    import choice_reference
    from vllm.model_executor.layers.fused_moe.router.base_router import eplb_map_to_physical_and_record

    from metro_moe.vllm.replica_choice import map_to_physical_and_record

    num_experts, num_redundant, num_gpus, rows, topk = 128, 64, 8, 32, 8
    generator = torch.Generator().manual_seed(0)
    slots = [*range(num_experts), *torch.randperm(num_experts, generator=generator)[:num_redundant].tolist()]
    slots = [slots[i] for i in torch.randperm(len(slots), generator=generator).tolist()]
    table, count = choice_reference.tables(slots, num_experts, 1024)
    ids = torch.stack([torch.randperm(num_experts, generator=generator)[:topk] for _ in range(rows)]).int()
    real, on = torch.tensor(29, dtype=torch.int32), torch.tensor(True)
    load = torch.zeros(len(slots), dtype=torch.int32)
    device = [tensor.cuda() for tensor in (ids, load, table, count, on, real)]

    def ours(policy):
        return lambda: map_to_physical_and_record(*device, policy=policy, num_gpus=num_gpus)

    calls = {"stock": lambda: eplb_map_to_physical_and_record(*device)}
    calls |= {policy: ours(policy) for policy in ("hash", "home", "metro")}
    try:
        from metro_moe.vllm.cuda_backend import CudaBackend
        from metro_moe.vllm.settings import Settings

        backend = CudaBackend(Settings(decode="metro", backend="cuda"))
        ids_, load_, table_, count_, on_, real_ = device
        calls["cuda"] = lambda: backend.map(ids_, load_, table_, count_, on_, real_, num_gpus)
    except Exception:
        traceback.print_exc()
    for name, call in calls.items():
        try:
            device[1].zero_()
            got = call().cpu()
            if name == "cuda":
                assert torch.equal(torch.tensor(slots, dtype=torch.int32)[got[:29]], ids[:29])
                want_load = torch.bincount(got[:29].flatten(), minlength=len(slots))
            else:
                policy = "hash" if name == "stock" else name
                want, want_load = choice_reference.choose(ids, table, count, policy, num_gpus, 29)
                assert torch.equal(got, want), f"{name} differs from the reference"
            assert torch.equal(device[1].cpu().long(), want_load.long()), f"{name}: other loads"
            us = graph_us(call)
            most = choice_reference.max_activated(got[:29], len(slots), num_gpus)
            report({"policy": name, "us": round(us, 2), "max_activated": most, "gpu": torch.cuda.get_device_name()})
        except Exception as error:
            traceback.print_exc()
            report({"policy": name, "failed": str(error)[:200]})
