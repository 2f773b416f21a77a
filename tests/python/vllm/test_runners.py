# SPDX-License-Identifier: Apache-2.0
"""What a captured graph serves, by vLLM's own V1 and V2 runners' code: on the CPU, with graphs that only run once.

Skipped where vLLM is not installed.
"""

import contextlib
import importlib
import inspect
import logging
import sys
import types

import pytest
import torch
from engine import Layers, context, needs_interpreter, served, stand_in, vllm_modules  # noqa: F401

from metro_moe import vllm as plugin
from metro_moe.vllm import capture, phase, seams

NUM_EXPERTS, NUM_GPUS = 16, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]


@pytest.fixture
def manager(vllm_modules, monkeypatch):  # noqa: F811
    """vLLM's graph manager of the V2 runner, its CUDA calls left out; and how its graphs are described."""
    module = importlib.import_module(seams.GRAPH_MANAGER_MODULE)
    importlib.import_module(seams.RUNNERS["V2"])
    modes = importlib.import_module("vllm.config").CUDAGraphMode
    nothing = contextlib.nullcontext
    monkeypatch.setattr(module, "graph_capture", lambda **more: nothing())
    monkeypatch.setattr(module, "is_global_first_rank", lambda: False)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "graph", lambda *a, **more: nothing())
    if hasattr(module, "capture_pool"):
        monkeypatch.setattr(module, "capture_pool", lambda *a, **more: nothing())
        monkeypatch.setattr(module, "current_stream", lambda: None)
    made = object.__new__(getattr(module, seams.GRAPH_MANAGER))
    made.__dict__.update(device=None, pool=None, graphs={}, ubatch_runner=None, use_breakable_cg=False, vllm_config=None,
                         _max_full_descs_to_capture=None, _capture_mem_samples=None)  # fmt: skip

    def describe(mode, tokens, **more):
        return module.BatchExecutionDescriptor(cg_mode=getattr(modes, mode), num_tokens=tokens, num_reqs=4, **more)

    def captured(descs, forward):
        """Captures by vLLM's own loop; 0.25 wants the attention state too."""
        made.graphs, made._capture_descs = {}, {}
        for desc in descs:
            made._capture_descs.setdefault(desc.cg_mode, []).append(desc)
        returns_state = "attn_states" in inspect.unwrap(module.CudaGraphManager.capture).__code__.co_varnames

        def create(desc, warmup):
            run = lambda mode: forward(desc, mode)  # noqa: E731
            return (run, None) if returns_state else run

        made.capture(create)
        return made.graphs

    return types.SimpleNamespace(describe=describe, captured=captured)


@pytest.fixture
def serve(vllm_modules, monkeypatch):  # noqa: F811
    def serve(forward, **settings):
        group = types.SimpleNamespace(world_size=1, rank_in_group=0, ranks=[0])
        monkeypatch.setattr(importlib.import_module("vllm.distributed.parallel_state"), "get_ep_group", lambda: group)
        monkeypatch.setattr(importlib.import_module("vllm.forward_context"), "get_forward_context", lambda: forward)
        for name, value in settings.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
        plugin.register()
        return getattr(vllm_modules, seams.FUNCTION)

    return serve


def v2_context():
    """As the V2 runner sets it while it captures: mode NONE, no word of a uniform batch, the longest query of drafts."""
    return context(uniform=False, mode="NONE", max_query_len=4, ep_size=NUM_GPUS)


