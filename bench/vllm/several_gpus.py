# SPDX-License-Identifier: Apache-2.0
"""Stock EPLB against METRO in a real vLLM on several GPUs, with no redundancy beside them.

    python several_gpus.py --site /tmp/site --gpus N --out DIR --part tokens|tp|dp|deepseek [--budget S]
    python several_gpus.py --config DIR              # the models' config.json alone, for predictions

Experts lie on all GPUs (EP = N); attention is sharded (tp, deepseek) or data-parallel (dp). Each engine times 8, 16
and 32 requests per GPU, and its rows are in DIR/PART.jsonl the moment they are known: another call goes on from there.
stdout is one JSON object, {"rows": [...]}. Exit 6: the budget is used up, call again.
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

import models
import start

REQUESTS = (8, 16, 32)  # per GPU
NEVER = 10**9  # steps between rearrangements
LAYERS = {"30b": 16, "deepseek": 4, "tiny": 2}
SHAPES = {
    "30b": models.QWEN3_30B_A3B,
    # DeepSeek-V3's routed experts and widths under Qwen3's attention and router.
    "deepseek": dict(models.QWEN3_30B_A3B, hidden_size=7168, intermediate_size=18432, moe_intermediate_size=2048,
                     num_experts=256, num_attention_heads=64, num_key_value_heads=8, vocab_size=129280),
    "tiny": models.TINY,
}  # fmt: skip
METRO = {"METRO_VLLM_DECODE": "metro"}
# policy, replication, environment; "off" is vLLM without EPLB, which EPLB with nothing redundant is not.
ENGINES = [
    ("off", 1.0, {}),
    ("stock", 1.0, {}),
    ("stock", 1.5, {}),
    ("metro", 1.5, METRO),
    ("home", 1.5, {"METRO_VLLM_DECODE": "home"}),
    ("stock", 1.125, {}),
    ("metro", 1.125, METRO),
]
# Greedy tokens of a tiny random checkpoint while replicas move: every request as stock has it.
TOKENS = [("stock", {}), ("metro", METRO), ("home", {"METRO_VLLM_DECODE": "home"})]
# Shares of experts are far from equal, and alike on all ranks.
SKEW = {"VLLM_MOE_ROUTING_SIMULATION_STRATEGY": "normal_routing"}


def trials_of(part):
    if part == "tokens":
        return [{"name": f"tokens {policy} rearranged", "part": part, "shape": "tiny", "way": "tp", "policy": policy,
                 "replication": 1.5, "env": env} for policy, env in TOKENS]  # fmt: skip
    shape, way = ("deepseek", "tp") if part == "deepseek" else ("30b", part)
    return [{"name": f"{part} {policy} {replication}", "part": part, "shape": shape, "way": way, "policy": policy,
             "replication": replication, "env": {**SKEW, **env}} for policy, replication, env in ENGINES]  # fmt: skip


def redundant(num_experts, replication, gpus):
    """Slots beyond one for each expert, so that all are a multiple of the GPUs."""
    slots = -(-round(num_experts * replication) // gpus) * gpus
    return slots - num_experts


# --- in the children ---------------------------------------------------------------------------


def make_engine(trial):
    from vllm import LLM

    shape, gpus, tokens = SHAPES[trial["shape"]], trial["gpus"], trial["part"] == "tokens"
    options = {
        "model": trial["model"], "load_format": "auto" if tokens else "dummy", "skip_tokenizer_init": True,
        "tensor_parallel_size": gpus if trial["way"] == "tp" else 1, "enable_expert_parallel": True,
        "max_model_len": 512, "max_num_seqs": max(REQUESTS) * gpus, "max_num_batched_tokens": 2048,
        "gpu_memory_utilization": 0.85, "dtype": "bfloat16", "enable_prefix_caching": False, "generation_config": "vllm",
        "moe_backend": "triton", "disable_log_stats": True, "seed": 0,
        "compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    }  # fmt: skip
    if trial["policy"] != "off":
        options["enable_eplb"] = True
        options["eplb_config"] = {
            "num_redundant_experts": redundant(shape["num_experts"], trial["replication"], gpus), "use_async": False,
            "window_size": 8 if tokens else 100, "step_interval": 16 if tokens else NEVER,
        }  # fmt: skip
    return LLM(**options)


def generate(llm, trial, requests, tokens):
    from vllm import SamplingParams

    vocab = SHAPES[trial["shape"]]["vocab_size"]
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    first = requests * trial.get("rank", 0)
    prompts = [{"prompt_token_ids": [(7 * (first + b) + 3 * i) % vocab for i in range(64)]} for b in range(requests)]
    began = time.perf_counter()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    return time.perf_counter() - began, [list(output.outputs[0].token_ids) for output in outputs]


def child(trial):
    """One engine, or one data-parallel rank of it; rank 0 reports."""
    report = open(trial["answer"], "a") if trial.get("rank", 0) == 0 else open(os.devnull, "w")
    llm = make_engine(trial)
    with report:
        if trial["part"] == "tokens":
            report.write(json.dumps({"tokens": generate(llm, trial, 24, 96)[1]}) + "\n")
            return
        for per_gpu in REQUESTS:
            requests = per_gpu * (trial["gpus"] if trial["way"] == "tp" else 1)
            generate(llm, trial, requests, 16)  # warms up
            each, long = [], 0
            for _ in range(3):
                long, _ = generate(llm, trial, requests, 16 + 128)
                each.append(long - generate(llm, trial, requests, 16)[0])  # without prefill and start
            tpot = sorted(each)[1] / 128
            report.write(json.dumps({
                "requests_per_gpu": per_gpu, "tpot_ms": round(1e3 * tpot, 4),
                "tokens_per_s": round(per_gpu * trial["gpus"] / tpot, 1),
            }) + "\n")  # fmt: skip
            report.flush()


# --- in the parent -----------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(trial, args, package, seconds):
    """Rows of one engine; its processes are gone when this returns."""
    answer, log = args.out / "answer.jsonl", args.out / f"{trial['name'].replace(' ', '-')}.log"
    answer.unlink(missing_ok=True)
    path = [package, args.site, pathlib.Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
    base = {**os.environ, **start.ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", **trial["env"],
            "PYTHONPATH": ":".join(map(str, path)), "VLLM_CACHE_ROOT": f"{args.site}/../vllm-cache"}  # fmt: skip
    port, processes = free_port(), []
    with open(log, "w") as talk:
        for rank in range(args.gpus if trial["way"] == "dp" else 1):
            environment = dict(base)
            if trial["way"] == "dp":
                environment |= {"VLLM_DP_RANK": str(rank), "VLLM_DP_RANK_LOCAL": str(rank), "VLLM_DP_SIZE": str(args.gpus),
                                "VLLM_DP_MASTER_IP": "127.0.0.1", "VLLM_DP_MASTER_PORT": str(port)}  # fmt: skip
            told = json.dumps({**trial, "rank": rank, "gpus": args.gpus, "answer": str(answer)})
            command = [sys.executable, __file__, "--child", told]
            processes.append(subprocess.Popen(command, stdout=talk, stderr=talk, env=environment, start_new_session=True))
        deadline, status = time.monotonic() + seconds, 0
        try:
            for process in processes:
                status = process.wait(max(1, deadline - time.monotonic())) or status
        except subprocess.TimeoutExpired:
            status = "out of time"
        for process in processes:  # what they left running holds GPU memory
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    about = {key: trial[key] for key in ("name", "part", "shape", "policy", "replication")}
    about["trial"] = about.pop("name")
    lines = answer.read_text().splitlines() if answer.exists() else []
    rows = [{**about, "layers": LAYERS[trial["shape"]], **json.loads(line)} for line in lines]
    if status != 0:
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        rows.append({**about, "failed": f"{status}: {''.join(tail)[:200]}"})
    return rows


def judge(rows):
    """Token rows with a verdict in the place of their tokens."""
    stock = next((row["tokens"] for row in rows if row["policy"] == "stock" and "tokens" in row), None)
    judged = []
    for row in rows:
        row = dict(row)
        tokens = row.pop("tokens", None)
        if tokens is not None:
            row["equal"] = sum(a == b for a, b in zip(tokens, stock or []))
            row["verdict"] = "ok" if stock is not None and tokens == stock else "WRONG"
        judged.append(row)
    return judged


def write_model(folder, shape):
    if shape != "tiny":
        return models.qwen3_moe(folder / shape, SHAPES[shape], LAYERS[shape])
    try:
        from checkpoint import write_checkpoint
    except ImportError:
        from plugin import write_checkpoint
    write_checkpoint(folder / shape)
    return str(folder / shape)


def make_package(folder):
    """metro_moe's plugin as it would be installed, found by its entry point."""
    try:
        from trials import make_package as make
    except ImportError:
        from plugin import make_package as make
    make(folder, None)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", help="folder that unpack.py filled")
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--part", choices=("tokens", "tp", "dp", "deepseek"))
    parser.add_argument("--budget", type=float, default=500, help="seconds for this call")
    parser.add_argument("--config", type=pathlib.Path, help="write the models' config.json there and stop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
        return 0
    if args.config:
        for shape in ("30b", "deepseek"):
            models.qwen3_moe(args.config / shape, SHAPES[shape], LAYERS[shape])
        return 0
    if not (args.site and args.gpus and args.out and args.part):
        parser.error("--site, --gpus, --out and --part are required")
    deadline = time.monotonic() + args.budget
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / f"{args.part}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    scratch = pathlib.Path(tempfile.mkdtemp())
    sys.path.append(args.site)  # the checkpoint is written with vLLM's own torch and safetensors
    package = make_package(scratch / "package")
    for trial in trials_of(args.part):
        if any(row["trial"] == trial["name"] for row in rows):
            continue
        left = deadline - time.monotonic()
        if left < 100:
            print(f"several_gpus: out of time before {trial['name']}, call again", file=sys.stderr)
            return 6
        if "model" not in trial:
            trial["model"] = write_model(scratch, trial["shape"])
        more = run(trial, args, package, min(left, 200))
        with open(kept, "a") as out:
            out.writelines(json.dumps(row) + "\n" for row in more)
        rows += more
    print(json.dumps({"rows": judge(rows)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
