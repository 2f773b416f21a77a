# SPDX-License-Identifier: Apache-2.0
"""SGLang's own modules, without a GPU or a model: tools/test_sglang.sh installs them. Skipped without."""

import importlib

import numpy as np
import pytest

try:
    import torch
    from sglang.srt.eplb import expert_location
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
    from sglang.srt.model_executor.forward_context import ForwardContext, forward_context
    from sglang.srt.runtime_context import get_context, get_exec, get_parallel

    topk_module = importlib.import_module("sglang.srt.layers.moe.topk")
except ImportError as error:
    print(f"tests/python/sglang is left out: {error} (tools/test_sglang.sh)")
    collect_ignore_glob = ["test_*.py"]

import metro_moe.sglang

LAYERS, EXPERTS, REPLICAS, GPUS = 12, 16, 24, 4


class Model:
    """What SGLang asks a model's class for, in the place of its registry."""

    @staticmethod
    def get_model_config_for_expert_location(hf_config):
        return expert_location.ModelConfigForExpertLocation(num_layers=LAYERS, num_logical_experts=EXPERTS)


class ModelConfig:
    hf_config = None


class Server:
    """A published configuration and placement, as one rank of a server has them."""

    def map(self, topk_ids, layer, *, is_draft=False):
        _, info = topk_module.resolve_routing_inputs(layer_id=layer, is_draft=is_draft)
        return topk_module.topk_ids_logical_to_physical(topk_ids, info)

    def metadata(self, rows, rank=0):
        return expert_location.ExpertLocationMetadata.init_by_mapping(ModelConfig(), rows, moe_ep_rank=rank)

    def place(self, rows, rank=0):
        made = self.metadata(rows, rank)
        expert_location.set_global_expert_location_metadata(made, allow_overwrite=True)
        return made

    def step(self, mode=None, *, rows=8, real=None, extend=False):
        """A running step, of decode unless `mode` says otherwise: SGLang's own batch in its own context."""
        batch = ForwardBatch.__new__(ForwardBatch)
        batch.__dict__.update(
            forward_mode=ForwardMode.DECODE if mode is None else mode, is_extend_in_batch=extend,
            input_ids=torch.zeros(rows, dtype=torch.int64), batch_size=rows,
            attn_cp_metadata=None, num_token_non_padded=None if real is None else torch.tensor(real, dtype=torch.int32),
        )  # fmt: skip
        return forward_context(ForwardContext(attn_backend=None), forward_batch=batch)

    def exchange(self, backend):
        return get_exec().moe.override(moe_a2a_backend=backend)


def random_rows(seed):
    rng = np.random.default_rng(seed)
    extra = rng.integers(0, EXPERTS, (LAYERS, REPLICAS - EXPERTS))
    rows = np.concatenate([np.tile(np.arange(EXPERTS), (LAYERS, 1)), extra], axis=1)
    return rng.permuted(rows, axis=1)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("sglang.srt.model_loader.get_model_architecture", lambda config: (Model, "Model"))
    published = get_context().override_server_args(
        ep_size=GPUS, tp_size=GPUS, ep_num_redundant_experts=REPLICAS - EXPERTS, ep_dispatch_algorithm="dynamic",
        moe_a2a_backend="none", device="cpu", chunked_prefill_size=64,
    )  # fmt: skip
    published.install()
    before = expert_location.get_global_expert_location_metadata()
    with get_parallel().override(attn_dp_size=1, attn_cp_size=1):
        yield Server()
    metro_moe.sglang.uninstall()
    expert_location.set_global_expert_location_metadata(before, allow_overwrite=True)
    published.restore()

