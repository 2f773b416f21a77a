# SPDX-License-Identifier: Apache-2.0
"""The plugin in a real vLLM on one GPU: `python plugin.py --site /tmp/site --out $OUT`

Three parts, in child processes: the mapping alone in a CUDA graph, checked against plain Python; greedy tokens
of a tiny random checkpoint under every policy, which must be the same, and under a wrong mapping, which must
not; TPOT of Qwen3-30B-A3B's shape, 8 layers, 64 redundant experts on one rank. One table last.
"""

import argparse
import json
import lzma
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import start

ROOT = pathlib.Path(__file__).parents[2]
SLOW = 10**9  # steps between rearrangements: never

HOME, METRO = {"METRO_VLLM_DECODE": "home"}, {"METRO_VLLM_DECODE": "metro"}
CUDA = {**METRO, "METRO_VLLM_BACKEND": "cuda"}
# name, environment, what of it
TOKENS = [
    ("stock", {}, {}),
    ("home", HOME, {}),
    ("metro", METRO, {}),
    ("metro cuda", CUDA, {}),
    ("metro wrong", METRO, {"wrong": True}),
    ("metro rearranged", METRO, {"step_interval": 16}),
    ("metro cuda rearranged", CUDA, {"step_interval": 16}),
]
TIMES = [("stock", {}), ("home", HOME), ("metro", METRO), ("metro cuda", CUDA)]


# --- in the children ---------------------------------------------------------------------------


def write_checkpoint(folder):
    """Tiny random weights, so that replicas of one expert are equal (dummy weights differ)."""
    import torch
    from safetensors.torch import save_file

    import models

    shape, layers = models.TINY, 2
    models.qwen3_moe(folder, shape, layers)
    hidden, heads, kv, dim = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]
    inner, vocab = shape["moe_intermediate_size"], shape["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def add(name, *size):
        scale = 1.0 if len(size) == 1 else size[1] ** -0.5
        value = torch.randn(size, generator=generator) * scale
        weights[f"{name}.weight"] = (torch.ones(size) if len(size) == 1 else value).to(torch.bfloat16)

    add("model.embed_tokens", vocab, hidden)
    add("model.norm", hidden)
    add("lm_head", vocab, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            add(f"{at}.{norm}", hidden)
        for part, rows in (("q", heads), ("k", kv), ("v", kv)):
            add(f"{at}.self_attn.{part}_proj", rows * dim, hidden)
        add(f"{at}.self_attn.o_proj", hidden, heads * dim)
        add(f"{at}.self_attn.q_norm", dim)
        add(f"{at}.self_attn.k_norm", dim)
        add(f"{at}.mlp.gate", shape["num_experts"], hidden)
        for expert in range(shape["num_experts"]):
            for part in ("gate", "up"):
                add(f"{at}.mlp.experts.{expert}.{part}_proj", inner, hidden)
            add(f"{at}.mlp.experts.{expert}.down_proj", hidden, inner)
    save_file(weights, pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})


def check_mapping(trial):
    """us a call inside a CUDA graph, each policy against choice_reference.py first."""
    import torch

    sys.path.insert(0, str(ROOT / "tests/python/vllm"))
    import choice_reference
    from vllm.model_executor.layers.fused_moe.router.base_router import eplb_map_to_physical_and_record

    from metro_moe.vllm.replica_choice import map_to_physical_and_record

    write_checkpoint(trial["checkpoint"])
    num_experts, num_redundant, num_gpus, rows, topk = 128, 64, 8, 32, 8
    generator = torch.Generator().manual_seed(0)
    slots = [*range(num_experts), *torch.randperm(num_experts, generator=generator)[:num_redundant].tolist()]
    slots = [slots[i] for i in torch.randperm(len(slots), generator=generator).tolist()]
    table, count = choice_reference.tables(slots, num_experts, 1024)
    ids = torch.stack([torch.randperm(num_experts, generator=generator)[:topk] for _ in range(rows)]).int()
    real, on = torch.tensor(29, dtype=torch.int32), torch.tensor(True)
    load = torch.zeros(len(slots), dtype=torch.int32)
    device = [tensor.cuda() for tensor in (ids, load, table, count, on, real)]

    def ours(policy):
        return lambda: map_to_physical_and_record(*device, policy=policy, num_gpus=num_gpus)

    calls = {"stock": lambda: eplb_map_to_physical_and_record(*device)}
    calls |= {policy: ours(policy) for policy in ("hash", "home", "metro")}
    result = {}
    try:
        from metro_moe.vllm.cuda_backend import CudaBackend
        from metro_moe.vllm.settings import Settings

        backend = CudaBackend(Settings(decode="metro", backend="cuda"))
        ids_, load_, table_, count_, on_, real_ = device
        calls["metro cuda"] = lambda: backend.map(ids_, load_, table_, count_, on_, real_, num_gpus)
    except Exception:
        traceback.print_exc()
    for name, call in calls.items():
        try:
            device[1].zero_()
            got = call().cpu()
            if name == "metro cuda":
                assert torch.equal(torch.tensor(slots, dtype=torch.int32)[got[:29]], ids[:29])
                want_load = torch.bincount(got[:29].flatten(), minlength=len(slots))
            else:
                policy = "hash" if name == "stock" else name
                want, want_load = choice_reference.choose(ids, table, count, policy, num_gpus, 29)
                assert torch.equal(got, want), f"{name} differs from the reference"
            assert torch.equal(device[1].cpu().long(), want_load.long()), f"{name}: other loads"
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                call()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(100):
                    call()
            graph.replay()
            times = []
            for _ in range(7):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                graph.replay()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end) * 10)
            result[name] = {"us": round(sorted(times)[3], 2),
                            "max_activated": choice_reference.max_activated(got[:29], len(slots), num_gpus)}  # fmt: skip
        except Exception as error:
            traceback.print_exc()
            result[name] = {"failed": str(error)[:200]}
    return {"mapping": result, "gpu": torch.cuda.get_device_name()}


