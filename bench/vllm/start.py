# SPDX-License-Identifier: Apache-2.0
"""Does a real vLLM run here? `python start.py --site /tmp/site --out $OUT`

Runs trials in child processes, cheapest first, each with its fallbacks in order; prints every failure's
stack trace and one table last. The whole log is OUT/start.log, the results OUT/start.json.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import engine
import models

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_USE_NCCL_SYMM_MEM": "0",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "PYTHONUNBUFFERED": "1",
}

EAGER = {"enforce_eager": True}
GRAPHS = {"compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}}
COMPILED = {"compilation_config": {"mode": 3, "cudagraph_mode": "FULL_AND_PIECEWISE"}}
SKEW = {"VLLM_MOE_ROUTING_SIMULATION_STRATEGY": "uniform_random"}

# name, seconds, trial; "options" are LLM arguments, "env" is added to ENVIRONMENT.
TRIALS = [
    ("ops", 90, {"kind": "ops"}),
    ("tiny eager", 180, {"model": "tiny", "layers": 2, "options": EAGER, "batches": [4]}),
    ("tiny graphs", 120, {"model": "tiny", "layers": 2, "options": GRAPHS, "batches": [4]}),
    ("30B 8 layers graphs", 150,
     {"model": "30b", "layers": 8, "options": GRAPHS, "env": SKEW, "batches": [1, 8, 32]}),
    ("30B 8 layers EPLB +64", 150,
     {"model": "30b", "layers": 8, "options": GRAPHS, "env": SKEW, "batches": [1, 8, 32],
      "redundant": 64}),
    ("30B 8 layers EPLB +64 rank 0 of 8", 150,
     {"model": "30b", "layers": 8, "options": GRAPHS, "env": SKEW, "batches": [1, 8, 32],
      "redundant": 64, "rank": 0, "ranks": 8}),
    ("30B 8 layers compiled", 200,
     {"model": "30b", "layers": 8, "options": COMPILED, "env": SKEW, "batches": [1, 8, 32]}),
]  # fmt: skip

# Tried in order; the first that works is where later trials start.
FALLBACKS = [
    {},
    {"options": {"attention_config": {"backend": "TRITON_ATTN"}}},
    {"options": {"attention_config": {"backend": "TRITON_ATTN"}},
     "env": {"VLLM_USE_V2_MODEL_RUNNER": "1"}},
    {"options": {"attention_config": {"backend": "FLEX_ATTENTION"}, "moe_backend": "auto"}},
]


def merged(trial, fallback):
    both = dict(trial)
    for key in ("options", "env"):
        both[key] = {**trial.get(key, {}), **fallback.get(key, {})}
    return both


# --- in the child -----------------------------------------------------------------------------


def check_ops():
    """The compiled kernels that the bf16 path calls, each against torch."""
    import torch
    import vllm._custom_ops as ops

    import vllm.platforms

    print("platform", vllm.platforms.current_platform)
    torch.manual_seed(0)
    x = torch.randn(64, 256, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(256, device="cuda", dtype=torch.bfloat16)
    out = torch.empty_like(x)
    ops.rms_norm(out, x, w, 1e-6)
    want = torch.nn.functional.rms_norm(x.float(), (256,), w.float(), 1e-6)
    torch.testing.assert_close(out.float(), want, atol=5e-2, rtol=5e-2)

    logits = torch.randn(64, 16, device="cuda", dtype=torch.float32)
    weights = torch.empty(64, 4, device="cuda", dtype=torch.float32)
    ids = torch.empty(64, 4, device="cuda", dtype=torch.int32)
    rows = torch.empty(64, 4, device="cuda", dtype=torch.int32)
    ops.topk_softmax(weights, ids, rows, logits, True)
    assert torch.equal(ids.long().sort().values, logits.topk(4).indices.sort().values)

    from vllm.model_executor.layers.fused_moe.router.base_router import (
        eplb_map_to_physical_and_record,
    )

    table = torch.full((16, 1024), -1, device="cuda")
    table[:, 0] = torch.arange(16, device="cuda")
    table[:8, 1] = torch.arange(16, 24, device="cuda")
    count = 1 + (torch.arange(16, device="cuda") < 8).long()
    load = torch.zeros(24, dtype=torch.int32, device="cuda")
    on = torch.ones((), dtype=torch.bool, device="cuda")
    mapped = eplb_map_to_physical_and_record(ids, load, table, count, on)
    row = torch.arange(64, device="cuda").unsqueeze(1)
    want = table[ids.long(), (row * 2654435769 & 0xFFFFFFFF) % count[ids.long()]]
    assert torch.equal(mapped.long(), want) and load.sum() == ids.numel()

    from vllm.vllm_flash_attn import flash_attn_varlen_func

    q = torch.randn(32, 4, 64, device="cuda", dtype=torch.bfloat16)
    starts = torch.tensor([0, 32], device="cuda", dtype=torch.int32)
    try:
        got = flash_attn_varlen_func(
            q, q, q, max_seqlen_q=32, cu_seqlens_q=starts, max_seqlen_k=32, cu_seqlens_k=starts,
            causal=True, fa_version=3,
        )  # fmt: skip
        heads = q.transpose(0, 1).unsqueeze(0)
        want = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        torch.testing.assert_close(got, want.squeeze(0).transpose(0, 1), atol=3e-2, rtol=3e-2)
        flash = "FlashAttention 3 ok"
    except Exception:
        traceback.print_exc()
        flash = "FlashAttention 3 failed"
    torch.cuda.synchronize()
    return {"note": f"rms_norm, topk_softmax, EPLB mapping ok; {flash}"}


def describe(llm):
    """Which parts vLLM chose: model runner, attention and expert kernels, experts on this rank."""
    runner = engine.runner_of(llm)
    layer = engine.moe_layers(llm)[0]
    method = layer.routed_experts.quant_method
    kernel = getattr(method, "moe_kernel", None)
    experts = getattr(kernel, "fused_experts", None)
    weights = next(layer.routed_experts.parameters())
    attention = {type(m.impl).__name__ for m in runner.model.modules() if hasattr(m, "impl")}
    return " ".join([
        type(runner).__module__.removeprefix("vllm.v1.worker."), *sorted(attention),
        type(layer.router).__name__, type(method).__name__, type(experts).__name__,
        "experts", str(tuple(weights.shape)),
    ])  # fmt: skip


def run_llm(trial):
    import torch
    import vllm
    from vllm import LLM

    if "redundant" in trial:
        import one_rank

        one_rank.enable_eplb_on_one_rank(trial["redundant"])
        if "rank" in trial:
            one_rank.become_rank(trial["rank"], trial["ranks"])
    folder, shape = models.write_config(tempfile.mkdtemp(), trial["model"], trial["layers"])
    began = time.perf_counter()
    llm = LLM(**engine.options(folder, **trial["options"]))
    result = {"load_s": round(time.perf_counter() - began, 1)}
    try:
        result["note"] = describe(llm)
    except Exception:
        traceback.print_exc()
    for batch in trial["batches"]:
        result[f"tpot_ms@{batch}"] = round(engine.tpot_ms(llm, batch, shape["vocab_size"]), 3)
    result["versions"] = f"vllm {vllm.__version__} torch {torch.__version__}"
    result["gpu"] = torch.cuda.get_device_name()
    return result


def child(trial):
    kinds = {"ops": lambda _: check_ops(), "llm": run_llm}
    result = kinds[trial.get("kind", "llm")](trial)
    pathlib.Path(os.environ["METRO_TRIAL_RESULT"]).write_text(json.dumps(result))


# --- in the parent ----------------------------------------------------------------------------


def attempt(name, trial, limit, site, log):
    with tempfile.NamedTemporaryFile(suffix=".json") as answer, tempfile.TemporaryFile("w+") as talk:
        environment = {
            **os.environ, **ENVIRONMENT, **trial["env"],
            "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}",
            "VLLM_CACHE_ROOT": f"{site}/../vllm-cache",
            "METRO_TRIAL_RESULT": answer.name,
        }  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(trial)],
            stdout=talk, stderr=talk, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            status = str(process.wait(limit))
        except subprocess.TimeoutExpired:
            status = f"over {limit:.0f} s"
        finally:
            # Whatever it left running holds GPU memory that the next trial needs.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        wall = time.perf_counter() - began
        talk.seek(0)
        text = talk.read()
        log.write(f"\n===== {name}: exit {status}, {wall:.0f} s, {json.dumps(trial)}\n{text}")
        log.flush()
        answered = pathlib.Path(answer.name).read_text()
    if answered:
        return {**json.loads(answered), "wall_s": round(wall, 1)}, ""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if "Traceback" in line]
    first = lines[starts[0] : starts[0] + 60] if starts else []
    return None, "\n".join([f"exit {status}", *first[-45:], "  ...", *lines[-12:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", help="folder that unpack.py filled")
    parser.add_argument("--out", type=pathlib.Path, help="folder for start.log and start.json")
    parser.add_argument("--budget", type=float, default=540, help="seconds for everything")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(json.loads(args.child))

    deadline = time.monotonic() + args.budget
    args.out.mkdir(parents=True, exist_ok=True)
    results, first_fallback = {}, 0
    with open(args.out / "start.log", "w") as log:
        for name, limit, trial in TRIALS:
            single = trial.get("kind") == "ops"
            for index in range(0 if single else first_fallback, 1 if single else len(FALLBACKS)):
                left = deadline - time.monotonic()
                if left < 20:
                    results[name] = {"note": "not run: out of time"}
                    break
                tried = merged(trial, FALLBACKS[index])
                result, error = attempt(name, tried, min(limit, left), args.site, log)
                label = f"{name} [fallback {index}]" if index else name
                if result:
                    results[name] = {**result, "fallback": index}
                    print(f"{label}: {json.dumps(result)}", flush=True)
                    if not single:
                        first_fallback = index
                    break
                results[name] = {"note": f"FAILED: {error.splitlines()[-1][:150]}", "fallback": index}
                print(f"----- {label} FAILED: {error[-3000:]}\n-----", flush=True)
                if name != "tiny eager":
                    break  # only the first model looks for a way; later trials keep it
            (args.out / "start.json").write_text(json.dumps(results, indent=1))
            if name == "tiny eager" and "load_s" not in results[name]:
                break  # no way found: the log says more than further failures would
    print(f"\n{'trial':36} {'wall s':>7} {'load s':>7} {'TPOT ms by requests':30} note")
    for name, row in results.items():
        times = " ".join(f"{k[8:]}:{v}" for k, v in row.items() if k.startswith("tpot"))
        print(f"{name:36} {row.get('wall_s', '-'):>7} {row.get('load_s', '-'):>7} {times:30} "
              f"{row.get('note', '')}")  # fmt: skip
    shown = next((r for r in results.values() if "versions" in r), {})
    print(shown.get("versions", "no run"), shown.get("gpu", ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
