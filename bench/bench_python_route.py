#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times metro_moe.cuda.Router from Python: what a call costs the host, and the GPU in a graph.

usage: bench_python_route.py      (needs torch, a GPU, and metro_moe built with CUDA)

256 experts on 16 GPUs, 384 replicas (homed), 256 tokens, top-8, policy optimal.
"""
import time

import numpy as np
import torch

import metro_moe
from metro_moe import cuda

CALLS = 2000


def host_us(call):
    """Time that a call keeps the host, without waiting for the GPU."""
    for _ in range(200):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken / CALLS * 1e6


def graph_us(call, calls=100):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) * 1e3 / calls


def main():
    placement = metro_moe.place(np.ones((1, 256)), 384, 16, "homed")
    router = cuda.Router(placement, topk=8)
    ids = torch.randint(0, 256, (256, 8), dtype=torch.int32, device="cuda")
    out = torch.empty_like(ids)
    stream = cuda.current_stream(ids)
    source, target = ids.data_ptr(), out.data_ptr()
    by_address = host_us(lambda: router.route(0, source, 32, 256, 8, target, stream))
    by_tensor = host_us(lambda: router.route_tensor(0, ids, out))
    in_graph = graph_us(lambda: router.route_tensor(0, ids, out))
    print(torch.cuda.get_device_name())
    print(f"host: {by_address:.2f} us by addresses, {by_tensor:.2f} us by tensors")
    print(f"GPU:  {in_graph:.2f} us in a graph")


if __name__ == "__main__":
    main()