def count_rearrangements():
    from vllm.distributed.eplb.eplb_state import EplbState

    rearrange, seen = EplbState.rearrange, []

    def counted(self, *args, **kwargs):
        result = rearrange(self, *args, **kwargs)
        seen.append(kwargs.get("is_profile", False))
        return result

    EplbState.rearrange = counted
    return seen


def make_tokens(trial):
    """Token ids of 130 greedy requests, in batches that shrink, so that graphs hold padded rows."""
    from vllm import LLM, SamplingParams

    import metro_moe.vllm
    import one_rank

    one_rank.enable_eplb_on_one_rank(8, trial.get("step_interval", SLOW))
    if trial.get("wrong"):
        from metro_moe.vllm import replica_choice

        right = replica_choice.map_to_physical_and_record
        replica_choice.map_to_physical_and_record = lambda *a, **k: (right(*a, **k) + 1) % 24
    moves = count_rearrangements()
    llm = LLM(
        model=trial["checkpoint"], skip_tokenizer_init=True, max_model_len=256, max_num_seqs=16,
        max_num_batched_tokens=256, gpu_memory_utilization=0.08, kv_cache_memory_bytes=256 << 20, dtype="bfloat16",
        enable_prefix_caching=False, generation_config="vllm", moe_backend="triton", disable_log_stats=True, seed=0,
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 4, 16]},
    )  # fmt: skip
    tokens = []
    for call in range(10):
        prompts = [{"prompt_token_ids": [(31 * call + 7 * b + 3 * i) % 1021 + 2 for i in range(8)]} for b in range(13)]
        sampling = [SamplingParams(temperature=0.0, max_tokens=8 + 2 * b, ignore_eos=True, detokenize=False)
                    for b in range(13)]  # fmt: skip
        tokens += [list(o.outputs[0].token_ids) for o in llm.generate(prompts, sampling, use_tqdm=False)]
    return {"tokens": tokens, "rearranged": moves.count(False), "plugin": metro_moe.vllm.status()}


def measure(trial):
    import metro_moe.vllm

    result = start.run_llm(trial)
    return {**result, "plugin": metro_moe.vllm.status()}


KINDS = {"mapping": check_mapping, "tokens": make_tokens, "time": measure}


# --- in the parent -----------------------------------------------------------------------------


def make_package(folder, extension):
    """metro_moe as it would be installed: entry point and, where it was given, the compiled extension."""
    folder.mkdir(parents=True)
    package = folder / "metro_moe"
    if extension is not None:
        shutil.copytree(ROOT / "python/metro_moe", package)
        opened = lzma.open(extension) if extension.suffix == ".xz" else open(extension, "rb")
        with opened as source, open(package / extension.name.removesuffix(".xz"), "wb") as target:
            shutil.copyfileobj(source, target)
    else:  # the plugin alone needs none of the rest
        package.mkdir()
        (package / "__init__.py").write_text("")
        shutil.copytree(ROOT / "python/metro_moe/vllm", package / "vllm")
    info = folder / "metro_moe-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metro-moe\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nmetro = metro_moe.vllm:register\n")


