#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The expert kernels against libraries: data/results/expert-kernel.csv from one run on each card.

usage: expert_tables.py CARD BENCH TORCH [CARD BENCH TORCH ...]

BENCH is what `bench_experts --quick` printed, TORCH what `bench/torch_grouped.py --quick` printed on the
same machine. Rows have 16 activated experts, or as many bytes of shards. Times are in us; a ratio is the
fastest library's time over hopper's, among those whose counts are on the device: torch's stage.
"""
import csv
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = ("hopper", "portable", "torch stage", "cuBLAS batched", "torch stage / hopper", "share of copy")


def rows_of(path, width):
    """Cells of a printed table by (shape, dtype, activated, tokens)."""
    found = {}
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        cells = line.split()
        if len(cells) >= width and cells[1:2] and cells[1] in ("bf16", "fp8"):
            found[tuple(cells[:4])] = cells[4:]
    return found


def number(text):
    return "-" if text == "nan" else f"{float(text):.1f}"


def main():
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 3:
        sys.exit(__doc__)
    table, cards = {}, []
    for card, bench, torch in zip(*[iter(arguments)] * 3, strict=True):
        cards.append(card)
        ours, theirs = rows_of(bench, 10), rows_of(torch, 6)
        for key, (_, stage) in theirs.items():
            if key not in ours:
                sys.exit(f"expert_tables: {bench} has no row {' '.join(key)}, which {torch} has")
            hopper, portable, batched, _, _, share = ours[key]
            ratio = f"{float(stage) / float(hopper):.2f}"
            share = share.replace("%", " %")
            table.setdefault(key, {})[card] = [number(hopper), number(portable), number(stage), number(batched), ratio, share]
    with (ROOT / "data/results/expert-kernel.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["shape", "dtype", "activated", "tokens an expert", *(f"{c}: {n}" for c in cards for n in COLUMNS)])
        for key, by_card in table.items():
            out.writerow([*key, *(cell for card in cards for cell in by_card[card])])


if __name__ == "__main__":
    main()
