#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The never-worse map: TPOT of `homed` + `optimal` over the best of EPLB off, `home` and moe-TP.

usage: never_worse.py [--small | --grid 234] [--sharded [--part PART]] [--policy NAME] [--jobs N] [--journal FILE] [--calibrations FOLDER] [--csv FOLDER] [METRO]

Runs `metro sweep` over models, number formats, EP, batch, replication and drafted tokens, at equal
memory: replicas come out of the KV cache. Every request opens with one token and all start at once, so
that steps only decode, at one batch size. Prints Markdown: the map at 1.25x, where it is above 1 and
why, and the experts' share of TPOT without replicas (Amdahl's bound on what routing can save). With
--csv it writes the three tables there too (data/results, for the site).

--grid 234: 16 to 256 requests at 1.125x and 1.25x, of which 234 points fit without replicas at each. --policy auto
puts `auto` in the place of `optimal`.

--sharded takes 16 to 256 requests too, and counts where experts on groups of 2 and 4 GPUs (docs/sharded-groups.md),
alone and with replicas, are ahead of the rivals and behind them (sharded_map.py). --part takes less of it:
h100:fp8,h200:bf16/8/0,1 is GPUs with number formats, how many GPUs, drafts.

Exits 1 when what must hold does not: at the level of max activated `optimal` is never above `home` nor
EPLB off; in time, where the KV cache is large enough, it is above them by no more than its router's time
and a thousandth for what tokens weigh. `auto` may be above them by 3 thousandths, and activate what it likes.
"""
import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import sharded_map

GRID = {
    "models": ["Qwen3-30B-A3B", "Qwen3-235B-A22B", "DeepSeek-V3"],
    "formats": [("h200", "bf16"), ("h200", "fp8"), ("b200", "fp4")],
    "gpus": [8, 16, 32],
    "batch": [16, 64, 256, 1024],
    "replication": [1.25, 1.5],
    "drafts": [0, 1, 3],
    "answer": 512,
}
GRID_234 = GRID | {"batch": [16, 64, 256], "replication": [1.125, 1.25]}
SMALL = {
    "models": ["Qwen3-30B-A3B", "Qwen3-235B-A22B"],
    "formats": [("h200", "bf16")],
    "gpus": [8],
    "batch": [8, 128],
    "replication": [1.5],
    "drafts": [0, 1],
    "answer": 32,
}
# The cost model's time of `optimal` in a layer, where no calibration says another.
ROUTER_US = 2.3
# What `optimal` may lose beyond its router: it minimises activated experts, and tokens weigh a little.
TOKENS_SHARE = 0.001
# What `auto` may lose: it is decided from means over sampled batches.
AUTO_SHARE = 0.003
MOE_LAYERS = {"Qwen3-30B-A3B": 48, "Qwen3-235B-A22B": 94, "DeepSeek-V3": 58}
RIVALS = ["off", "home", "moe-TP"]


def join(values):
    return ",".join(str(value) for value in values)


def calibration_of(folder, gpu):
    """The file that `metro calibrate` wrote for the GPU, or None."""
    path = folder / f"{gpu}.json" if folder else None
    return path if path and path.is_file() else None


def router_us(folder, gpu):
    path = calibration_of(folder, gpu)
    times = json.loads(path.read_text(encoding="utf-8")).get("router_us", {}) if path else {}
    return times.get("optimal", ROUTER_US)


def sweep(options, grid, gpu, dtype, variant, journal):
    """Rows of one GPU and number format: "off", "moe-TP", or replicated under `home` and --policy."""
    line = [options.metro, "sweep", "--json", "--model", join(grid["models"]), "--gpu", gpu]
    line += ["--dtype", dtype, "--gpus", join(grid["gpus"]), "--draft-tokens", join(grid["drafts"])]
    line += ["--num-requests", join(grid["batch"]), "--concurrency", str(max(grid["batch"]))]
    line += ["--isl", "1", "--osl", str(grid["answer"])]
    if variant == "moe-TP":
        line += ["--experts", "moe-TP"]
    elif variant == "off":
        line += ["--policy", "home"]
    else:
        line += ["--replication", join(grid["replication"]), "--policy", f"home,{options.policy}"]
    if calibration := calibration_of(options.calibrations, gpu):
        line += ["--calibration", str(calibration)]
    line += ["-o", str(journal)] + (["--jobs", str(options.jobs)] if options.jobs else [])
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"never_worse: {done.stderr.strip()}")
    return json.loads(done.stdout)["rows"]


def name_of(row, variant):
    return variant if variant != "replicated" else row["policy"]


def run(options, grid, journal):
    """{(model, gpu, dtype, ep, batch, drafts): {(name, replication): row}}"""
    cells = {}
    for gpu, dtype in grid["formats"]:
        for variant in ["off", "moe-TP", "replicated"]:
            for row in sweep(options, grid, gpu, dtype, variant, journal):
                key = (row["model"], gpu, dtype, row["gpus"], batch_of(row, grid), row["draft_tokens"])
                cells.setdefault(key, {})[name_of(row, variant), row["replication"]] = row
    return cells


def batch_of(row, grid):
    """What cannot be built does not say how many requests it was to serve: it holds for every batch."""
    return row["requests"]["submitted"] if "requests" in row else None


def tpot(row):
    return row["tpot_ms"]["mean"]


class Cell:
    """One point of the map at one replication; `router` is the time of `optimal` in a layer, us."""

    def __init__(self, key, rows, replication, router=ROUTER_US, policy="optimal"):
        self.key, self.replication, self.router, self.policy = key, replication, router, policy
        self.optimal = rows.get((policy, replication))
        at = {"off": ("off", 1), "home": ("home", replication), "moe-TP": ("moe-TP", 1)}
        self.rivals = {name: rows[at[name]] for name in RIVALS if at[name] in rows}

    def fits(self):
        return self.optimal is not None and "off" in self.rivals

    def best(self):
        return min(self.rivals, key=lambda name: tpot(self.rivals[name]))

    def ratio(self):
        return tpot(self.optimal) / tpot(self.rivals[self.best()])

    def ratio_to_routing(self):
        """Over the better of EPLB off and `home`: what routing can answer for."""
        return tpot(self.optimal) / min(tpot(self.rivals[n]) for n in ["off", "home"])

    def router_share(self):
        return 1e-3 * self.router * MOE_LAYERS[self.key[0]] / tpot(self.rivals["off"])

    def experts_share(self):
        return self.rivals["off"]["stage_share"]["experts"]

    def short_of_memory(self):
        """Replicas took so much of the KV cache that requests wait or are computed twice."""
        off = self.rivals["off"]
        return (
            self.optimal["preemptions"] > off["preemptions"]
            or self.optimal["mean_batch"] < 0.99 * off["mean_batch"]
        )

    def why(self):
        """What keeps the ratio from gaining a per cent: nothing, the KV cache, the router, moe-TP."""
        if self.ratio() < 0.99:
            return "gains"
        if self.ratio() <= 1:
            return "level"
        if self.best() == "moe-TP":
            return "moe-TP"
        return "KV cache" if self.short_of_memory() else "router"

    def faults(self):
        """What must hold and does not."""
        most = self.optimal["max_activated"]
        for name in ["off", "home"] if self.policy == "optimal" else []:
            if most > self.rivals[name]["max_activated"] * (1 + 1e-9):
                yield f"{self}: optimal activates {most:.3f}, {name} fewer"
        loss = self.ratio_to_routing() - 1
        bound = AUTO_SHARE if self.policy == "auto" else self.router_share() + TOKENS_SHARE
        if loss > bound and not self.short_of_memory():
            yield f"{self}: {100 * loss:.2f} % slower, must be at most {100 * bound:.2f} %"

    def __str__(self):
        model, gpu, dtype, gpus, batch, drafts = self.key
        return f"{model} {dtype} on {gpus} {gpu}, {batch} requests, {drafts} drafts, {self.replication}x"


def table(header, lines):
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def write_csv(path, header, lines):
    """The first column holds several facts, which get a column each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header[0].split(", ") + header[1:])
        writer.writerows(line[0].split(", ") + line[1:] for line in lines)


