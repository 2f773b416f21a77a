# SPDX-License-Identifier: Apache-2.0
"""Places where vLLM tells what it is about to serve; they change nothing by themselves.

A worker's configuration is first known when a model gets its EPLB tables, the server's when it makes its stat
loggers. A hook that does not fit this vLLM is left out; what needs it then stays off.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

from metro_moe.vllm import seams
from metro_moe.vllm.seams import logger


def install(plugin: Any, patches: seams.Patches) -> None:
    """`plugin` has configure(vllm_config), add_model(...), after_step(...) and loggers_for(vllm_config)."""
    for put in (_eplb_state, _start, _layers, _stat_loggers, _prometheus):
        try:
            put(plugin, patches)
        except Exception as error:
            logger.debug("metro: %s left out: %s", put.__name__, error)


_said: set[str] = set()


def guarded(call: Any, *arguments: Any) -> Any:
    """What we do beside vLLM's work does not end it, unless ranks differ, and is said once."""
    try:
        return call(*arguments)
    except seams.RanksDiffer:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if text not in _said:
            _said.add(text)
            logger.warning("metro: %s", text)
        return None


def _eplb_state(plugin: Any, patches: seams.Patches) -> None:
    owner = importlib.import_module(seams.EPLB_STATE).EplbState
    seams.check_parameters(owner.add_model, ["model", "model_config"])
    seams.check_parameters(owner.prepare_forward, ["model_config"])
    seams.check_parameters(owner.step, [])

    def make_add_model(stock):
        def add_model(this, model, model_config, *rest, **more):
            guarded(lambda: plugin.configure(seams.current_config()))
            plugin.start.is_adding = True
            try:
                result = stock(this, model, model_config, *rest, **more)
            finally:
                plugin.start.is_adding = False
            guarded(lambda: plugin.add_model(this, model_config))
            return result

        return add_model

    seen: set[int] = set()

    def make_prepare_forward(stock):
        def prepare_forward(this, model_config, *rest, **more):
            if id(model_config) not in seen and plugin.is_bound():
                seen.add(id(model_config))
                guarded(plugin.mark_prepared, this, model_config)
            return stock(this, model_config, *rest, **more)

        return prepare_forward

    def make_step(stock):
        def step(this, *rest, **more):
            result = stock(this, *rest, **more)
            if plugin.is_bound():
                guarded(plugin.after_step, this)
            return result

        return step

    patches.wrap(owner, "add_model", make_add_model)
    patches.wrap(owner, "prepare_forward", make_prepare_forward)
    patches.wrap(owner, "step", make_step)


def _start(plugin: Any, patches: seams.Patches) -> None:
    """Asked first by the weight loader, so a worker's configuration is known by then."""
    owner = importlib.import_module(seams.EPLB_STATE).EplbState
    stock = getattr(owner, seams.EPLB_START)
    seams.check_parameters(stock, ["num_routed_experts", "num_redundant_experts"])

    @functools.wraps(stock)
    def build(num_routed_experts, num_redundant_experts):
        guarded(lambda: plugin.configure(seams.current_config()))
        num_gpus = guarded(plugin.gpus_of_spread_start) or 0
        return plugin.start.build(stock, num_routed_experts, num_redundant_experts, num_gpus)

    patches.set(owner, seams.EPLB_START, staticmethod(build))


def _layers(plugin: Any, patches: seams.Patches) -> None:
    """How a MoE layer loads: its tensors tell whether they go by the map."""
    owner = getattr(importlib.import_module(seams.EXPERTS_MODULE), seams.EXPERTS_CLASS)
    seams.check_parameters(owner.load_weights, ["weights"])

    def make(stock):
        def load_weights(this, weights):
            yield from plugin.start.load(stock, this, weights)

        return load_weights

    patches.wrap(owner, "load_weights", make)
    plugin.start.sees_layers = True


def _in_server() -> bool:
    return "vllm.engine.arg_utils" in sys.modules  # workers have no use for what follows


def _stat_loggers(plugin: Any, patches: seams.Patches) -> None:
    if not _in_server():
        return
    owner = importlib.import_module(seams.LOGGERS).StatLoggerManager
    seams.check_parameters(owner.__init__, ["vllm_config"])

    def make(stock):
        def __init__(this, vllm_config, *rest, **more):
            stock(this, vllm_config, *rest, **more)
            this.stat_loggers.extend(guarded(plugin.loggers_for, vllm_config) or [])

        return __init__

    patches.wrap(owner, "__init__", make)


def _prometheus(plugin: Any, patches: seams.Patches) -> None:
    """Of several API servers each makes a registry for a scrape; ours must be in it."""
    if not _in_server():
        return
    module = importlib.import_module(seams.PROMETHEUS)
    stock = module.get_prometheus_registry

    def get_prometheus_registry():
        registry = stock()
        guarded(plugin.join_registry, registry)
        return registry

    patches.set_everywhere(stock, get_prometheus_registry)
