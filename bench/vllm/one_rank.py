# SPDX-License-Identifier: Apache-2.0
"""One GPU as EP rank r of N in a real vLLM 0.25.1: for timing, never for serving.

vLLM refuses EPLB on one rank and sizes each rank's experts from its process group. These changes, which
live in the harness and not in the plugin, let one process hold the P / N slots of one rank while
routing is decided over all P slots. Tokens for other ranks' slots are skipped by the expert map, and
nothing is sent: communication has to be added from a table, and results are tagged `emulated`.
"""

import dataclasses


class _Group:
    """What the model files ask of the expert-parallel group."""

    def __init__(self, size, rank):
        self.world_size = size
        self.rank_in_group = rank
        self.device_group = self
        self.cpu_group = self

    def size(self):
        return self.world_size

    def rank(self):
        return self.rank_in_group


def enable_eplb_on_one_rank(num_redundant_experts, step_interval=10**9):
    """Turns EPLB on after vLLM's own validation, which insists on two ranks."""
    from vllm.engine.arg_utils import EngineArgs

    create = EngineArgs.create_engine_config

    def create_engine_config(self, *args, **kwargs):
        config = create(self, *args, **kwargs)
        parallel = config.parallel_config
        parallel.enable_expert_parallel = True
        parallel.enable_eplb = True
        parallel.eplb_config = dataclasses.replace(
            parallel.eplb_config,
            num_redundant_experts=num_redundant_experts,
            use_async=False,
            window_size=1,
            step_interval=step_interval,
            communicator="torch_gloo",
        )
        return config

    EngineArgs.create_engine_config = create_engine_config


def become_rank(rank, size, model_modules=("qwen3_moe", "deepseek_v2")):
    """Makes every MoE layer built from now on rank `rank` of `size`, with no collective."""
    import importlib

    from vllm.distributed.eplb.eplb_state import EplbState
    from vllm.model_executor.layers.fused_moe.config import FusedMoEParallelConfig

    make = FusedMoEParallelConfig.make

    def make_as_rank(*args, **kwargs):
        return dataclasses.replace(
            make(*args, **kwargs), use_ep=True, tp_size=1, tp_rank=0, ep_size=size, ep_rank=rank
        )

    FusedMoEParallelConfig.make = staticmethod(make_as_rank)
    group = _Group(size, rank)
    for name in model_modules:
        module = importlib.import_module(f"vllm.model_executor.models.{name}")
        module.get_ep_group = lambda: group
    # Weights of other ranks are not here, so a rearrangement has nothing to move.
    EplbState.rearrange = lambda self, *args, **kwargs: None
