# SPDX-License-Identifier: Apache-2.0
"""The map of never_worse.py with sharded groups as rivals and as candidates: `never_worse.py --sharded`.

R is the best of EPLB off, `home` and moe-TP. Candidates are experts on groups of s = 1, 2 and 4 GPUs at
1.0x to 1.25x under the engines' default policy. All at equal memory, on the requests of never_worse.py.
"""
import json
import subprocess
import sys

MODELS = ["Qwen3-30B-A3B", "Qwen3-235B-A22B", "DeepSeek-V3"]
FORMATS = [("h200", "bf16"), ("h200", "fp8"), ("b200", "fp4")]
GRID = {"models": MODELS, "formats": FORMATS, "gpus": [8, 16, 32], "batch": [16, 64, 256], "drafts": [0, 1, 3],
        "answer": 512}  # fmt: skip
REPLICATION = [1.0625, 1.125, 1.25]
SHARDS = [1, 2, 4]
OFF, HOME, MOE_TP = "EPLB off", "home", "moe-TP"


def join(values):
    return ",".join(str(value) for value in values)


def part(text):
    """What `--part` takes in place of the grid's own."""
    fields = text.split("/")
    formats = [tuple(each.split(":")) for each in fields[0].split(",")]
    if len(fields) != 3 or any(len(each) != 2 for each in formats):
        sys.exit(f"never_worse: --part is {text}, must be like h100:fp8,h200:bf16/8,16/0,1")
    gpus, drafts = ([int(each) for each in field.split(",")] for field in fields[1:])
    return {"formats": formats, "gpus": gpus, "drafts": drafts}


def sweep(options, grid, where, journal, more):
    """Rows of one GPU, number format and number of GPUs; what cannot be built has no TPOT."""
    gpu, dtype, gpus = where
    line = [options.metro, "sweep", "--json", "--model", join(grid["models"]), "--gpu", gpu, "--dtype", dtype]
    line += ["--gpus", str(gpus), "--draft-tokens", join(grid["drafts"]), "--isl", "1", "--osl", str(grid["answer"])]
    line += ["--num-requests", join(grid["batch"]), "--concurrency", str(max(grid["batch"])), "-o", str(journal)]
    if options.jobs:
        line += ["--jobs", str(options.jobs)]
    if options.calibrations and (options.calibrations / f"{gpu}.json").is_file():
        line += ["--calibration", str(options.calibrations / f"{gpu}.json")]
    done = subprocess.run(line + more, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"never_worse: {done.stderr.strip()}")
    return [row for row in json.loads(done.stdout)["rows"] if "tpot_ms" in row]


def variants(policy, gpus):
    """(what a row is, its options): (kind, shards, replication is the row's)."""
    yield OFF, 1, ["--policy", HOME]
    yield MOE_TP, gpus, ["--experts", "moe-TP"]
    yield HOME, 1, ["--policy", HOME, "--replication", join(REPLICATION)]
    for shards in SHARDS:
        if shards < gpus:
            ep = ["--ep", str(gpus // shards)]
            if shards > 1:
                yield OFF, shards, [*ep, "--policy", HOME]
            yield policy, shards, [*ep, "--policy", policy, "--replication", join(REPLICATION)]


def run(options, grid, policy, journal):
    """{(model, gpu, dtype, gpus, batch, drafts): {(kind, shards, replication): TPOT}}"""
    points = {}
    for gpu, dtype in grid["formats"]:
        for gpus in grid["gpus"]:
            for kind, shards, more in variants(policy, gpus):
                for row in sweep(options, grid, (gpu, dtype, gpus), journal, more):
                    batch = row["requests"]["submitted"]
                    if row["requests"]["completed"] < batch:
                        continue
                    key = (row["model"], gpu, dtype, gpus, batch, row["draft_tokens"])
                    points.setdefault(key, {})[kind, shards, row["replication"]] = row["tpot_ms"]["mean"]
    return {key: rows for key, rows in points.items() if (OFF, 1, 1) in rows}


def least(rows, take):
    found = [tpot for key, tpot in rows.items() if take(*key)]
    return min(found) if found else None


def is_rival(kind, shards, _replication):
    return kind == MOE_TP or (kind in (OFF, HOME) and shards == 1)


def is_rival_or_group(kind, shards, replication):
    return is_rival(kind, shards, replication) or kind == OFF


def candidates(policy):
    return {
        f"s = 1, {policy}": lambda kind, shards, _: kind == policy and shards == 1,
        "s = 2 or 4, 1x": lambda kind, shards, _: kind == OFF and shards > 1,
        f"s = 2 or 4, {policy}": lambda kind, shards, _: kind == policy and shards > 1,
        "least of these": lambda kind, shards, _: kind == policy or (kind == OFF and shards > 1),
    }


def counts(points, candidate, rival):
    """Points, over 1 % ahead, best, mean, over 1 % behind of a candidate over the best rival."""
    ratios = []
    for rows in points.values():
        ours = least(rows, candidate)
        if ours is not None:
            ratios.append(ours / least(rows, rival))
    ahead = sum(ratio < 0.99 for ratio in ratios)
    behind = sum(ratio > 1.01 for ratio in ratios)
    return [str(len(ratios)), str(ahead), f"{min(ratios):.3f}", f"{sum(ratios) / len(ratios):.3f}", str(behind)]


def tables(points, policy):
    """(title, header, lines) of the counts over R, and over R with groups among the rivals."""
    header = ["candidate", "points", "over 1 % ahead", "best", "mean", "over 1 % behind"]
    for title, rival in [("Over R = best of EPLB off, home, moe-TP", is_rival),
                         ("Over R and s = 2, 4 at 1x", is_rival_or_group)]:  # fmt: skip
        yield title, header, [[name, *counts(points, take, rival)] for name, take in candidates(policy).items()]
