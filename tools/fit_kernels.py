#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits the kernel efficiencies of src/cost/kernel_table.inc to public tables of measured kernels.

usage: fit_kernels.py SILICON_FOLDER [-o FILE]    write the table
       fit_kernels.py SILICON_FOLDER --score      errors of expert time, the scored shape left out

SILICON_FOLDER holds moe_balanced.csv, gemm.csv, attention_generation.csv, nccl.csv,
deepep_low_latency.csv and moe_tokens_activated.csv (docs/cost-model.md says where they are from).
Constants belong to a GPU architecture, a number format and an engine, never to a shape. The formulas
are those of src/cost/roofline.hpp and src/cost/expert_kernel.hpp. Same input, same bytes.
"""
import argparse
import collections
import csv
import pathlib

import numpy as np

# Datasheets, as in src/core/gpu.cpp: architecture, memory TB/s, dense TFLOPS bf16 / fp8 / fp4.
GPUS = {
    "a100_sxm": ("ampere", 2.039, 312, 312, 312),
    "h100_sxm": ("hopper", 3.35, 989, 1979, 989),
    "h200_sxm": ("hopper", 4.8, 989, 1979, 989),
    "b200_sxm": ("blackwell", 8.0, 2250, 4500, 9000),
    "gb200": ("blackwell", 8.0, 2500, 5000, 10000),
    "rtx_pro_6000": ("blackwell", 1.792, 504, 1008, 2016),
}
ARCHITECTURES = ["ampere", "hopper", "blackwell"]
ENGINES = ["vllm", "sglang", "trtllm"]
DTYPES = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "w4a16_mxfp4": "fp4"}
BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.53125}
FLOPS_COLUMN = {"bf16": 2, "fp8": 3, "fp4": 4}


def rate(gpu, dtype):
    """Memory bytes and operations that the GPU does in a microsecond."""
    return GPUS[gpu][1] * 1e6, GPUS[gpu][FLOPS_COLUMN[dtype]] * 1e6


def read(folder, name):
    with open(folder / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def search(error, start, low, high, steps=2500, seed=0):
    """Random search in the logarithm of positive constants: slow, simple, and the same every time."""
    rng = np.random.default_rng(seed)
    low, high = np.log(low), np.log(high)
    best, width = np.log(start), 0.3
    best_error = error(np.exp(best))
    for _ in range(steps):
        move = rng.normal(size=len(best)) * width * (rng.random(len(best)) < 0.5)
        trial = np.clip(best + move, low, high)
        trial_error = error(np.exp(trial))
        if trial_error < best_error:
            best, best_error, width = trial, trial_error, min(width * 1.3, 0.5)
        else:
            width = max(width * 0.985, 0.01)
    return np.exp(best)


def log_error(model, measured):
    return float(np.mean(np.abs(np.log(model / measured))))


# ---- roofline: fixed + (memory^p + compute^p)^(1/p) -------------------------------------------

ROOFLINE_START = [5, 0.75, 0.6, 3]
ROOFLINE_LOW = [0.5, 0.05, 0.02, 1]
ROOFLINE_HIGH = [40, 1, 1, 8]


def roofline(constants, memory_us, compute_us):
    fixed, memory, compute, p = constants
    return fixed + ((memory_us / memory) ** p + (compute_us / compute) ** p) ** (1 / p)


def fit_roofline(rows):
    memory_us, compute_us, measured = np.array(rows).T
    return search(lambda c: log_error(roofline(c, memory_us, compute_us), measured),
                  ROOFLINE_START, ROOFLINE_LOW, ROOFLINE_HIGH)


def gemm_rows(table):
    groups = collections.defaultdict(list)
    for row in table:
        dtype = DTYPES[row["dtype"]]
        m, n, k = int(row["m"]), int(row["n"]), int(row["k"])
        # fp8_block rows of this table are dominated by host work; tiny matrices occur in no model.
        if row["dtype"] == "fp8_block" or min(n, k) < 256:
            continue
        memory, compute = rate(row["gpu"], dtype)
        groups[GPUS[row["gpu"]][0], dtype].append(
            ((n * k * BYTES[dtype] + 2.0 * m * (n + k)) / memory, 2.0 * m * n * k / compute,
             float(row["latency_us"])))
    return groups


def attention_rows(table):
    groups = collections.defaultdict(list)
    for row in table:
        heads, kv_heads, width = (int(row[c]) for c in ("num_heads", "num_kv_heads", "head_dim"))
        keys = int(row["batch"]) * int(row["kv_len"])
        dtype = "fp8" if "fp8" in row["kv_dtype"] else "bf16"
        # SGLang 0.5.14 widens the whole fp8 cache first on Hopper, at 6 % of the memory's rate; served
        # models keep bf16 there.
        if (row["gpu"], row["framework"], row["kind"], dtype) == ("h200_sxm", "sglang", "mla", "fp8"):
            continue
        memory, compute = rate(row["gpu"], "bf16")
        if row["kind"] == "mla":
            num_bytes, operations = width * BYTES[dtype] * keys, 2.0 * heads * (width + 512) * keys
        else:
            num_bytes = 2.0 * kv_heads * width * BYTES[dtype] * keys
            operations = 4.0 * heads * width * keys
        point = (num_bytes / memory, operations / compute, float(row["latency_us"]))
        for engine in (row["framework"], ""):
            groups[GPUS[row["gpu"]][0], engine, row["kind"], dtype].append(point)
    return groups


# ---- experts: base + per_token * T + sum of phi(n) --------------------------------------------

EXPERT_START = [20, 0.3, 0.8, 0.6, 0.5, 1, 3]
EXPERT_LOW = [3, 1e-3, 0.05, 0.03, 1e-3, 1e-3, 1.2]
EXPERT_HIGH = [80, 8, 1, 1, 30, 100, 8]


def expert_time(constants, points):
    """Columns of points: memory rate, rate, weights bytes, parameters, hidden, tokens, active, n."""
    base, replica, memory, compute, row, token, p = constants
    bandwidth, flops, num_bytes, parameters, hidden, tokens, active, n = points[:, :8].T
    stream = replica + num_bytes / (memory * bandwidth)
    multiply = 2 * parameters * n / (compute * flops)
    # row and token are bytes moved for each value of a token's vector.
    phi = (stream**p + multiply**p) ** (1 / p) + row * n * hidden / bandwidth
    return base + token * tokens * hidden / bandwidth + active * phi


def fit_experts(points, steps=3000):
    return search(lambda c: log_error(expert_time(c, points), points[:, 8]),
                  EXPERT_START, EXPERT_LOW, EXPERT_HIGH, steps)


def expert_point(gpu, dtype, hidden, inter, tokens, active, n, latency):
    memory, compute = rate(gpu, dtype)
    parameters = 3.0 * hidden * inter
    return [memory, compute, parameters * BYTES[dtype], parameters, hidden, tokens, active, n, latency]


def expert_groups(table):
    """Points and shapes by (architecture, engine, dtype); engine "" holds all of them."""
    fastest = {}  # of several kernels: engines tune and take the fastest
    for row in table:
        if row["distribution"] != "balanced" or row["dtype"] not in DTYPES:
            continue
        hidden, inter, topk, experts, ep, tokens = (
            int(row[c]) for c in ("hidden", "inter", "topk", "num_experts", "ep", "num_tokens"))
        # A group-limited gate does not spread tokens as asked: rank 0 takes as long at EP 16 as at
        # EP 8. Only TensorRT-LLM was given the choice itself.
        if experts == 256 and row["framework"] != "trtllm":
            continue
        # Served models scale fp8 by block, and gpt-oss alone is mxfp4 where nvfp4 multiplies.
        architecture = GPUS[row["gpu"]][0]
        if row["dtype"] == "fp8" or (row["dtype"] == "w4a16_mxfp4" and architecture == "blackwell"):
            continue
        key = (row["gpu"], row["framework"], row["dtype"], hidden, inter, topk, experts, ep, tokens)
        fastest[key] = min(fastest.get(key, np.inf), float(row["latency_us"]))
    groups = collections.defaultdict(list)
    for (gpu, engine, dtype, hidden, inter, topk, experts, ep, tokens), latency in fastest.items():
        all_active = min(experts, tokens * topk)
        point = expert_point(gpu, DTYPES[dtype], hidden, inter, tokens, max(1, -(-all_active // ep)),
                             tokens * topk / all_active, latency)
        for name in (engine, ""):
            groups[GPUS[gpu][0], name, DTYPES[dtype]].append((point, (hidden, inter, experts)))
    return {key: (np.array([p for p, _ in rows]), [s for _, s in rows])
            for key, rows in sorted(groups.items())}


# ---- collectives: alpha + bytes / beta ---------------------------------------------------------

def fit_line(points):
    num_bytes, measured = np.array(points, dtype=float).T
    return search(lambda c: log_error(c[0] + num_bytes / (c[1] * 1e3), measured),
                  [12, 300], [1, 5], [100, 3000], 1200)


OPERATIONS = {"all_gather": "AllGather", "alltoall": "AllToAll",
              "reduce_scatter": "ReduceScatter", "all_reduce": "AllReduce"}


def collective_groups(nccl, deepep):
    groups = collections.defaultdict(list)
    for row in nccl:
        if int(row["bytes"]) <= 128 << 20:
            groups[GPUS[row["gpu"]][0], OPERATIONS[row["op"]], int(row["num_gpus"])].append(
                (int(row["bytes"]), float(row["latency_us"])))
    for row in deepep:
        # Few experts a GPU make the kernel wait on one queue: models of 64 experts and more only.
        if row["quality"] != "measured" or int(row["num_experts"]) < 64:
            continue
        values = int(row["tokens_per_gpu"]) * int(row["topk"]) * int(row["hidden"])
        key = GPUS[row["gpu"]][0]
        groups[key, "Dispatch", int(row["num_gpus"])].append((values, float(row["dispatch_us"])))
        groups[key, "Combine", int(row["num_gpus"])].append((2 * values, float(row["combine_us"])))
    return groups


# ---- output --------------------------------------------------------------------------------------

def constants_text(values):
    return ", ".join(f"{v:.4g}" for v in values)


def write_table(folder):
    out = ["// SPDX-License-Identifier: Apache-2.0",
           "// Written by tools/fit_kernels.py, which says from what: do not edit.", ""]

    def table(name, kind, rows):
        out.extend([f"constexpr std::array<{kind}, {len(rows)}> {name} = {{{{", *rows, "}};", ""])

    def architecture(name):
        return "Architecture::k" + name.capitalize()

    def dtype(name):
        return "DataType::k" + name.capitalize()

    table("kGemmTable", "GemmEntry", [
        f"    {{{architecture(a)}, {dtype(d)}, {{{constants_text(fit_roofline(rows))}}}}},"
        for (a, d), rows in sorted(gemm_rows(read(folder, "gemm.csv")).items())])
    kinds = {"gqa": "AttentionKind::kGrouped", "mla": "AttentionKind::kLatent"}
    table("kAttentionTable", "AttentionEntry", [
        f'    {{{architecture(a)}, "{e}", {kinds[k]}, {dtype(d)}, {{{constants_text(fit_roofline(rows))}}}}},'
        for (a, e, k, d), rows in sorted(
            attention_rows(read(folder, "attention_generation.csv")).items())])
    table("kExpertTable", "ExpertEntry", [
        f'    {{{architecture(a)}, "{e}", {dtype(d)}, {{{constants_text(fit_experts(points))}}}}},'
        for (a, e, d), (points, _) in expert_groups(read(folder, "moe_balanced.csv")).items()])
    table("kCollectiveTable", "CollectiveEntry", [
        f"    {{{architecture(a)}, Collective::k{op}, {n}, {{{constants_text(fit_line(points))}}}}},"
        for (a, op, n), points in sorted(collective_groups(
            read(folder, "nccl.csv"), read(folder, "deepep_low_latency.csv")).items())])
    return "\n".join(out).rstrip("\n") + "\n"


def score(folder):
    errors = collections.defaultdict(list)
    groups = expert_groups(read(folder, "moe_balanced.csv"))
    for key, (points, shapes) in groups.items():
        if not key[1] or len(set(shapes)) < 2:
            continue
        for shape in sorted(set(shapes)):
            left_out = np.array([s == shape for s in shapes])
            constants = fit_experts(points[~left_out])
            error = np.abs(expert_time(constants, points[left_out]) / points[left_out][:, 8] - 1)
            errors[key].extend(error)
            print(*key, *shape, f"{len(error)} points, median error {np.median(error):.1%}")
    everything = np.concatenate(list(errors.values()))
    print(f"moe_balanced.csv: {len(everything)} points, median error {np.median(everything):.1%}")
    points, shapes = groups["hopper", "vllm", "bf16"]  # the same Triton kernel
    rows = read(folder, "moe_tokens_activated.csv")
    scored = np.array([expert_point(
        "rtx_pro_6000", "bf16", 2048, 768, int(r["tokens"]), int(r["activated_experts"]),
        int(r["tokens"]) * 8 / int(r["activated_experts"]), float(r["time_us"])) for r in rows])
    constants = fit_experts(points[np.array([s[:2] != (2048, 768) for s in shapes])])
    error = np.abs(expert_time(constants, scored) / scored[:, 8] - 1)
    print(f"moe_tokens_activated.csv: {len(error)} points, median error {np.median(error):.1%}, "
          f"GPU, engine version and shape left out")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", type=pathlib.Path)
    parser.add_argument("--score", action="store_true")
    arguments = parser.parse_args()
    if arguments.score:
        score(arguments.folder)
    elif arguments.o:
        arguments.o.write_text(write_table(arguments.folder), encoding="utf-8")
    else:
        print(write_table(arguments.folder), end="")


if __name__ == "__main__":
    main()