class Child:
    def __init__(self, name, trial, environment, args):
        self.name, self.answer = name, args.out / f"{trial['kind']}-{name.replace(' ', '-')}.json"
        self.log = open(self.answer.with_suffix(".log"), "w")
        path = [args.package, args.site, str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, **start.ENVIRONMENT, **trial.get("env", {}), **environment, "PYTHONPATH": ":".join(path),
            "VLLM_CACHE_ROOT": f"{args.site}/../vllm-cache", "METRO_TRIAL_RESULT": str(self.answer),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(trial)], stdout=self.log, stderr=self.log,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def result(self, seconds):
        began = time.monotonic()
        try:
            status = self.process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            status = "out of time"
        try:  # what it left running holds GPU memory
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
        print(f"{self.answer.stem}: {status}, {time.monotonic() - began:.0f} s", flush=True)
        if self.answer.exists():
            return json.loads(self.answer.read_text())
        tail = self.answer.with_suffix(".log").read_text().splitlines()[-40:]
        print("\n".join(tail), flush=True)
        return {"failed": f"{status}: {tail[-1][:120] if tail else ''}"}


def judge(name, result, stock):
    """One line on the tokens of a run against stock's."""
    if "failed" in result or "tokens" not in stock:
        return f"FAILED {result.get('failed', 'no stock tokens')}"
    ours, want = result["tokens"], stock["tokens"]
    equal = sum(a == b for a, b in zip(ours, want))
    good = equal < len(want) if name == "metro wrong" else equal == len(want)
    mapped = {k: v for k, v in result["plugin"]["calls"].items() if k != "hash"}
    if name != "stock" and (not mapped or result["plugin"]["off"]):
        good = False
    return (f"{'ok' if good else 'WRONG'}: {equal} of {len(want)} requests equal, {result['rearranged']} rearrangements, "
            f"calls in Python {mapped} {result['plugin']['off']}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", help="folder that unpack.py filled")
    parser.add_argument("--out", type=pathlib.Path, help="folder for logs and results")
    parser.add_argument("--extension", type=pathlib.Path, help="compiled _metro of metro_moe (or .xz), for the cuda backend")
    parser.add_argument("--budget", type=float, default=235, help="seconds for everything")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        trial = json.loads(args.child)
        result = KINDS[trial["kind"]](trial)
        pathlib.Path(os.environ["METRO_TRIAL_RESULT"]).write_text(json.dumps(result))
        return 0

    deadline = time.monotonic() + args.budget
    args.out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp())
    args.package, checkpoint = str(folder / "package"), str(folder / "tiny")
    extension = args.extension if args.extension and args.extension.exists() else None
    make_package(folder / "package", extension)
    left = lambda: deadline - time.monotonic()  # noqa: E731
    rows = []

    mapping = Child("all", {"kind": "mapping", "checkpoint": checkpoint}, {}, args).result(min(70, left()))
    for name, figures in mapping.get("mapping", {"all": mapping}).items():
        rows.append((f"mapping {name}", json.dumps(figures)))

    chosen = [t for t in TOKENS if extension or "cuda" not in t[0]]
    children = {n: Child(n, {"kind": "tokens", "checkpoint": checkpoint, **more}, env, args) for n, env, more in chosen}
    until = time.monotonic() + min(100, left())
    tokens = {name: child.result(until - time.monotonic()) for name, child in children.items()}
    rows += [(f"tokens {name}", judge(name, result, tokens["stock"])) for name, result in tokens.items()]

    trial = {"kind": "time", "model": "30b", "layers": 8, "options": start.GRAPHS, "env": start.SKEW,
             "batches": [8, 32], "redundant": 64}  # fmt: skip
    for name, env in TIMES:
        if "cuda" in name and not extension:
            continue
        if left() < 25:
            rows.append((f"TPOT {name}", "not run: out of time"))
            continue
        result = Child(name, trial, env, args).result(min(75, left()))
        figures = {k: v for k, v in result.items() if k.startswith("tpot") or k in ("failed", "plugin")}
        rows.append((f"TPOT {name}", json.dumps(figures)))

    text = "\n".join(f"{name:30} {value}" for name, value in rows)
    (args.out / "plugin.txt").write_text(text + "\n")
    print(f"\n{text}\n{mapping.get('gpu', '')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
