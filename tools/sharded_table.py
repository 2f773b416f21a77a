#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Max activated of sharded expert groups, with and without replicas, over contiguous experts without both.

usage: sharded_table.py [--batches N] [--seeds N,...] [--gpus G] [--metro METRO] TRACE.npy

Replays the trace with `metro compare --ep` and prints a Markdown table: the exact optimum on `homed`
placements of G / s groups, in whole experts' worth of bytes on a GPU, over what `contiguous` experts on
G GPUs activate. Every ratio is of means over batches, layers and seeds.
"""
import argparse
import json
import subprocess
import sys

TOKENS = [8, 16, 32, 64, 128]
SHARDS = [1, 2, 4]
REPLICATION = [1.0, 1.0625, 1.125, 1.25, 1.5]


def join(values):
    return ",".join(str(value) for value in values)


def compare(options, seed, ep, replication, algorithm):
    """{(ep, replication, tokens): max activated of `optimal`}"""
    line = [options.metro, "compare", "--json", "--trace", options.trace, "--gpus", str(options.gpus)]
    line += ["--ep", join(ep), "--replication", join(replication), "--tokens", join(TOKENS)]
    line += ["--policy", "optimal", "--algorithm", algorithm, "--batches", str(options.batches)]
    done = subprocess.run(line + ["--seed", str(seed)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"sharded_table: {done.stderr.strip()}")
    rows = json.loads(done.stdout)["rows"]
    return {(r["ep"], r["replication"], r["tokens"]): r["max_activated"] for r in rows}


def name_of(shards, replication, gpus):
    if shards == gpus:
        return f"moe-TP (s = {gpus})"
    return f"s = {shards}" + (f", {replication:g}x" if replication > 1 else ", 1x")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--metro", default="build/release/metro")
    options = parser.parse_args()
    if options.gpus % max(SHARDS) or options.gpus == max(SHARDS):
        sys.exit(f"sharded_table: --gpus is {options.gpus}, must be a multiple of {max(SHARDS)} above it")
    ep = [options.gpus // shards for shards in SHARDS]
    sums, base = {}, {}
    for seed in options.seeds.split(","):
        off = compare(options, seed, [options.gpus], [1.0], "contiguous")
        found = compare(options, seed, ep, REPLICATION, "homed")
        found |= compare(options, seed, [1], [1.0], "homed")
        for (_, _, tokens), value in off.items():
            base[tokens] = base.get(tokens, 0) + value
        for key, value in found.items():
            sums[key] = sums.get(key, 0) + value
    print("| tokens in all | " + " | ".join(map(str, TOKENS)) + " |")
    print("|---" * (len(TOKENS) + 1) + "|")
    for groups, replication in dict.fromkeys(key[:2] for key in sums):
        cells = [f"{sums[groups, replication, tokens] / base[tokens]:.2f}" for tokens in TOKENS]
        print(f"| {name_of(options.gpus // groups, replication, options.gpus)} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