def points(grid):
    return [(gpus, batch) for gpus in grid["gpus"] for batch in grid["batch"]]


def map_table(grid, cells, replication):
    """Ratios; m: moe-TP is the best rival."""
    header = ["model, dtype, drafts"] + [f"EP{gpus}, {batch}" for gpus, batch in points(grid)]
    lines = []
    for model in grid["models"]:
        for gpu, dtype in grid["formats"]:
            for drafts in grid["drafts"]:
                line = [f"{model}, {dtype}, {drafts}"]
                for gpus, batch in points(grid):
                    cell = cells.get((model, gpu, dtype, gpus, batch, drafts, replication))
                    mark = "m" if cell and cell.best() == "moe-TP" else ""
                    line.append(f"{cell.ratio():.3f}{mark}" if cell else "-")
                lines.append(line)
    return header, lines


def share_table(grid, cells, replication):
    header = ["model, dtype"] + [f"EP{gpus}, {batch}" for gpus, batch in points(grid)]
    lines = []
    for model in grid["models"]:
        for gpu, dtype in grid["formats"]:
            line = [f"{model}, {dtype}"]
            for gpus, batch in points(grid):
                cell = cells.get((model, gpu, dtype, gpus, batch, grid["drafts"][0], replication))
                line.append(f"{100 * cell.experts_share():.0f} %" if cell else "-")
            lines.append(line)
    return header, lines


