# SPDX-License-Identifier: Apache-2.0
"""One GPU as each rank of N in a real vLLM: `python ranks.py --site SITE --out OUT --extension _metro.abi3.so`

Evidence: emulated. The experts, attention, gate, mapping and sampling of a rank are measured, in captured graphs; the
routes are a trace's, the other ranks are not there, and what they would send is added from docs/cost-model.md.
For each shape, draft tokens, requests a GPU and policy: the GPU's time of a step as each rank, the slowest of
them, and with the busiest rank in every layer, for which the others wait; TPOT as a user of the engine sees it.
Results are OUT/ranks.jsonl, line by line as they come (what is there already is not run again), then OUT/ranks.txt.
"""

import argparse
import json
import sys
import time
import traceback

import trials

RANKS, BATCHES = 8, 16
POLICIES = ("stock", "cuda", "metro", "homed", "home", "off")
DATA = trials.ROOT / "data/learned"
# name: shape in models.py, layers, redundant experts, trace
SHAPES = {
    "qwen3-30b": {"model": "30b", "layers": 48, "redundant": 64, "trace": "learned-128e-top8-decode.npy"},
    "deepseek-v3": {"model": "deepseek", "layers": 8, "redundant": 64, "trace": "learned-256e-top8-decode.npy"},
}

BOUND = {"off": "stock", "homed": "home"}  # what is bound to vLLM for a policy of another name


# --- in the children ---------------------------------------------------------------------------


def start_engine(trial, row_counts):
    import tempfile

    from vllm import LLM

    import engine
    import models
    import one_rank

    if trial["redundant"]:
        one_rank.enable_eplb_on_one_rank(trial["redundant"])
    one_rank.become_rank(0, RANKS)
    folder, shape = models.write_config(tempfile.mkdtemp(), trial["model"], trial["layers"])
    graphs = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": row_counts}
    return LLM(**engine.options(
        folder, max_model_len=512, max_num_seqs=max(row_counts), max_num_batched_tokens=2048,
        gpu_memory_utilization=0.9, kv_cache_memory_bytes=4 << 30, compilation_config=graphs,
    )), shape  # fmt: skip


def measure(emulation, graphs, llm, shape, policy, cell, batches):
    """One row of the table; the plugin is bound as it was when the graphs were captured."""
    import engine
    import rank_tables

    requests, drafts = cell
    rows = requests * (1 + drafts)
    emulation.serve(rows, batches)
    physical = emulation.physical(rows)
    activated = rank_tables.count_activated(physical, emulation.num_physical, RANKS)
    row = {
        "policy": policy, "requests": requests, "drafts": drafts, "evidence": "emulated",
        "max_activated": round(float(activated.max(axis=2).mean()), 3),
        "activated": round(float(activated.mean()), 3), "router_us": round(emulation.router_us(rows), 2),
        "sent_ms": round(rank_tables.communication_ms(rows * RANKS, shape["hidden_size"], len(emulation.layers)), 3),
    }  # fmt: skip
    emulation.become(rank_tables.busiest_ranks(activated))
    # A run of the engine leaves the inputs and contexts of this batch behind, which replays go on with.
    if drafts:
        engine.generate_seconds(llm, rows, 4, shape["vocab_size"])
    else:
        row["tpot_ms"] = round(engine.tpot_ms(llm, rows, shape["vocab_size"], tokens=48, repeats=1), 3)
    graph = graphs.graph(rows)
    row["graph_checked"] = emulation.graph_maps(graph, physical)
    row["busiest_ms"] = round(emulation.replay_ms(graph), 4)
    each = []
    for rank in range(RANKS):
        emulation.become(rank)
        each.append(round(emulation.replay_ms(graph), 4))
    return row | {"ranks_ms": each, "slowest_ms": max(each)}


def placements(trial, emulation, loads, num_experts):
    """place(policy): vLLM's EPLB for all but `homed`, METRO's placement whose homes are spread; before a policy's turn."""
    import numpy as np
    import torch
    from vllm.distributed.eplb.policy.default import DefaultEplbPolicy

    if not trial["redundant"]:
        return lambda policy: None
    eplb = DefaultEplbPolicy.rebalance_experts(torch.from_numpy(loads), emulation.num_physical, 1, 1, RANKS)
    placed = {"eplb": (np.asarray(eplb, dtype=np.int64), num_experts)}
    if "homed" in trial["policies"]:
        import metro_moe

        homed = metro_moe.place(loads, num_replicas=emulation.num_physical, num_gpus=RANKS, algorithm="homed").layers
        slots = np.array([layer.replica_to_expert for layer in homed], dtype=np.int64)
        placed["homed"] = (slots, num_experts, np.array([layer.home for layer in homed], dtype=np.int64))
    return lambda policy: emulation.place(*placed["homed" if policy == "homed" else "eplb"])


