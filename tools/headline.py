#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the headline table of a `metro compare --json` result.

usage: headline.py RESULT.json HALVES.json GPUS REPLICATION TOKENS_PER_GPU,... [CSV]

HALVES is `optimal` on `homed` over the same batches, by `metro compare --ep GPUS/2` at 1.0x and 1.125x.

One line per trace, placement and batch size at that point of the grid; then, over the whole grid, how
often `optimal` needs more than EPLB off does. It fits 80 columns; the report page has the
other policies. With CSV it writes these lines there too, for every batch
size of the grid (data/results/headline.csv: README's table and figure).
"""
import csv
import json
import pathlib
import sys


def table(rows):
    """Text of lines of cells, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


# So that the table fits 80 columns: what it leaves out, and short names.
LEFT_OUT = ("hash", "metro", "s=2 1.125x", "optimal/even")
SHORT = {"placement": "place", "tokens/GPU": "tok/GPU", "metro-paper": "paper", "optimal/off": "opt/off"}
# Halves of experts on pairs of GPUs: {column: replication}
HALVES = {"s=2": 1.0, "s=2 1.125x": 1.125}


def narrow(cells):
    header, *lines = cells
    at = [i for i, name in enumerate(header) if name not in LEFT_OUT]
    return [[SHORT.get(header[i], header[i]) for i in at], *([line[i] for i in at] for line in lines)]


def halves_of(result, gpus):
    """{(trace, replication, tokens per GPU): max activated} on pairs of GPUs."""
    rows = [row for row in result["rows"] if (row["gpus"], row.get("ep")) == (gpus, gpus // 2)]
    return {
        (row["trace"], row["replication"], row["tokens_per_gpu"]): row["max_activated"]
        for row in rows
        if (row["policy"], row["algorithm"]) == ("optimal", "homed")
    }


def headline(rows, halves):
    """The table's cells for the rows of one trace."""
    lines = {}
    for row in rows:
        lines.setdefault((row["algorithm"], row["tokens_per_gpu"]), {})[row["policy"]] = row
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    cells = [["placement", "tokens/GPU", "EPLB off", *policies, *HALVES, "moe-TP", "optimal/even", "optimal/off"]]
    for (algorithm, tokens), by_policy in lines.items():
        best, off = by_policy["optimal"], by_policy["optimal"]["no_replication"]
        numbers = [off, *(by_policy[policy]["max_activated"] for policy in policies)]
        numbers += [halves[best["trace"], replication, tokens] for replication in HALVES.values()]
        numbers.append(best["tensor_sharded"])
        ratios = [best["vs_even"], best["vs_no_replication"]]
        cells.append(
            [algorithm, str(tokens), *(f"{x:.2f}" for x in numbers), *(f"{x:.2f}" for x in ratios)]
        )
    return cells


def verdict(result, algorithm):
    """One line: `optimal` on this placement against EPLB off, over the whole grid."""
    rows = [
        row
        for row in result["rows"]
        if row["policy"] == "optimal" and row["algorithm"] == algorithm and row["replication"] > 1
    ]
    layers = {trace["path"]: trace["layers"] for trace in result["traces"]}
    batches = sum(result["batches"] * layers[row["trace"]] for row in rows)
    worse = sum(row["worse_than_none"] for row in rows)
    ratios = [row["vs_no_replication"] for row in rows]
    return (
        f"optimal on {algorithm}: {min(ratios):.2f} to {max(ratios):.2f} of EPLB off over the grid;\n"
        f"  above it in {worse:,} of {batches:,} cases (batch x layer)"
    )


def write_csv(path, result, halves, gpus, replication):
    lines = []
    for trace in result["traces"]:
        rows = [
            row
            for row in result["rows"]
            if (row["trace"], row["gpus"], row["replication"]) == (trace["path"], gpus, replication)
        ]
        header, *cells = headline(rows, halves)
        lines += [[pathlib.Path(trace["path"]).stem, *line] for line in cells]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["trace", *header], *lines])


def main(path, halves_path, gpus, replication, tokens, csv_path=None):
    result = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    halves = halves_of(json.loads(pathlib.Path(halves_path).read_text(encoding="utf-8")), gpus)
    print(
        f"Activated experts on the busiest GPU, mean over layers and {result['batches']} batches;\n"
        f"EP {gpus}, {replication:g}x replicas; {result['evidence']}. Fewer is faster where decode is bound\n"
        "by reading expert weights.\n"
        "EPLB off: one replica of each expert. paper: metro-paper. s=2: no replicas,\n"
        "every expert halved on a pair of GPUs. moe-TP: 1/G of every expert on each GPU.\n"
        "Both in experts' worth of bytes."
    )
    for trace in result["traces"]:
        rows = [
            row
            for row in result["rows"]
            if row["trace"] == trace["path"]
            and row["gpus"] == gpus
            and row["replication"] == replication
            and row["tokens_per_gpu"] in tokens
        ]
        name = pathlib.Path(trace["path"]).stem
        print(f"\n{name}: {trace['num_experts']} experts, top-{trace['topk']}")
        print(table(narrow(headline(rows, halves))))
    print()
    for algorithm in dict.fromkeys(row["algorithm"] for row in result["rows"]):
        print(verdict(result, algorithm))
    if csv_path:
        write_csv(csv_path, result, halves, gpus, replication)


if __name__ == "__main__":
    if len(sys.argv) not in (6, 7):
        sys.exit(__doc__)
    _, path, halves_path, gpus, replication, tokens, *more = sys.argv
    main(path, halves_path, int(gpus), float(replication), set(map(int, tokens.split(","))), *more)
