# SPDX-License-Identifier: Apache-2.0
r"""Greedy tokens equal to vLLM's own, on one GPU, in vLLM 0.25.1 or 0.33.0, by the V1 or the V2 runner:

    python equal.py --site /tmp/site --out OUT --extension _metro.so.xz [--runner V2] [--only stock,home] [--many 1000]

Every policy generates from one tiny random checkpoint, through rearrangements, padding and drafts, and must give the
tokens of its own stock run; a mapping that is wrong on purpose must not. Device counters say how many mappings were
replayed in decode graphs, which no Python sees. All trials run side by side. Results are OUT/equal-RUNNER.jsonl, the log
is OUT/equal-RUNNER.log, and what a user sees of METRO when an engine starts is OUT/start-RUNNER.txt.
"""

import argparse
import json
import re
import sys
import time

import checkpoint
import tokens
import trials

DRAFTS = 3


def policy(name, **more):
    settings = {"METRO_VLLM_DECODE": name, **tokens.GPUS}
    return {**settings, **{f"METRO_VLLM_{key.upper()}": str(value) for key, value in more.items()}}


# name: (environment, what of it, requests: many or few)
TRIALS = {
    "stock": ({}, {}, "many"),
    "home": (policy("home", metrics=1), {"moves": True}, "many"),
    "optimal": (policy("optimal", metrics=1), {"moves": True}, "few"),
    "auto": (policy("auto", auto_tokens=4), {"moves": True}, "few"),
    "metro": (policy("metro"), {"moves": True}, "few"),
    "home wrong": (policy("home"), {"wrong": True}, "few"),
    "drafts stock": ({}, {"drafts": DRAFTS}, "few"),
    "drafts home": (policy("home", metrics=1), {"drafts": DRAFTS, "moves": True}, "few"),
    "drafts optimal": (policy("optimal", metrics=1), {"drafts": DRAFTS, "moves": True}, "few"),
}
NEEDS_ROUTER = ("optimal", "auto")


# --- in the children ---------------------------------------------------------------------------


def numba_or_stand_in():
    """vLLM imports numba for its n-gram drafts on the host, which these trials do not use."""
    try:
        import numba  # noqa: F401
    except Exception:
        import types

        module = types.ModuleType("numba")
        plain = lambda *a, **k: a[0] if a and callable(a[0]) else (lambda f: f)  # noqa: E731
        module.jit = module.njit = plain
        module.prange, module.get_num_threads, module.set_num_threads = range, lambda: 1, lambda n: None
        sys.modules["numba"] = module


def generate(trial):
    """Tokens of one engine, and what the plugin and its device counters say."""
    numba_or_stand_in()
    from vllm import LLM, SamplingParams

    import engine
    import metro_moe.vllm
    import one_rank

    one_rank.enable_eplb_on_one_rank(8, trial["step_interval"])
    if trial.get("wrong"):
        from metro_moe.vllm.connector import Connector

        right = Connector.serve
        Connector.serve = lambda *a: (right(*a) + 1) % 24
    moves = tokens.count_rearrangements()
    rows = 1 + trial.get("drafts", 0)
    more = {}
    if rows > 1:
        more["speculative_config"] = {"method": "ngram", "num_speculative_tokens": rows - 1, "prompt_lookup_max": 3,
                                      "prompt_lookup_min": 1}  # fmt: skip
    sizes = [size * rows for size in (1, 4, 16)]
    llm = LLM(**engine.options(
        trial["checkpoint"], load_format="auto", max_model_len=256, max_num_seqs=16, max_num_batched_tokens=256,
        gpu_memory_utilization=0.06, kv_cache_memory_bytes=256 << 20,
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes}, **more,
    ))  # fmt: skip
    before = counters()
    made = []
    sampling = [SamplingParams(temperature=0.0, max_tokens=8 + 2 * b, ignore_eos=True, detokenize=False)
                for b in range(tokens.AT_ONCE)]  # fmt: skip
    calls = metro_moe.vllm.status()["calls"]
    for call in range(tokens.num_calls(trial["requests"])):
        outputs = llm.generate(tokens.prompts_of(call), sampling, use_tqdm=False)
        made += [list(o.outputs[0].token_ids) for o in outputs]
    since = {key: value - before.get(key, 0) for key, value in counters().items()}
    python = {name: n - calls.get(name, 0) for name, n in metro_moe.vllm.status()["calls"].items()}
    trials.report({"tokens": made, "rearranged": moves.count(False), "plugin": metro_moe.vllm.status(), "since": since,
                   "python": python, "counts": bool(before), "runner": type(engine.runner_of(llm)).__module__})  # fmt: skip