def summary(cells):
    """By model and replication: how often, how far, and why on either side of 1."""
    reasons = ["gains", "level", "router", "KV cache", "moe-TP"]
    header = ["model, replication", "points", "best", "gains over 1 %", "gains up to 1 %"]
    header += [f"above 1: {reason}, worst" for reason in reasons[2:]]
    groups = {}
    for cell in cells.values():
        groups.setdefault((cell.key[0], cell.replication), []).append(cell)
    lines = []
    for (model, replication), group in groups.items():
        by = {reason: [cell.ratio() for cell in group if cell.why() == reason] for reason in reasons}
        line = [f"{model}, {replication}x", str(len(group)), f"{min(c.ratio() for c in group):.3f}"]
        line += [str(len(by["gains"])), str(len(by["level"]))]
        for reason in reasons[2:]:
            line.append(f"{len(by[reason])}, {max(by[reason]):.3f}" if by[reason] else "0")
        lines.append(line)
    return header, lines


def sharded(options):
    small = {**sharded_map.GRID, **{key: SMALL[key] for key in ["models", "formats", "gpus", "batch", "answer"]}}
    grid = small if options.small else sharded_map.GRID
    if options.part:
        grid = {**grid, **sharded_map.part(options.part)}
    with tempfile.TemporaryDirectory() as folder:
        journal = options.journal or pathlib.Path(folder) / "sweep.jsonl"
        points = sharded_map.run(options, grid, options.policy, journal)
    for title, header, lines in sharded_map.tables(points, options.policy):
        print(f"{title}\n\n{table(header, lines)}\n")
    return 0 if points else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metro", nargs="?", default="build/release/metro")
    parser.add_argument("--small", action="store_true", help="a few points, for tests")
    parser.add_argument("--grid", choices=["234"], help="another grid")
    parser.add_argument("--policy", choices=["optimal", "auto"], default="optimal", help="what the map is of")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--journal", type=pathlib.Path, help="keep finished points here, go on from it")
    parser.add_argument("--calibrations", type=pathlib.Path, help="folder of GPU.json files to use")
    parser.add_argument("--csv", type=pathlib.Path, help="folder to write the tables to")
    parser.add_argument("--sharded", action="store_true", help="count sharded groups as rivals and candidates")
    parser.add_argument("--part", help="with --sharded: GPU:FORMAT,.../GPUS,.../DRAFTS,...")
    options = parser.parse_args()
    if options.part and not options.sharded:
        parser.error("--part needs --sharded")
    if options.sharded:
        return sharded(options)
    grid = SMALL if options.small else GRID_234 if options.grid else GRID
    with tempfile.TemporaryDirectory() as folder:
        journal = options.journal or pathlib.Path(folder) / "sweep.jsonl"
        by_key = run(options, grid, journal)
    cells = {}
    for key, rows in by_key.items():
        for replication in grid["replication"]:
            cell = Cell(key, rows, replication, router_us(options.calibrations, key[1]), options.policy)
            if key[4] is not None and cell.fits():
                cells[*key, replication] = cell
    first = grid["replication"][0]
    made = {
        "never-worse": (f"TPOT of homed + {options.policy} at {first}x over the best of EPLB off, home and moe-TP (m: moe-TP)",
                        map_table(grid, cells, first)),
        "never-worse-summary": ("All points", summary(cells)),
        "experts-share": ("Experts' share of TPOT, EPLB off, no drafts", share_table(grid, cells, first)),
    }
    for name, (title, (header, lines)) in made.items():
        print(f"{title}\n\n{table(header, lines)}\n")
        if options.csv:
            write_csv(options.csv / f"{name}.csv", header, lines)
    faults = [fault for cell in cells.values() for fault in cell.faults()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or not cells else 0


if __name__ == "__main__":
    sys.exit(main())
