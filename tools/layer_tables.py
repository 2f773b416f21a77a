#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints results of `metro bench layer --json` as the Markdown tables of docs/layer-tables.md.

usage: layer_tables.py [--replication R] RESULT.json ...

One table per number of GPUs and replication: a line for each model, data type and batch size, with the
layer's time in us (and max activated) under every policy, without replication and under moe-TP.
"""
import argparse
import json
import pathlib

# Rows that are no policy; all others are columns, in the order of the results.
BASELINES = ("EPLB off", "moe-TP", "none", "moe-tp")  # the last two are the old spelling


def key_of(row):
    """What a line is about, but for the number of GPUs."""
    return row["model"], row["dtype"], row["tokens_per_gpu"]


def cell(row, parts=1):
    """Time and max activated; under moe-TP in experts' worth, of which a GPU has `parts`-ths."""
    return f"{row['layer_us']:.0f} ({row['max_activated'] / parts:.1f})"


def policies_of(rows):
    """In the order of the results."""
    return list(dict.fromkeys(row["policy"] for row in rows if row["policy"] not in BASELINES))


def line(rows, policies, none, sharded):
    """Cells of one line; `rows` are the policies' at one replication."""
    best = rows["optimal"]["layer_us"]
    others = (none["layer_us"], sharded["layer_us"], rows["even"]["layer_us"])
    return [
        cell(none),
        cell(sharded, sharded["gpus"]),
        *(cell(rows[policy]) for policy in policies),
        ", ".join(f"{best / other:.2f}" for other in others),
        f"{rows['optimal']['exposed_routing_us']:.1f}",
    ]


def tables(rows, replications):
    """(GPUs, replication, lines) for each table that the rows hold."""
    policies = policies_of(rows)
    found = {}
    for row in rows:
        found.setdefault((row["gpus"], key_of(row)), []).append(row)
    result = {}
    for (gpus, key), of_line in found.items():
        none = next(row for row in of_line if row["policy"] in ("EPLB off", "none"))  # old spelling
        sharded = next(row for row in of_line if row["policy"] in ("moe-TP", "moe-tp"))  # old spelling
        by_replication = {}
        for row in of_line:
            if row["policy"] not in BASELINES:
                by_replication.setdefault(row["replication"], {})[row["policy"]] = row
        for replication, of_policies in by_replication.items():
            if replication == 1 or (replications and replication not in replications):
                continue
            cells = [f"{key[0]}, {key[1]}", str(key[2]), *line(of_policies, policies, none, sharded)]
            result.setdefault((gpus, replication), []).append(cells)
    return sorted(result.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replication", type=float, action="append", default=[])
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    rows = []
    for path in options.results:
        result = json.loads(path.read_text(encoding="utf-8"))
        print(f"{path.name}: {result['device']}, copy {result['copy_gb_s']:.0f} GB/s")
        rows += result["rows"]
    head = ["model, dtype", "tokens/GPU", "EPLB off", "moe-TP", *policies_of(rows)]
    head += ["optimal vs EPLB off, moe-TP, even", "exposed routing"]
    for (gpus, replication), lines in tables(rows, options.replication):
        print(f"\nEP{gpus}, {replication:g} slots an expert\n")
        print("| " + " | ".join(head) + " |")
        print("|" + "---|" * len(head))
        for cells in lines:
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
