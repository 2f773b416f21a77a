# SPDX-License-Identifier: Apache-2.0
"""Ranks that see a part of the batch: `python parts.py --site /tmp/site --out $OUT` on a machine of 2 GPUs or more.

Data parallelism with experts over all GPUs, in one process a GPU. Greedy tokens of a tiny random checkpoint
under stock, `home`, `metro` after the gather and `metro` by exchange, through rearrangements, must be stock's;
a second stock run says how far stock repeats itself, a wrong mapping must be seen. Ranks get different numbers
of requests, so that at the end all but one are idle. One line a trial; the table is OUT/parts.txt.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import start
from checkpoint import write_checkpoint
from trials import make_package

METRO = {"METRO_VLLM_DECODE": "metro"}
# name, environment, what of it
TRIALS = [
    ("stock", {}, {}),
    ("stock again", {}, {}),
    ("home", {"METRO_VLLM_DECODE": "home"}, {}),
    ("metro gather", METRO, {}),
    ("metro exchange", {**METRO, "METRO_VLLM_EXCHANGE": "always"}, {"exchange": True}),
    ("metro wrong", METRO, {"wrong": True}),
    ("metro gather rearranged", {**METRO, "METRO_VLLM_METRICS": "1"}, {"step_interval": 16}),
    ("metro exchange rearranged", {**METRO, "METRO_VLLM_EXCHANGE": "always"}, {"exchange": True, "step_interval": 16}),
    ("metro homed rearranged", {**METRO, "METRO_VLLM_PLACEMENT": "homed"}, {"step_interval": 16, "extension": True}),
]  # fmt: skip


def make_tokens(trial, rank):
    """In one rank's process."""
    from vllm import LLM, SamplingParams

    import metro_moe.vllm
    from metro_moe.vllm import metrics, replica_choice, seams

    if trial.get("wrong"):
        right = replica_choice.map_to_physical_and_record
        replica_choice.map_to_physical_and_record = lambda *a, **k: (right(*a, **k) + 1) % 24
    if trial.get("exchange"):
        seams.GATHER_CLASS = "NotHere"  # as with a backend that does not gather
    llm = LLM(
        model=trial["checkpoint"], skip_tokenizer_init=True, max_model_len=256, max_num_seqs=16, tensor_parallel_size=1,
        max_num_batched_tokens=256, gpu_memory_utilization=0.3, kv_cache_memory_bytes=256 << 20, dtype="bfloat16",
        enable_prefix_caching=False, generation_config="vllm", moe_backend="triton", disable_log_stats=True, seed=0,
        enable_expert_parallel=True, enable_eplb=True, all2all_backend="allgather_reducescatter",
        eplb_config={"num_redundant_experts": 8, "use_async": False, "communicator": "torch_nccl", "window_size": 8,
                     "step_interval": trial.get("step_interval", 10**9)},
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 4, 16]},
    )  # fmt: skip
    requests = max(1, 12 - 5 * rank)
    prompts = [{"prompt_token_ids": [(101 * rank + 7 * b + 3 * i) % 1021 + 2 for i in range(8)]} for b in range(requests)]
    sampling = [SamplingParams(temperature=0.0, max_tokens=16 + 3 * b, ignore_eos=True, detokenize=False)
                for b in range(requests)]  # fmt: skip
    tokens = []
    for _ in range(trial["calls"]):
        tokens += [list(o.outputs[0].token_ids) for o in llm.generate(prompts, sampling, use_tqdm=False)]
    folder = os.environ.get(metrics.FOLDER, "")
    return {"tokens": tokens, "plugin": metro_moe.vllm.status(), "metrics": metrics.read(folder) if folder else []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(name, trial, environment, args, package):
    """The results of all ranks, or why there are none."""
    port, children = str(free_port()), []
    for rank in range(args.gpus):
        answer = args.out / f"parts-{name.replace(' ', '-')}-{rank}.json"
        answer.unlink(missing_ok=True)
        path = [package, args.site, pathlib.Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ, **start.ENVIRONMENT, **environment, "PYTHONPATH": ":".join(map(str, path)),
            "VLLM_CACHE_ROOT": f"{args.site}/../vllm-cache", "VLLM_DP_RANK": str(rank), "VLLM_DP_RANK_LOCAL": str(rank),
            "VLLM_DP_SIZE": str(args.gpus), "VLLM_DP_MASTER_IP": "127.0.0.1", "VLLM_DP_MASTER_PORT": port,
            "METRO_TRIAL_RESULT": str(answer),
        }  # fmt: skip
        log = open(answer.with_suffix(".log"), "w")
        command = [sys.executable, __file__, "--child", json.dumps(trial)]
        child = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        children.append((child, answer))
    until = time.monotonic() + args.limit
    for child, _ in children:
        try:
            child.wait(max(1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
    for child, _ in children:
        try:  # what it left running holds GPU memory
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
    missing = [answer for _, answer in children if not answer.exists()]
    for answer in missing:
        print("\n".join(answer.with_suffix(".log").read_text(errors="replace").splitlines()[-25:]), flush=True)
    return [json.loads(answer.read_text()) for _, answer in children] if not missing else None


def judge(name, ranks, stock):
    if ranks is None or stock is None:
        return "FAILED"
    equal = sum(a == b for mine, theirs in zip(ranks, stock) for a, b in zip(mine["tokens"], theirs["tokens"]))
    total = sum(len(theirs["tokens"]) for theirs in stock)
    plugin = ranks[0]["plugin"]
    good = (equal < total) if "wrong" in name else equal == total
    if name.startswith(("home", "metro")):
        good = good and not plugin["off"] and name.split()[0] in plugin["calls"]
    verdict = "ok" if good else "WRONG"
    text = f"{verdict}: {equal} of {total} requests equal; {plugin['models']} {plugin['calls']} {plugin['off']}"
    return text + (f" {json.dumps(ranks[0]['metrics'])}" if ranks[0]["metrics"] else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", help="folder that unpack.py filled")
    parser.add_argument("--out", type=pathlib.Path, help="folder for logs and results")
    parser.add_argument("--extension", type=pathlib.Path, help="compiled _metro of metro_moe (or .xz), for `homed`")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--calls", type=int, default=4, help="each of 12 requests on rank 0, 7 on rank 1, ...")
    parser.add_argument("--limit", type=float, default=150, help="seconds a trial")
    parser.add_argument("--only", default="", help="trials whose name has this; stock always runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        result = make_tokens(json.loads(args.child), int(os.environ["VLLM_DP_RANK"]))
        pathlib.Path(os.environ["METRO_TRIAL_RESULT"]).write_text(json.dumps(result))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp())
    make_package(folder / "package", args.extension)
    write_checkpoint(folder / "tiny")
    stock, rows = None, []
    for name, environment, more in TRIALS:
        if (args.only not in name and name != "stock") or (more.get("extension") and args.extension is None):
            continue
        trial = {"checkpoint": str(folder / "tiny"), "calls": args.calls, **more}
        ranks = run(name, trial, environment, args, folder / "package")
        stock = ranks if name == "stock" else stock
        rows.append(f"{name:28} {judge(name, ranks, stock)}")
        print(rows[-1], flush=True)
        (args.out / "parts.txt").write_text("\n".join(rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