def run_shape(trial):
    """Every policy of one engine in turns, cell by cell, so that what is cut off is the least wanted."""
    import torch

    import engine
    import rank_engine
    import rank_tables

    until = time.monotonic() + trial["seconds"]
    row_counts = sorted({b * (1 + s) for b, s in trial["cells"]})
    trace, num_experts = rank_tables.read_trace(DATA / trial["trace"])
    known, served = rank_tables.halves(trace)
    llm, shape = start_engine(trial, row_counts)
    num_physical = num_experts + trial["redundant"]
    emulation = rank_engine.Emulation(engine.moe_layers(llm), engine.runner_of(llm), RANKS, num_physical,
                                      trace.shape[-1], BATCHES, row_counts)  # fmt: skip
    loads = rank_tables.layer_loads(known, num_experts, trial["layers"])
    place = placements(trial, emulation, loads, num_experts)
    place("stock")
    graphs, kept = engine.Graphs(llm), []
    for policy in trial["policies"]:
        try:
            with graphs.plugin(BOUND.get(policy, policy)) as connector:
                graphs.capture(policy, connector)
            kept.append(policy)
        except Exception as error:
            traceback.print_exc()
            trials.report({"policy": policy, "failed": f"{type(error).__name__}: {error}"[:300]})
    started = time.monotonic() - (until - trial["seconds"])
    trials.report({"policy": "engine", "start_s": round(started, 1), "gpu": torch.cuda.get_device_name()})
    for cell in trial["cells"]:
        batches = rank_tables.draw_batches(served, RANKS, *cell, trial["layers"], BATCHES)
        for policy in kept:
            if [policy, *cell] in trial["done"]:
                continue
            if time.monotonic() > until - 5:
                trials.report({"policy": policy, "failed": f"out of time before {cell}"})
                return
            graphs.use(policy)
            place(policy)
            with graphs.plugin(BOUND.get(policy, policy)):
                row = measure(emulation, graphs, llm, shape, policy, cell, batches)
            trials.report(row)


# --- in the parent -----------------------------------------------------------------------------


def table(rows):
    """One line for each shape, drafts, requests and policy, with its gain over stock in the synchronised step."""
    rows = [row for row in rows if "busiest_ms" in row]
    total = lambda row: row["busiest_ms"] + row["sent_ms"]  # noqa: E731
    stock = {(r["shape"], r["drafts"], r["requests"]): total(r) for r in rows if r["policy"] == "stock"}
    order = {name: place for place, name in enumerate(("off", "stock", "home", "homed", "metro", "cuda"))}
    lines = [f"{'shape':12} drafts requests policy  max act.  router us  slowest rank ms  busiest ms  + sent ms  "
             "vs stock  TPOT ms  checked"]  # fmt: skip
    for row in sorted(rows, key=lambda r: (r["shape"], r["drafts"], r["requests"], order[r["policy"]])):
        base = stock.get((row["shape"], row["drafts"], row["requests"]))
        gain = f"{total(row) / base - 1:+8.1%}" if base else "       -"
        lines.append(
            f"{row['shape']:12} {row['drafts']:6} {row['requests']:8} {row['policy']:6} {row['max_activated']:9.2f} "
            f"{row['router_us']:10.2f} {row['slowest_ms']:16.3f} {row['busiest_ms']:11.3f} {row['sent_ms']:10.3f}  "
            f"{gain} {row.get('tpot_ms', 0):8.3f}  {row['graph_checked']}"
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trials.add_arguments(parser, budget=500)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="of " + ", ".join(SHAPES))
    parser.add_argument("--requests", default="1,4,8,16,32", help="a GPU, with commas")
    parser.add_argument("--drafts", default="0,1,3", help="draft tokens a request, with commas")
    parser.add_argument("--policies", default=",".join(POLICIES), help="homed: home under METRO's placement; off: without EPLB")
    parser.add_argument("--layers", type=int, help="instead of 48 and 8")
    args = parser.parse_args()
    if args.child is None:
        if args.site is None or args.out is None:
            parser.error("--site and --out are needed")
        if not set(args.shapes.split(",")) <= set(SHAPES):
            parser.error(f"--shapes {args.shapes}: must be of {', '.join(SHAPES)}")
        if not set(args.policies.split(",")) <= set(POLICIES):
            parser.error(f"--policies {args.policies}: must be of {', '.join(POLICIES)}")
    return args


def read_done(jsonl):
    return [json.loads(line) for line in jsonl.read_text().splitlines()] if jsonl.exists() else []


def main():
    args = parse()
    if args.child:
        run_shape(json.loads(args.child))
        return 0
    import rank_tables

    bench = trials.Bench("ranks", args)
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    cells = rank_tables.cells(numbers(args.requests), numbers(args.drafts))
    policies = [p for p in args.policies.split(",") if bench.has_cuda or p not in ("cuda", "homed")]
    engines = [(name, group) for name in args.shapes.split(",")
               for group in ([p for p in policies if p != "off"], ["off"] if "off" in policies else []) if group]  # fmt: skip
    for place, (name, group) in enumerate(engines):
        done = [[r["policy"], r["requests"], r["drafts"]] for r in read_done(bench.jsonl)
                if r.get("shape") == name and "busiest_ms" in r]  # fmt: skip
        left = [cell for cell in cells if any([policy, *cell] not in done for policy in group)]
        if not left:
            continue
        # Engines with more policies get more of the time that is left.
        weight = [1 + len(g) for _, g in engines[place:]]
        seconds = bench.left() * weight[0] / sum(weight)
        trial = {**SHAPES[name], "cells": left, "policies": group, "done": done, "seconds": seconds - 3}
        trial |= {"layers": args.layers or trial["layers"]}
        if group == ["off"]:
            trial["redundant"] = 0
        bench.run(f"{name} {'off' if group == ['off'] else 'EPLB'}", trial, seconds + 10, tag={"shape": name})
    text = table(read_done(bench.jsonl))
    bench.jsonl.with_suffix(".txt").write_text(text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
