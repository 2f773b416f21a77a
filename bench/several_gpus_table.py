#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One table from the parts that bench/several_gpus.sh left in a folder: `several_gpus_table.py DIR`.

A part that is missing is named and left out. Predictions stand beside what was measured, with their error.
"""
import json
import pathlib
import re
import sys


def load(folder):
    """{part: document} of every JSON file; a file that is none is no part."""
    parts = {}
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        try:
            parts[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            print(f"several_gpus_table: {path.name}: {error}", file=sys.stderr)
    return parts


def rows_of(parts, prefix):
    return [row for name, part in parts.items() if name.startswith(prefix) for row in part.get("rows", [])]


def number(value, digits=1):
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def percent(value, base):
    """How far `value` is from `base`, or nothing."""
    return "" if not value or not base else f"{100 * (value / base - 1):+.1f} %"


def table(title, header, rows):
    """Markdown, or nothing without rows."""
    if not rows:
        return []
    lines = ["", f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def key(row):
    return row["model"], row["dtype"], row["tokens_per_gpu"], row["replication"], row["policy"]


def route_table(parts):
    rows = [
        (row["experts"], row["gpus"], row["tokens"], row["kernel"], number(row["median_us"], 2))
        for row in rows_of(parts, "route")
        if re.search(r"exchange, \d+ GPUs", row["kernel"])
    ]
    return table("Exchange and exact routing, us a call in a CUDA graph", ("experts", "EP", "tokens", "kernel", "us"), rows)


def communication_us(parts, row):
    """Of an all-gather and a reduce-scatter of the tokens in bf16, by the calibration; None without it."""
    lines = {line["name"]: line for line in parts.get("calibrate", {}).get("collectives", []) if line["gpus"] == row["gpus"]}
    hidden = {"Qwen3-30B-A3B": 2048, "Qwen3-235B-A22B": 4096, "DeepSeek-V3": 7168}.get(row["model"])
    if hidden is None or not {"all-gather", "reduce-scatter"} <= lines.keys():
        return None
    kilobytes = 2e-3 * hidden * row["tokens_per_gpu"] * row["gpus"]
    return sum(lines[name]["alpha_us"] + kilobytes / lines[name]["beta_gb_s"] for name in ("all-gather", "reduce-scatter"))


def layer_table(parts):
    """Every policy by all-gather: beside EPLB off and moe-TP, and what was predicted before."""
    measured = {key(row): row for row in rows_of(parts, "layer-all-gather")}
    predicted = {key(row): row for row in rows_of(parts, "predict-layer")}
    rows = []
    for at, row in measured.items():
        model, dtype, tokens, replication, policy = at
        beside = {
            names[0]: next((r["layer_us"] for k, r in measured.items() if k[:3] == at[:3] and k[4] in names), None)
            for names in (("EPLB off", "none"), ("moe-TP", "moe-tp"))  # each with its old spelling
        }
        guess = predicted.get(at, {}).get("layer_us")
        sent = communication_us(parts, row)
        guess = guess + sent if guess and sent else guess
        rows.append((
            model, dtype, tokens, replication, policy, number(row["max_activated"]), number(row["layer_us"]),
            number(row["stage_us"].get("experts")), number(row.get("exposed_routing_us")),
            percent(row["layer_us"], beside["EPLB off"]), percent(row["layer_us"], beside["moe-TP"]),
            number(guess), percent(guess, row["layer_us"]),
        ))  # fmt: skip
    header = ("model", "dtype", "tokens/GPU", "replication", "policy", "max activated", "layer us", "experts us",
              "exposed us", "vs EPLB off", "vs moe-TP", "predicted us", "its error")  # fmt: skip
    return table("One layer, all-gather dispatch", header, rows)


def crossover_table(parts):
    """`optimal` by both dispatches: the fewest tokens from which all-to-all is the faster."""
    by_way = {way: {key(row): row["layer_us"] for row in rows_of(parts, f"layer-{way}")} for way in ("all-gather", "all-to-all")}
    rows, groups = [], {}
    for at, us in by_way["all-gather"].items():
        other = by_way["all-to-all"].get(at)
        if at[4] == "optimal" and other:
            groups.setdefault((at[0], at[1], at[3]), []).append((at[2], us, other))
    for group, points in groups.items():
        points.sort()
        faster = [tokens for tokens, gathered, sent in points if sent < gathered]
        rows.append((*group, ", ".join(f"{t}: {number(a)} / {number(b)}" for t, a, b in points), faster[0] if faster else "none"))
    return table("All-gather against all-to-all, optimal",
                 ("model", "dtype", "replication", "tokens/GPU: us / us", "all-to-all is faster from"), rows)  # fmt: skip


def breakdown_table(parts):
    """The stages as in the paper's figure 11, at the most tokens and replication."""
    rows = []
    for way in ("all-gather", "all-to-all"):
        mine = [row for row in rows_of(parts, f"layer-{way}") if row["policy"] in ("even", "optimal")]
        for model in dict.fromkeys(row["model"] for row in mine):
            of_model = [row for row in mine if row["model"] == model]
            most = max((row["tokens_per_gpu"], row["replication"]) for row in of_model)
            for row in of_model:
                if (row["tokens_per_gpu"], row["replication"]) == most:
                    stages = ", ".join(f"{name} {number(us)}" for name, us in row["stage_us"].items() if us is not None and name != "gate_topk")
                    rows.append((model, way, row["policy"], *most, stages))
    return table("Stages, us", ("model", "dispatch", "policy", "tokens/GPU", "replication", "stages"), rows)


