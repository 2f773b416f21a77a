#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits the kernel efficiencies of data/constants/kernels.json to public tables of measured kernels.

usage: fit_kernels.py SILICON_FOLDER [-o FILE] [--only TABLE]   write the file, or one table of it
       fit_kernels.py SILICON_FOLDER --score      errors of expert time, the scored shape left out

SILICON_FOLDER holds moe_balanced.csv, gemm.csv, attention_generation.csv, nccl.csv,
deepep_low_latency.csv and moe_tokens_activated.csv (docs/cost-model.md says where they are from).
TABLE is gemm, attention, experts or collectives. Constants belong to a GPU architecture, a number
format and an engine, never to a shape. The formulas are those of src/cost/roofline.hpp (a kernel) and
src/core/kernel_constants.hpp (experts); rates are those of data/constants/gpus.json. Same input, same
bytes.
"""
import argparse
import collections
import csv
import pathlib

import numpy as np

from constant_files import Gpus, architecture, file_text, rounded, source, tflops

GPUS = Gpus()
DTYPES = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "w4a16_mxfp4": "fp4"}
BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.53125}


def rate(gpu, dtype):
    """Memory bytes and operations that the GPU does in a microsecond."""
    spec = GPUS[gpu]
    return spec["memory_tb_s"] * 1e6, tflops(spec, dtype) * 1e6


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
        groups[architecture(GPUS[row["gpu"]]), dtype].append(
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
            groups[architecture(GPUS[row["gpu"]]), engine, row["kind"], dtype].append(point)
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
        if row["dtype"] == "fp8" or (
                row["dtype"] == "w4a16_mxfp4" and architecture(GPUS[row["gpu"]]) == "blackwell"):
            continue
        key = (row["gpu"], row["framework"], row["dtype"], hidden, inter, topk, experts, ep, tokens)
        fastest[key] = min(fastest.get(key, np.inf), float(row["latency_us"]))
    groups = collections.defaultdict(list)
    for (gpu, engine, dtype, hidden, inter, topk, experts, ep, tokens), latency in fastest.items():
        all_active = min(experts, tokens * topk)
        point = expert_point(gpu, DTYPES[dtype], hidden, inter, tokens, max(1, -(-all_active // ep)),
                             tokens * topk / all_active, latency)
        for name in (engine, ""):
            groups[architecture(GPUS[gpu]), name, DTYPES[dtype]].append((point, (hidden, inter, experts)))
    return {key: (np.array([p for p, _ in rows]), [s for _, s in rows])
            for key, rows in sorted(groups.items())}


# ---- collectives: alpha + bytes / beta ---------------------------------------------------------

def fit_line(points):
    num_bytes, measured = np.array(points, dtype=float).T
    return search(lambda c: log_error(c[0] + num_bytes / (c[1] * 1e3), measured),
                  [12, 300], [1, 5], [100, 3000], 1200)


OPERATIONS = {"all_gather": "all-gather", "alltoall": "all-to-all",
              "reduce_scatter": "reduce-scatter", "all_reduce": "all-reduce"}


# Of the GPUs in the tables, one direction; those of one architecture have links alike.
LINK_GB_S = {architecture(GPUS[name]): GPUS[name]["link_gb_s"] for name in ("a100_sxm", "h200_sxm", "b200_sxm")}


def collective_groups(nccl, deepep):
    groups = collections.defaultdict(list)
    for row in nccl:
        if int(row["bytes"]) <= 128 << 20:
            groups[architecture(GPUS[row["gpu"]]), OPERATIONS[row["op"]], int(row["num_gpus"])].append(
                (int(row["bytes"]), float(row["latency_us"])))
    for row in deepep:
        # Few experts a GPU make the kernel wait on one queue: models of 64 experts and more only.
        if row["quality"] != "measured" or int(row["num_experts"]) < 64:
            continue
        values = int(row["tokens_per_gpu"]) * int(row["topk"]) * int(row["hidden"])
        key = architecture(GPUS[row["gpu"]])
        groups[key, "dispatch", int(row["num_gpus"])].append((values, float(row["dispatch_us"])))
        groups[key, "combine", int(row["num_gpus"])].append((2 * values, float(row["combine_us"])))
    return groups


# ---- output --------------------------------------------------------------------------------------

ROOFLINE = ["fixed_us", "memory_efficiency", "compute_efficiency", "sharpness"]
EXPERT = ["base_us", "replica_us", "memory_efficiency", "compute_efficiency", "row_bytes", "token_bytes",
          "sharpness"]
LINE = ["alpha_us", "beta_gb_s"]
INPUTS = {"gemm": ["gemm.csv"], "attention": ["attention_generation.csv"], "experts": ["moe_balanced.csv"],
          "collectives": ["nccl.csv", "deepep_low_latency.csv"]}


def named(names, values):
    return {name: rounded(value) for name, value in zip(names, values)}


def engine_name(engine):
    return engine or "all"


def gemm_table(folder):
    groups = gemm_rows(read(folder, "gemm.csv"))
    return [{"architecture": a, "dtype": d, **named(ROOFLINE, fit_roofline(rows))}
            for (a, d), rows in sorted(groups.items())]


def attention_table(folder):
    kinds = {"gqa": "grouped", "mla": "latent"}
    groups = attention_rows(read(folder, "attention_generation.csv"))
    return [{"architecture": a, "engine": engine_name(e), "kind": kinds[k], "kv_dtype": d,
             **named(ROOFLINE, fit_roofline(rows))}
            for (a, e, k, d), rows in sorted(groups.items())]


def expert_table(folder):
    groups = expert_groups(read(folder, "moe_balanced.csv"))
    return [{"architecture": a, "engine": engine_name(e), "dtype": d, **named(EXPERT, fit_experts(points))}
            for (a, e, d), (points, _) in groups.items()]


def collective_table(folder):
    groups = collective_groups(read(folder, "nccl.csv"), read(folder, "deepep_low_latency.csv"))
    return [{"architecture": a, "collective": operation, "gpus": n, "link_gb_s": LINK_GB_S[a],
             **named(LINE, fit_line(points))}
            for (a, operation, n), points in sorted(groups.items())]


TABLES = {"gemm": gemm_table, "attention": attention_table, "experts": expert_table,
          "collectives": collective_table}


def constants_file(folder, tables):
    return file_text({
        "format": "metro-kernels", "version": 1,
        "source": [source(folder / name, table) for table in tables for name in INPUTS[table]],
        **{table: TABLES[table](folder) for table in tables}})


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
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--score", action="store_true")
    arguments = parser.parse_args()
    tables = [arguments.only] if arguments.only else list(TABLES)
    if arguments.score:
        score(arguments.folder)
    elif arguments.o:
        arguments.o.write_text(constants_file(arguments.folder, tables), encoding="utf-8")
    else:
        print(constants_file(arguments.folder, tables), end="")


if __name__ == "__main__":
    main()
