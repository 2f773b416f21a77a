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


SIZES = ((4, 4), (32, 29), (128, 128))  # rows, and how many are real


def check_mapping(trial):
    """us a call inside a CUDA graph, each policy against choice_reference.py first; vLLM's own where it is there."""
    import torch

    sys.path.insert(0, str(ROOT / "tests/python/vllm"))
    generator = torch.Generator().manual_seed(0)
    num_experts, num_redundant = 128, 64
    slots = [*range(num_experts), *torch.randperm(num_experts, generator=generator)[:num_redundant].tolist()]
    slots = [slots[i] for i in torch.randperm(len(slots), generator=generator).tolist()]
    for rows, real in SIZES:
        ids = torch.stack([torch.randperm(num_experts, generator=generator)[:8] for _ in range(rows)]).int()
        if real < rows:
            ids[real - 1] = ids[real + 1] = -1  # vLLM masks rows; one of them counts as real, as an idle rank's do
        check_batch(ids, real, slots, num_experts)


def calls_of(device, num_gpus):
    """{name: (a call that gives the physical ids, how they are judged)} of what is installed here."""
    import torch

    from metro_moe.vllm.replica_choice import map_to_physical_and_record

    ids, load, table, count, on, real = device

    def ours(policy):
        return lambda: map_to_physical_and_record(*device, policy=policy, num_gpus=num_gpus)

    calls = {f"triton {policy}": (ours(policy), policy) for policy in ("hash", "home", "metro")}
    try:
        from vllm.model_executor.layers.fused_moe.router.base_router import eplb_map_to_physical_and_record as stock

        ones = torch.ones_like(count)
        calls["stock"] = (lambda: stock(*device), "hash")
        calls["home"] = (lambda: stock(ids, load, table, ones, on, real), "first")
    except ImportError:
        print("no vLLM here: its own mapping is left out")
    try:
        from metro_moe.vllm.cuda_backend import CudaBackend
        from metro_moe.vllm.settings import Settings

        backend = CudaBackend(Settings(decode="optimal"))
        router = backend.router_for(ids, load, table, count, num_gpus).router
        checksum = torch.zeros(1, dtype=torch.int64, device=ids.device)  # of the last layer alone, in vLLM
        calls["optimal"] = (lambda: backend.map(*device, num_gpus), "optimal")
        calls["optimal, checksum"] = (lambda: backend.map(*device, num_gpus, checksum), "optimal")
        calls["router without maps"] = (lambda: router.route_tensor(0, ids, num_valid=real), "unrecorded")
    except Exception:
        traceback.print_exc()
    return calls


def check_batch(ids, real, slots, num_experts, num_gpus=8):
    import choice_reference
    import torch

    table, count = choice_reference.tables(slots, num_experts, 1024)
    load = torch.zeros(len(slots), dtype=torch.int32)
    device = [t.cuda() for t in (ids, load, table, count, torch.tensor(True), torch.tensor(real, dtype=torch.int32))]
    for name, (call, policy) in calls_of(device, num_gpus).items():
        try:
            device[1].zero_()
            got = call().cpu()
            kept = ids[:real] >= 0
            if policy in ("optimal", "unrecorded"):
                held = torch.tensor(slots, dtype=torch.int32)[got[:real].long()]
                assert torch.equal(held[kept], ids[:real][kept]) and (got[ids < 0] == -1).all()
                recorded = got[:real][kept] if policy == "optimal" else got[:0]
                want_load = torch.bincount(recorded.flatten(), minlength=len(slots))
            elif policy == "first":
                want, want_load = choice_reference.first_replicas(ids, table, count, real)
            else:
                want, want_load = choice_reference.choose(ids, table, count, policy, num_gpus, real)
            if policy not in ("optimal", "unrecorded"):
                assert torch.equal(got, want), f"{name} differs from the reference"
            assert torch.equal(device[1].cpu().long(), want_load.long()), f"{name}: other loads"
            us = graph_us(call)
            most = choice_reference.max_activated(got[:real], len(slots), num_gpus)
            report({"policy": name, "rows": len(ids), "us": round(us, 2), "max_activated": most,
                    "gpu": torch.cuda.get_device_name()})  # fmt: skip
        except Exception as error:
            traceback.print_exc()
            report({"policy": name, "rows": len(ids), "failed": str(error)[:200]})
