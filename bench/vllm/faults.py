# SPDX-License-Identifier: Apache-2.0
"""What may not change a token, on one GPU: `python faults.py --site /tmp/site --out $OUT --extension _metro.abi3.so.xz`

Greedy tokens as in tokens.py, through rearrangements, where the plugin is in trouble or does more than map: every
commit that the cuda router should follow fails, or is never told to it (captured graphs must serve vLLM's hash);
`homed` is placed through vLLM's policy table; metrics are read; settings come by additional_config.
"""

import argparse
import json
import os
import sys

import checkpoint
import tokens
import trials

METRICS = {"METRO_VLLM_METRICS": "1"}
# name, environment, what of it
TRIALS = [
    ("stock", {}, {}),
    ("cuda cannot follow", {**tokens.CUDA, **METRICS}, {"router": "raises"}),
    ("cuda is not told", {**tokens.CUDA, **METRICS}, {"router": "silent"}),
    ("metro homed", {**tokens.METRO, **METRICS, "METRO_VLLM_PLACEMENT": "homed"}, {}),
    ("home homed", {**tokens.HOME, **METRICS, "METRO_VLLM_PLACEMENT": "homed"}, {}),
    ("metro by config", {}, {"config": {"decode": "metro", "num_gpus": 8, "metrics": 1}}),
]


def run(trial):
    """In the child: as tokens.make_tokens, then what the counters and the endpoint say."""
    import engine

    if trial.get("router"):
        from metro_moe import cuda

        def update(self, *arguments):
            if trial["router"] == "raises":
                raise RuntimeError("a commit that cannot be followed")

        cuda.Router.update = update
    plain = engine.options
    extra = {"disable_log_stats": False}
    if trial.get("config"):
        extra["additional_config"] = {"metro": trial["config"]}
    engine.options = lambda *a, **more: {**plain(*a, **more), **extra}
    tokens.make_tokens(trial)

    from metro_moe.vllm import metrics
    from prometheus_client import generate_latest

    endpoint = [line for line in generate_latest().decode().splitlines() if line.startswith("vllm:metro")]
    trials.report({"counters": metrics.read(os.environ[metrics.FOLDER]), "endpoint": endpoint})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trials.add_arguments(parser, budget=300)
    parser.add_argument("--requests", type=int, default=130)
    parser.add_argument("--rearrangements", type=int, default=20)
    args = parser.parse_args()
    if args.child:
        run(json.loads(args.child))
        return 0
    bench = trials.Bench("faults", args)
    folder = str(bench.scratch / "tiny")
    checkpoint.write_checkpoint(folder)
    interval, stock = tokens.step_interval(args.requests, args.rearrangements), {}
    for name, environment, more in TRIALS:
        if not bench.has_cuda and ("cuda" in name or "homed" in name):
            continue  # both need the compiled part of the package
        trial = {"checkpoint": folder, "requests": args.requests, "step_interval": interval, **more}
        rows = bench.start(name, trial, environment).rows(min(90, bench.left()), keep=False)
        first = next((row for row in rows if "tokens" in row), rows[0] if rows else {})
        stock = first if name == "stock" else stock
        verdict = tokens.judge(name, first, stock, args.rearrangements)
        for row in rows:
            verdict |= {key: row[key] for key in ("counters", "endpoint") if key in row}
        bench.keep([verdict])
    return 0


if __name__ == "__main__":
    sys.exit(main())
