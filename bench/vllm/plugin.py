# SPDX-License-Identifier: Apache-2.0
"""The plugin in a real vLLM on one GPU: `python plugin.py --site SITE --out OUT --extension _metro.abi3.so`

Groups of trials, in this order: `mapping` (each policy against plain Python, and its time in a CUDA graph), `tpot`
(all policies in one engine of 0.25.1, and EPLB off); equal.py has the tokens. Results are OUT/plugin.jsonl, line by line as they come, then OUT/plugin.txt; the log is
OUT/plugin.log. one_rank's trials, where GPUs share the replicas, are ranks.py's.
"""

import argparse
import json
import sys
import time
import traceback

import mapping
import start
import tokens
import trials

GROUPS = ("mapping", "tpot")
REQUESTS = [1, 4, 8, 16, 32]
SIZES = {"compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": REQUESTS}}
TPOT = {"kind": "tpot", "model": "30b", "layers": 8, "options": SIZES, "env": start.SKEW, "requests": REQUESTS}


# --- in the children ---------------------------------------------------------------------------


def measure_tpot(trial):
    """TPOT of each policy and number of requests, in one engine; what fails is said and left out."""
    import tempfile

    import torch
    from vllm import LLM

    import engine
    import models

    if trial.get("redundant"):
        import one_rank

        one_rank.enable_eplb_on_one_rank(trial["redundant"])
    began = time.perf_counter()
    folder, shape = models.write_config(tempfile.mkdtemp(), trial["model"], trial["layers"])
    llm = LLM(**engine.options(folder, **trial["options"]))
    trials.report({"policy": "engine", "load_s": round(time.perf_counter() - began, 1), "parts": start.describe(llm)})
    graphs = engine.Graphs(llm, num_gpus=8 if trial.get("redundant") else 0)
    for policy in trial["policies"]:
        try:
            with graphs.plugin(policy) as connector:
                if connector is not None:
                    graphs.capture(policy, connector)
                for requests in trial["requests"]:
                    ms = engine.tpot_ms(llm, requests, shape["vocab_size"], tokens=96)
                    trials.report({"policy": trial.get("label", policy), "requests": requests, "tpot_ms": round(ms, 3),
                                   "gpu": torch.cuda.get_device_name()})  # fmt: skip
        except Exception as error:
            traceback.print_exc()
            trials.report({"policy": policy, "failed": f"{type(error).__name__}: {error}"[:300]})


def measure_policy(trial):
    """One policy in an engine of its own, set by environment as a user does (--restart)."""
    import metro_moe.vllm

    measure_tpot({**trial, "policies": ["stock"]})
    trials.report({"policy": trial["label"], "plugin": metro_moe.vllm.status()})


KINDS = {"mapping": mapping.check_mapping, "tpot": measure_tpot, "policy": measure_policy}


# --- in the parent -----------------------------------------------------------------------------


def run_mapping(bench, args):
    bench.run("mapping", {"kind": "mapping"}, 120)


def run_tpot(bench, args):
    policies = ["stock", "home", "metro", *(["optimal"] if bench.has_cuda else [])]
    if args.restart:
        for policy in policies:
            environment = {} if policy == "stock" else {"METRO_VLLM_DECODE": policy, **tokens.GPUS}
            trial = {**TPOT, "kind": "policy", "redundant": 64, "label": policy}
            bench.run(f"tpot {policy}", trial, 100, environment)
    else:
        bench.run("tpot +64", {**TPOT, "redundant": 64, "policies": policies}, 180)
    bench.run("tpot EPLB off", {**TPOT, "policies": ["stock"], "label": "EPLB off"}, 90)


def table(rows):
    lines = []
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in ("trial", "policy", "gpu", "tokens")}
        lines.append(f"{row['trial']:24} {row.get('policy', ''):10} {json.dumps(figures)}")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trials.add_arguments(parser, budget=300)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, with commas; they run in this program's order")
    parser.add_argument("--restart", action="store_true", help="an engine for each policy of `tpot`, set by environment")
    args = parser.parse_args()
    if args.child:
        trial = json.loads(args.child)
        KINDS[trial["kind"]](trial)
        return 0
    only = args.only.split(",")
    if not set(only) <= set(GROUPS):
        parser.error(f"--only {args.only}: must be of {', '.join(GROUPS)}")
    if args.site is None or args.out is None:
        parser.error("--site and --out are needed")
    bench = trials.Bench("plugin", args)
    for group in GROUPS:
        if group in only:
            {"mapping": run_mapping, "tpot": run_tpot}[group](bench, args)
    text = table([json.loads(line) for line in bench.jsonl.read_text().splitlines()])
    bench.jsonl.with_suffix(".txt").write_text(text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