def collective_table(parts):
    rows = [
        (line["name"], line["gpus"], number(line["alpha_us"]), number(line["beta_gb_s"]), number(100 * line.get("median_error", 0)))
        for line in parts.get("calibrate", {}).get("collectives", [])
    ]
    return table("Collectives", ("name", "GPUs", "alpha us", "GB/s", "median error %"), rows)


def vllm_table(parts):
    rows = []
    measured = rows_of(parts, "vllm-")
    for row in measured:
        if "tpot_ms" not in row:
            continue
        same = [r for r in measured if all(r.get(k) == row.get(k) for k in ("part", "shape", "requests_per_gpu")) and "tpot_ms" in r]
        base = next((r["tpot_ms"] for r in same if r["policy"] == "stock" and r["replication"] == row["replication"]), None)
        none = next((r["tpot_ms"] for r in same if r["policy"] == "stock" and r["replication"] == 1.0), None)
        policy = "optimal" if row["policy"].startswith("metro") else "hash"
        guess = parts.get(f"predict-vllm-{policy}-{row['replication']}-{row['requests_per_gpu']}", {})
        guess = guess.get("tpot_ms", {}).get("mean") if row["shape"] == "30b" and row["part"] == "dp" else None
        rows.append((
            row["part"], row["shape"], row["requests_per_gpu"], row["replication"], row["policy"], number(row["tpot_ms"], 3),
            number(row.get("tokens_per_s"), 0), number(row.get("max_activated")), percent(row["tpot_ms"], base),
            percent(row["tpot_ms"], none), number(guess, 3), percent(guess, row["tpot_ms"]),
        ))  # fmt: skip
    header = ("part", "shape", "requests/GPU", "replication", "policy", "TPOT ms", "tokens/s", "max activated", "vs stock EPLB",
              "vs no redundancy", "predicted ms", "its error")  # fmt: skip
    equal = [(row["trial"], row["verdict"], row.get("equal", "")) for row in measured if "verdict" in row]
    return table("vLLM", header, rows) + table("Tokens through rearrangements", ("trial", "verdict", "equal requests"), equal)


def killed_line(parts):
    killed = parts.get("killed")
    if killed is None:
        return []
    return ["", f"A killed rank: mpirun exits with {killed['exit_code']} after {killed['seconds']:.1f} s, \"{killed['line']}\""]


WANTED = ("predict", "route", "layer", "killed", "calibrate", "vllm")


def text_of(parts):
    lines = []
    devices = dict.fromkeys(part["device"] for part in parts.values() if isinstance(part, dict) and part.get("device"))
    if devices:
        lines.append(f"Measured on {', '.join(devices)}; predictions were written before.")
    for make in (route_table, layer_table, crossover_table, breakdown_table, killed_line, collective_table, vllm_table):
        lines += make(parts)
    missing = [name for name in WANTED if not any(part.startswith(name) for part in parts)]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}"]
    return "\n".join(lines) + "\n"


def main(arguments):
    if len(arguments) != 1 or not pathlib.Path(arguments[0]).is_dir():
        print("usage: several_gpus_table.py DIR", file=sys.stderr)
        return 2
    print(text_of(load(arguments[0])), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
