#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables of results of `metro bench layer --json`: as Markdown, or into data/results/layers.csv.

usage: layer_tables.py [--replication R] [--csv FILE --card NAME] RESULT.json ...

One table per number of GPUs and replication: a line for each model, data type and batch size, with the
layer's time in us (and max activated) under every policy, without replication and under moe-TP. With
--csv the lines take the place of those that FILE has of the same card, number format, EP, slots and
model, and the site's tables follow (tools/results_tables.py).
"""
import argparse
import csv
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


def records(rows, replications, card):
    """Lines as {column: text} of data/results/layers.csv."""
    columns = [*BASELINES[:2], *policies_of(rows)]
    for (gpus, replication), lines in tables(rows, replications):
        for model_dtype, tokens, *cells, ratios, exposed in lines:
            model, dtype = model_dtype.split(", ")
            record = {"card": card, "dtype": dtype, "EP": str(gpus), "slots per expert": f"{replication:g}"}
            record |= {"model": model, "tokens per GPU": tokens}
            for name, text in zip(columns, cells, strict=True):
                record[f"{name} us"], record[f"{name} max activated"] = text.rstrip(")").split(" (")
            names = ["optimal / EPLB off", "optimal / moe-TP", "optimal / even"]
            yield record | dict(zip(names, ratios.split(", "), strict=True)) | {"exposed routing us": exposed}


def merge_csv(path, made):
    """Puts `made` in the place of the file's lines of the same configurations."""
    keys = ["card", "dtype", "EP", "slots per expert", "model"]
    kept = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            kept = list(csv.DictReader(file))
    again = {tuple(line[key] for key in keys) for line in made}
    lines = [line for line in kept if tuple(line[key] for key in keys) not in again] + made
    header = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n", restval="-")
        writer.writeheader()
        writer.writerows(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replication", type=float, action="append", default=[])
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--card")
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    if (options.csv is None) != (options.card is None):
        parser.error("--csv needs --card, such as H200, and --card needs --csv")
    rows = []
    for path in options.results:
        result = json.loads(path.read_text(encoding="utf-8"))
        print(f"{path.name}: {result['device']}, copy {result['copy_gb_s']:.0f} GB/s")
        rows += result["rows"]
    if options.csv:
        merge_csv(options.csv, list(records(rows, options.replication, options.card)))
        return
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
