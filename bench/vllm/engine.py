# SPDX-License-Identifier: Apache-2.0
"""One vLLM engine in this process, and METRO's policies captured into its CUDA graphs one after the other.

An engine takes most of a minute to start and its graphs a few seconds, so every policy is a set of graphs of
one engine: the plugin is bound as its register() does it, the graphs are captured, and it is taken away again.
"""

import contextlib
import time

# What the plugin is told, by the name that a table shows; None is vLLM as it is.
POLICIES = {
    "stock": None,
    "home": {"decode": "home"},
    "metro": {"decode": "metro"},
    "optimal": {"decode": "optimal"},
    "cuda": {"decode": "optimal"},  # its name in ranks.py's rows
}


def options(model, **more):
    """LLM arguments of every trial; `more` wins."""
    return {
        "model": model, "load_format": "dummy", "skip_tokenizer_init": True, "tensor_parallel_size": 1,
        "max_model_len": 1024, "max_num_seqs": 64, "max_num_batched_tokens": 1024, "gpu_memory_utilization": 0.6,
        "dtype": "bfloat16", "enable_prefix_caching": False, "generation_config": "vllm", "moe_backend": "triton",
        "disable_log_stats": True, "seed": 0, **more,
    }  # fmt: skip


def runner_of(llm):
    return llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def moe_layers(llm):
    """vLLM's MoE runners in the order of the model's layers."""
    return [m for m in runner_of(llm).model.modules() if type(m).__name__.endswith("MoERunner")]


def generate_seconds(llm, requests, tokens, vocab_size):
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": [(7 * b + 3 * i) % vocab_size for i in range(8)]} for b in range(requests)]
    began = time.perf_counter()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    assert all(len(o.outputs[0].token_ids) == tokens for o in outputs)
    return time.perf_counter() - began


def tpot_ms(llm, requests, vocab_size, tokens=128, repeats=3):
    """Median of `repeats`; the difference of two lengths leaves out prefill and start-up."""
    generate_seconds(llm, requests, 16, vocab_size)
    each = []
    for _ in range(repeats):
        long = generate_seconds(llm, requests, 16 + tokens, vocab_size)
        each.append(1e3 * (long - generate_seconds(llm, requests, 16, vocab_size)) / tokens)
    return sorted(each)[len(each) // 2]


class Graphs:
    """The decode graphs of each policy; all stay captured, so that policies can be timed in turns."""

    def __init__(self, llm, num_gpus=0):
        self.num_gpus = num_gpus  # that share the replicas; 0: as vLLM says
        self.runner = runner_of(llm)
        self.wrapper = self.runner.model
        if type(self.wrapper).__name__ != "CUDAGraphWrapper":
            raise RuntimeError(f"the model is a {type(self.wrapper).__name__}, not a CUDAGraphWrapper: no FULL graphs")
        self.captured = {}
        self.alive = []  # what captured graphs read belongs to the connector that was bound

    @contextlib.contextmanager
    def plugin(self, policy):
        """METRO bound to vLLM for the time of the block; yields its connector, or None for stock."""
        if POLICIES[policy] is None:
            yield None
            return
        from metro_moe.vllm.connector import Connector
        from metro_moe.vllm.settings import Settings

        connector = Connector(Settings(**POLICIES[policy], num_gpus=self.num_gpus))
        self.alive.append(connector)
        connector.bind()
        try:
            yield connector
        finally:
            connector.unbind()

    def capture(self, policy, connector):
        """Captures all sizes anew; fails where the plugin was bound and did not serve the graphs."""
        from vllm.v1.worker.workspace import unlock_workspace

        unlock_workspace()  # graphs that are captured later may need more than those before
        self.wrapper.concrete_cudagraph_entries = {}
        self.runner.capture_model()
        self.captured[policy] = self.wrapper.concrete_cudagraph_entries
        if connector is not None:
            wanted = connector.settings.policy
            if connector.off or not connector.calls[wanted]:
                raise RuntimeError(f"{policy} was not captured: {connector.status()}")

    def use(self, policy):
        self.wrapper.concrete_cudagraph_entries = self.captured[policy]

    def graph(self, num_tokens):
        """The captured graph of this many rows."""
        entries = self.wrapper.concrete_cudagraph_entries
        return next(entry.cudagraph for key, entry in entries.items() if key.num_tokens == num_tokens)
