# SPDX-License-Identifier: Apache-2.0
"""Greedy tokens of a tiny random checkpoint under every policy, which must be vLLM's own, and under a wrong
mapping, which must not.

Requests come 13 at a time and end two steps apart, so graphs of 16 and of 4 rows hold 13, 12, ..., 2 real ones,
and the replicas are shared by 8 GPUs that are not there: a batch of one request activates 4 experts and leaves 4
GPUs or more empty.
"""

import math

from trials import report

AT_ONCE, STEPS = 13, 32  # requests of one call, and the steps that it takes
NEVER = 10**9  # steps between rearrangements
GPUS = {"METRO_VLLM_NUM_GPUS": "8"}
HOME, METRO = {"METRO_VLLM_DECODE": "home", **GPUS}, {"METRO_VLLM_DECODE": "metro", **GPUS}
CUDA = {**METRO, "METRO_VLLM_BACKEND": "cuda"}
# name, environment, what of it
TRIALS = [
    ("stock", {}, {}),
    ("home", HOME, {}),
    ("metro", METRO, {}),
    ("cuda", CUDA, {}),
    ("metro wrong", METRO, {"wrong": True}),
    ("home rearranged", HOME, {"moves": True}),
    ("metro rearranged", METRO, {"moves": True}),
    ("cuda rearranged", CUDA, {"moves": True}),
]


def num_calls(requests):
    return math.ceil(requests / AT_ONCE)


def step_interval(requests, rearrangements):
    """Steps between rearrangements, so that there are as many as were asked for."""
    interval = num_calls(requests) * STEPS // (rearrangements + 1)
    if interval < 2:
        raise ValueError(f"{requests} requests are too few for {rearrangements} rearrangements")
    return interval


def prompts_of(call):
    return [{"prompt_token_ids": [(31 * call + 7 * b + 3 * i) % 1021 + 2 for i in range(8)]} for b in range(AT_ONCE)]


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
    from vllm import LLM, SamplingParams

    import engine
    import metro_moe.vllm
    import one_rank

    one_rank.enable_eplb_on_one_rank(8, trial["step_interval"])
    if trial.get("wrong"):
        from metro_moe.vllm import replica_choice

        right = replica_choice.map_to_physical_and_record
        replica_choice.map_to_physical_and_record = lambda *a, **k: (right(*a, **k) + 1) % 24
    moves = count_rearrangements()
    llm = LLM(**engine.options(
        trial["checkpoint"], load_format="auto", max_model_len=256, max_num_seqs=16, max_num_batched_tokens=256,
        gpu_memory_utilization=0.08, kv_cache_memory_bytes=256 << 20,
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 4, 16]},
    ))  # fmt: skip
    tokens = []
    sampling = [SamplingParams(temperature=0.0, max_tokens=8 + 2 * b, ignore_eos=True, detokenize=False)
                for b in range(AT_ONCE)]  # fmt: skip
    for call in range(num_calls(trial["requests"])):
        tokens += [list(o.outputs[0].token_ids) for o in llm.generate(prompts_of(call), sampling, use_tqdm=False)]
    report({"tokens": tokens, "rearranged": moves.count(False), "plugin": metro_moe.vllm.status()})


def judge(name, row, stock, rearrangements):
    """`row` without its tokens, and how it compares to stock's."""
    if "tokens" not in row or "tokens" not in stock:
        return {"trial": f"tokens {name}", "verdict": "FAILED", "failed": row.get("failed", "no stock tokens")}
    ours, want, plugin = row["tokens"], stock["tokens"], row["plugin"]
    equal = sum(a == b for a, b in zip(ours, want))
    good = len(ours) == len(want) and (equal < len(want) if "wrong" in name else equal == len(want))
    mapped = {policy: calls for policy, calls in plugin["calls"].items() if policy != "hash"}
    if name != "stock" and (not mapped or plugin["off"]):
        good = False
    if "rearranged" in name and row["rearranged"] < rearrangements:
        good = False
    return {
        "trial": f"tokens {name}", "verdict": "ok" if good else "WRONG", "equal": equal, "requests": len(want),
        "rearranged": row["rearranged"], "calls_in_python": mapped, "off": plugin["off"],
    }  # fmt: skip
