#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the headline table of a `metro compare --json` result.

usage: headline.py RESULT.json GPUS REPLICATION TOKENS_PER_GPU,... [CSV]

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
LEFT_OUT = ("hash", "metro", "optimal/even")
SHORT = {"placement": "place", "tokens/GPU": "tok/GPU", "optimal/off": "opt/off"}


def narrow(cells):
    header, *lines = cells
    at = [i for i, name in enumerate(header) if name not in LEFT_OUT]
    return [[SHORT.get(header[i], header[i]) for i in at], *([line[i] for i in at] for line in lines)]


def headline(rows):
    """The table's cells for the rows of one trace."""
    lines = {}
    for row in rows:
        lines.setdefault((row["algorithm"], row["tokens_per_gpu"]), {})[row["policy"]] = row
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    cells = [["placement", "tokens/GPU", "EPLB off", *policies, "moe-TP", "optimal/even", "optimal/off"]]
    for (algorithm, tokens), by_policy in lines.items():
        best, off = by_policy["optimal"], by_policy["optimal"]["no_replication"]
        numbers = [off, *(by_policy[policy]["max_activated"] for policy in policies)]
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


def write_csv(path, result, gpus, replication):
    lines = []
    for trace in result["traces"]:
        rows = [
            row
            for row in result["rows"]
            if (row["trace"], row["gpus"], row["replication"]) == (trace["path"], gpus, replication)
        ]
        header, *cells = headline(rows)
        lines += [[pathlib.Path(trace["path"]).stem, *line] for line in cells]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["trace", *header], *lines])


def main(path, gpus, replication, tokens, csv_path=None):
    result = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    print(
        f"Activated experts on the busiest GPU, mean over layers and {result['batches']} batches;\n"
        f"EP {gpus}, {replication:g}x replicas; {result['evidence']}. Fewer is faster where decode is bound\n"
        "by reading expert weights.\n"
        "EPLB off: one replica of each expert. moe-TP: 1/G of every\n"
        "active expert on each GPU, in experts' worth of bytes."
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
        print(table(narrow(headline(rows))))
    print()
    for algorithm in dict.fromkeys(row["algorithm"] for row in result["rows"]):
        print(verdict(result, algorithm))
    if csv_path:
        write_csv(csv_path, result, gpus, replication)


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), set(map(int, sys.argv[4].split(","))), *sys.argv[5:])
