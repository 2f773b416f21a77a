#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits the engine constants of data/constants/engines.json to public serving measurements.

usage: fit_engines.py METRO CSV [-o FILE]      write the file
       fit_engines.py METRO CSV --leave-out    errors of pairs that the fit has not seen

METRO is the built program, CSV silicon_agg_moe_ep_dev.csv (docs/cost-model.md says where it is from):
each trial is a calibration file given to `metro validate`, so the model stands in one place only.
Constants belong to an engine; four of them are shared by all. A penalty keeps each near its start,
which is what kernels and profiles suggest, unless the table speaks clearly. Same input, same bytes.
"""
import argparse
import collections
import csv
import json
import math
import pathlib
import subprocess
import tempfile

import numpy as np

from constant_files import file_text, rounded, source

SHARED = {  # start, least, most
    "kernel_scale": (0.7, 0.3, 1.1),
    "collective_scale": (0.6, 0.25, 1.1),
    "quantise_us": (2.5, 0.5, 8),
    "prefill_attention": (0.5, 0.25, 0.75),
    "shared_exposed": (0.5, 0.2, 1.0),
}
OWN = {
    "layer_us": (8, 1, 40),
    "step_us": (700, 100, 4000),
    "prefill_layer_us": (150, 20, 800),
    "row_bytes": (30, 4, 300),
    "first_token_us": (80000, 1000, 300000),
    "clumping": (0.8, 0.1, 3),
}
ENGINES = {"vllm": True, "sglang": False, "trtllm": True}  # whether a step mixes prefill and decode
ORDER = ["kernel_scale", "collective_scale", "layer_us", "step_us", "prefill_layer_us", "quantise_us",
         "row_bytes",
         "prefill_attention", "shared_exposed", "first_token_us", "clumping"]
PENALTY = 0.0012  # of the mean error, for a constant e times its start
TTFT_WEIGHT = 0.1


def start():
    constants = {key: value[0] for key, value in SHARED.items()}
    constants.update({(engine, key): value[0] for engine in ENGINES for key, value in OWN.items()})
    return constants


def bounds(key):
    return OWN[key[1]] if isinstance(key, tuple) else SHARED[key]


def engine_entry(constants, engine):
    return {key: constants[key] if key in SHARED else constants[engine, key] for key in ORDER}


def average(constants):
    """What an engine that nobody fitted gets: the geometric mean of the others."""
    entries = [engine_entry(constants, engine) for engine in ENGINES]
    return {key: math.exp(sum(math.log(e[key]) for e in entries) / len(entries)) for key in ORDER}


def measurements(path):
    """One row of each measurement that can be predicted, and the header."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = {}
        for row in reader:
            if row["attn_mode"] in ("tp", "dp") and row["concurrency"]:
                rows.setdefault(row["measurement_id"], row)
        return list(rows.values()), reader.fieldnames


class Table:
    """A part of the measurements, as `metro validate` sees it."""

    def __init__(self, metro, folder, name, rows, fields):
        self.metro, self.path = metro, folder / f"{name}.csv"
        self.calibration = folder / "trial.json"
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(rows)

    def validate(self, constants):
        engines = [{"name": name, "mixes_prefill": mixes, **engine_entry(constants, name)}
                   for name, mixes in ENGINES.items()]
        self.calibration.write_text(json.dumps(
            {"format": "metro-calibration", "version": 1, "gpu": "any", "engines": engines}))
        return json.loads(subprocess.run(
            [self.metro, "validate", "--json", "--silicon", self.path, "--calibration",
             self.calibration], check=True, capture_output=True, text=True).stdout)

    def loss(self, constants):
        result = self.validate(constants)
        # Ratios beyond any model (another configuration than the row says) count in full, but the
        # logarithm treats twice too fast and twice too slow alike.
        tpot = np.array([r["predicted_tpot_ms"] / r["tpot_ms"] for r in result["rows"]])
        ttft = np.array([r["predicted_ttft_ms"] / r["ttft_ms"] for r in result["rows"]])
        penalty = sum(abs(math.log(value / bounds(key)[0])) for key, value in constants.items())
        return (float(np.mean(np.abs(tpot - 1))) +
                TTFT_WEIGHT * float(np.mean(np.minimum(np.abs(ttft - 1), 3))) + PENALTY * penalty)


def fit(table, steps, constants=None, seed=0):
    rng = np.random.default_rng(seed)
    best = dict(constants or start())
    best_loss, width = table.loss(best), 0.4
    keys = list(best)
    for _ in range(steps):
        trial = dict(best)
        for i in rng.choice(len(keys), rng.integers(1, 4), replace=False):
            _, least, most = bounds(keys[i])
            trial[keys[i]] = min(most, max(least, trial[keys[i]] * math.exp(rng.normal() * width)))
        loss = table.loss(trial)
        if loss < best_loss:
            best, best_loss, width = trial, loss, min(width * 1.2, 0.6)
        else:
            width = max(width * 0.99, 0.04)
    return best


def constants_file(constants, csv_path):
    def numbers(entry, mixes):
        return {**{key: rounded(entry[key]) for key in ORDER}, "mixes_prefill": mixes}

    return file_text({
        "format": "metro-engines", "version": 1,
        "source": [source(csv_path, "engines")],
        "engines": [{"name": name, **numbers(engine_entry(constants, name), mixes)}
                    for name, mixes in ENGINES.items()],
        "average": numbers(average(constants), True)})


def leave_out(metro, folder, rows, fields, steps):
    for what in (("canonical_model", "system"), ("backend", "system")):
        errors = collections.defaultdict(list)
        for pair in sorted({tuple(row[c] for c in what) for row in rows}):
            seen = [r for r in rows if tuple(r[c] for c in what) != pair]
            unseen = [r for r in rows if tuple(r[c] for c in what) == pair]
            constants = fit(Table(metro, folder, "seen", seen, fields), steps, start())
            result = Table(metro, folder, "unseen", unseen, fields).validate(constants)
            errors["tpot"] += [result["tpot"]["mape"]] * len(unseen)
            errors["ttft"] += [result["ttft"]["mape"]] * len(unseen)
            print(*pair, f"{len(unseen)} left out: TPOT {result['tpot']['mape']:.1f} %, bias "
                  f"{result['tpot']['bias']:+.1f} %, TTFT {result['ttft']['mape']:.1f} %", flush=True)
        print(f"by {' and '.join(what)}: TPOT {np.mean(errors['tpot']):.1f} %, "
              f"TTFT {np.mean(errors['ttft']):.1f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("metro", type=pathlib.Path)
    parser.add_argument("csv", type=pathlib.Path)
    parser.add_argument("-o", type=pathlib.Path)
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--steps", type=int, default=800)
    arguments = parser.parse_args()
    rows, fields = measurements(arguments.csv)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        metro = arguments.metro.resolve()
        if arguments.leave_out:
            leave_out(metro, folder, rows, fields, arguments.steps)
            return
        constants = fit(Table(metro, folder, "all", rows, fields), arguments.steps)
        if arguments.o:
            arguments.o.write_text(constants_file(constants, arguments.csv), encoding="utf-8")
        else:
            print(constants_file(constants, arguments.csv), end="")


if __name__ == "__main__":
    main()