def counters():
    """Sums over layers and models of the device counters."""
    import metro_moe.vllm
    from metro_moe.vllm import counters as of

    plugin = metro_moe.vllm._plugin
    connector = None if plugin is None else plugin.connector
    if connector is None:
        return {}
    rows = [m.counters.rows.sum(0).tolist() for m in connector.models.values() if m.counters is not None]
    if not rows:
        return {}
    names = {"mappings": of.CALLS, "samples": of.SAMPLES, "ours": of.OURS, "stock": of.STOCK}
    return {name: sum(row[at] for row in rows) for name, at in names.items()}


# --- in the parent -----------------------------------------------------------------------------


def judge(name, row, stock, few_moves):
    """`row` without its tokens, and how it compares to stock's first requests."""
    if "tokens" not in row or "tokens" not in stock:
        return {"trial": name, "verdict": "FAILED", "failed": row.get("failed", "no tokens of stock")}
    ours, plugin, since = row["tokens"], row["plugin"], row["since"]
    want = stock["tokens"][: len(ours)]
    equal = sum(a == b for a, b in zip(ours, want))
    faults = []
    if len(want) != len(ours) or (equal == len(want)) == ("wrong" in name):
        faults.append("tokens")
    served = {policy: n for graphs in plugin["graphs"].values() for policy, n in graphs.items()}
    if "stock" not in name:
        asked = name.replace("drafts ", "").split()[0]
        wanted = {"auto": {"home", "optimal"}}.get(asked, {asked})
        if plugin["off"] or not wanted <= set(served):
            faults.append("not captured")
        if row["counts"] and since.get("mappings", 0) <= sum(row["python"].values()):
            faults.append("not replayed")  # the device must have counted more than Python called
    if few_moves and row["rearranged"] < few_moves:
        faults.append("rearranged too seldom")
    return {
        "trial": name, "verdict": ", ".join(faults) or "ok", "equal": equal, "requests": len(want),
        "rearranged": row["rearranged"], "graphs": served, "mappings_on_device": since.get("mappings", 0),
        "mappings_in_python": row["python"], "off": plugin["off"], "runner": row["runner"],
        "max_activated": {key: round(since[key] / since["samples"], 3) for key in ("ours", "stock") if since.get("samples")},
    }  # fmt: skip


def start_lines(text):
    """What a user sees of METRO, and of what vLLM chose, when an engine starts."""
    kept = [line for line in text.splitlines() if re.search(r"metro|vLLM engine|V1 LLM|cudagraph_mode|attention backend|EPLB", line)]
    return "\n".join(line[:600] for line in kept[:60]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trials.add_arguments(parser, budget=240)
    parser.add_argument("--runner", choices=("V1", "V2"), help="default: as vLLM chooses")
    parser.add_argument("--only", default=",".join(TRIALS), help="trials, with commas")
    parser.add_argument("--many", type=int, default=1000, help="requests of stock and home")
    parser.add_argument("--few", type=int, default=200, help="requests of the others")
    parser.add_argument("--rearrangements", type=int, default=20, help="at least so many in each trial that has them")
    args = parser.parse_args()
    if args.child:
        generate(json.loads(args.child))
        return 0
    only = args.only.split(",")
    if not set(only) <= set(TRIALS):
        parser.error(f"--only {args.only}: must be of {', '.join(TRIALS)}")
    label = args.runner or "default"
    bench = trials.Bench(f"equal-{label}", args)
    folder = str(bench.scratch / "tiny")
    checkpoint.write_checkpoint(folder)
    runner = {"VLLM_USE_V2_MODEL_RUNNER": str(int(args.runner == "V2"))} if args.runner else {}
    children = {}
    for name, (environment, more, amount) in TRIALS.items():
        if name in only and (bench.has_cuda or not any(part in name for part in NEEDS_ROUTER)):
            requests = args.many if amount == "many" else args.few
            interval = tokens.step_interval(requests, args.rearrangements + 2) if more.get("moves") else tokens.NEVER
            trial = {"checkpoint": folder, "requests": requests, "step_interval": interval,
                     **{key: more[key] for key in ("wrong", "drafts") if key in more}}  # fmt: skip
            children[name] = (bench.start(f"{label} {name}", trial, {**environment, **runner}), more)
    until, rows = time.monotonic() + bench.left(), {}
    for name, (child, _) in children.items():
        found = child.rows(until - time.monotonic(), keep=False)
        rows[name] = next((row for row in found if "tokens" in row), found[0] if found else {})
    for name, (child, more) in children.items():
        stock = rows.get("drafts stock" if more.get("drafts") else "stock", {})
        moves = args.rearrangements if more.get("moves") else 0
        bench.keep([{**judge(name, rows[name], stock, moves), "of": label}])
    if "home" in children:
        log = children["home"][0].answer.with_suffix(".log").read_text(errors="replace")
        (args.out / f"start-{label}.txt").write_text(start_lines(log))
    return 0


if __name__ == "__main__":
    sys.exit(main())
