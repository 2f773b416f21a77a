# SPDX-License-Identifier: Apache-2.0
"""PyTorch's grouped products over the cases of bench_experts: python3 bench/torch_grouped.py [--quick]

bf16: torch._grouped_mm; fp8: torch._scaled_grouped_mm, whose scales are by row. Both take counts from the
device and tokens that are gathered already. "products" are the two products alone; "stage" has the
SwiGLU between them and, in fp8, the quantisation of tokens and activations, compiled by torch.compile.
Times are medians of CUDA graph replays, weights rotated beyond the L2 cache, in us.
"""

import argparse
import statistics

import torch
import torch.nn.functional as F

SHAPES = [("Qwen3-30B", 2048, 768), ("Qwen3-235B", 4096, 1536), ("DeepSeek-V3", 7168, 2048)]
E4M3 = torch.float8_e4m3fn


def quantize(x):
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / 448
    return (x.float() / scale).to(E4M3), scale.squeeze(-1)


def swiglu(gate_up):
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def stage_bf16(x, up, down, offsets, products):
    gate_up = torch._grouped_mm(x, up.transpose(-2, -1), offs=offsets)
    inner = gate_up[:, : down.shape[-1]] if products else swiglu(gate_up)
    return torch._grouped_mm(inner.contiguous() if not products else inner, down.transpose(-2, -1), offs=offsets)


def stage_fp8(x, up, down, offsets, products, scales, ready, quantize_x, quantize_inner):
    x8, x_scale = ready[0] if products else quantize_x(x)
    gate_up = torch._scaled_grouped_mm(
        x8, up.transpose(-2, -1), x_scale, scales[0], offs=offsets, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    inner8, inner_scale = ready[1] if products else quantize_inner(gate_up)
    return torch._scaled_grouped_mm(
        inner8,
        down.transpose(-2, -1),
        inner_scale,
        scales[1],
        offs=offsets,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


def median_us(calls, replays):
    graphs = []
    for call in calls:
        for _ in range(2):
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        graphs.append(graph)
    times = []
    for i in range(replays + len(graphs)):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graphs[i % len(graphs)].replay()
        end.record()
        torch.cuda.synchronize()
        if i >= len(graphs):
            times.append(1000 * begin.elapsed_time(end))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    quantize_x = torch.compile(quantize, dynamic=True)
    quantize_inner = torch.compile(lambda gate_up: quantize(swiglu(gate_up)), dynamic=True)
    print(f"{'shape':14} {'dtype':5} {'activated':>9} {'tokens':>6} {'products':>9} {'stage':>9}", flush=True)
    for name, hidden, width in SHAPES:
        for shards in (1, 2) if quick else (1, 2, 8):
            if width % (shards * 16):
                continue
            for dtype in ("bf16", "fp8"):
                active, inner = 16 * shards, width // shards
                value = 2 if dtype == "bf16" else 1
                sets = min(16, max(2, -(-240_000_000 // (active * 3 * inner * hidden * value))))
                kind = torch.bfloat16 if dtype == "bf16" else E4M3

                def random(*size):
                    return (torch.randn(*size, device="cuda", dtype=torch.bfloat16) / 64).to(kind)

                ups = [random(active, 2 * inner, hidden) for _ in range(sets)]
                downs = [random(active, hidden, inner) for _ in range(sets)]
                for tokens in (4, 32, 64, 128) if quick else (1, 4, 8, 16, 32, 64, 128, 256):
                    offsets = torch.arange(1, active + 1, device="cuda", dtype=torch.int32) * tokens
                    x = torch.randn(active * tokens, hidden, device="cuda", dtype=torch.bfloat16)
                    y = torch.randn(active * tokens, inner, device="cuda", dtype=torch.bfloat16)
                    scales = [torch.ones(active, n, device="cuda") for n in (2 * inner, hidden)]
                    ready = [quantize(x), quantize(y)]
                    row = []
                    for products in (True, False):
                        if dtype == "bf16":
                            calls = [
                                lambda up=up, down=down: stage_bf16(x, up, down, offsets, products)
                                for up, down in zip(ups, downs)
                            ]
                        else:
                            calls = [
                                lambda up=up, down=down: stage_fp8(
                                    x, up, down, offsets, products, scales, ready, quantize_x, quantize_inner
                                )
                                for up, down in zip(ups, downs)
                            ]
                        row.append(median_us(calls, 11 if quick else 51))
                    label = name if shards == 1 else f"{name}/{shards}"
                    print(f"{label:14} {dtype:5} {active:9} {tokens:6} {row[0]:9.1f} {row[1]:9.1f}", flush=True)


if __name__ == "__main__":
    main()