@needs_interpreter
@pytest.mark.parametrize("policy", ["home", "metro"])
def test_v2_decode_graphs_are_served_and_others_are_not(manager, serve, monkeypatch, policy):
    forward = v2_context()
    mapping = serve(forward, decode=policy)
    layers, outs = Layers(SLOTS, NUM_EXPERTS), []
    ids = torch.randint(0, NUM_EXPERTS, (6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    forward.cudagraph_runtime_mode.name = "NONE"
    layers.call(mapping, ids)  # vLLM's profile run

    def run(desc, mode):
        forward.cudagraph_runtime_mode.name = mode.name
        outs.append((desc, layers.call(mapping, ids)))

    descs = [
        manager.describe("PIECEWISE", 64),
        manager.describe("FULL", 8, uniform_token_count=1),
        manager.describe("FULL", 16, uniform_token_count=4),  # one token and three drafts
        manager.describe("FULL", 32),  # cudagraph_mode=FULL: serves prefill too
    ]
    manager.captured(descs, run)
    assert len(outs) >= 8
    for desc, out in outs:
        want = policy if desc.cg_mode.name == "FULL" and desc.uniform_token_count else "hash"
        assert torch.equal(out, served(want, ids, layers)), desc
    assert capture.descriptor is None and plugin.status()["off"] == ""


def test_what_a_descriptor_serves(manager):
    assert phase.describe(v2_context(), manager.describe("FULL", 8, uniform_token_count=4)) == phase.Batch(True, 4, True)
    assert not phase.describe(v2_context(), manager.describe("FULL", 8)).is_decode
    assert not phase.describe(v2_context(), manager.describe("PIECEWISE", 8, uniform_token_count=1)).is_decode
    more = {"max_query_len", "num_ubatches"} <= set(type(manager.describe("FULL", 8)).__dataclass_fields__)
    if more:  # 0.33: graphs of adaptive verification, and of microbatches
        assert phase.describe(v2_context(), manager.describe("FULL", 8, max_query_len=3)) == phase.Batch(True, 3, True)
        assert not phase.describe(v2_context(), manager.describe("FULL", 8, uniform_token_count=1, num_ubatches=2)).is_decode


def test_without_the_descriptor_a_captured_graph_stays():
    """0.25's cudagraph_mode=FULL captures mixed graphs with one token a request, which says nothing of replays."""
    forward = context(uniform=False, mode="NONE", max_query_len=1)
    assert phase.describe(forward).is_decode
    assert not phase.describe(forward, None, is_capturing=True).is_decode


def test_the_descriptor_is_gone_after_an_error(manager, serve):
    serve(v2_context(), decode="home")

    def run(desc, mode):
        assert capture.descriptor is desc
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        manager.captured([manager.describe("FULL", 8, uniform_token_count=1)], run)
    assert capture.descriptor is None


@pytest.mark.parametrize("uniform", [True, False])
def test_v1_says_it_in_the_forward_context(vllm_modules, uniform):  # noqa: F811
    descriptor = importlib.import_module("vllm.forward_context").BatchDescriptor(8, uniform=uniform)
    forward = context(uniform=False, mode="FULL", max_query_len=4)
    forward.batch_descriptor = descriptor
    assert phase.describe(forward) == phase.Batch(uniform, 4 if uniform else 0, uniform, phase.describe(forward).why)


@needs_interpreter
@pytest.mark.parametrize("runner", ["V1", "V2"])
def test_after_capture_one_line_says_what_was_bound_or_why_not(manager, serve, monkeypatch, caplog, runner):
    owner = importlib.import_module(seams.RUNNERS[runner]).GPUModelRunner
    forward = v2_context()
    layers, ids = Layers(SLOTS, NUM_EXPERTS), torch.tensor([[1, 2], [0, 3]])
    graphs = [manager.describe("FULL", 8, uniform_token_count=1), manager.describe("FULL", 2, uniform_token_count=1)]
    capturing = []
    mapping_of = []

    def capture_model(self, **more):
        capturing.append(True)
        if runner == "V2":
            manager.captured(graphs, lambda desc, mode: layers.call(mapping_of[0], ids))
        else:
            forward.batch_descriptor.uniform, forward.cudagraph_runtime_mode.name = True, "FULL"
            layers.call(mapping_of[0], ids)
        capturing.clear()
        return 0

    monkeypatch.setattr(owner, "capture_model", capture_model)
    mapping = serve(forward, decode="home")
    mapping_of.append(mapping)
    layers.call(mapping, ids)
    monkeypatch.setattr(seams, "is_capturing", lambda tensor: bool(capturing))
    caplog.clear()
    with caplog.at_level(logging.INFO, "vllm.metro"):
        owner.capture_model(object(), **({"profile_only": True} if runner == "V2" else {}))
        before = caplog.text
        owner.capture_model(object())
    assert "captured: home in" in caplog.text and (runner == "V1" or "captured" not in before)
    assert plugin.status()["graphs"] == {"model 0": {"home": 1}}
    caplog.clear()
    forward.batch_descriptor.uniform = False
    graphs[:] = [manager.describe("FULL", 8)]
    forward.cudagraph_runtime_mode.name = "FULL"
    monkeypatch.setattr(owner, "capture_model", owner.capture_model)
    if runner == "V2":
        owner.capture_model(object())
        assert "no captured graph is served by home: graphs of mode FULL serve prefill too" in caplog.text


def test_a_runner_without_the_seam_is_said(monkeypatch, caplog):
    stand_in(monkeypatch, version="0.34.0")
    monkeypatch.setenv("METRO_VLLM_DECODE", "home")
    runner = types.ModuleType(seams.RUNNERS["V2"])
    runner.GPUModelRunner = type("GPUModelRunner", (), {"capture_model": lambda self: 0})
    monkeypatch.setitem(sys.modules, seams.RUNNERS["V2"], runner)
    monkeypatch.setitem(sys.modules, seams.GRAPH_MANAGER_MODULE, None)
    plugin.register()
    assert "graphs of the V2 runner stay with vLLM's mapping" in caplog.text
