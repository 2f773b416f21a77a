# SPDX-License-Identifier: Apache-2.0
"""Where METRO meets vLLM: the one function through which every MoE layer maps its experts.

Whatever is not understood, and any exception of ours, leaves vLLM's own mapping in place, said once.
"""

from __future__ import annotations

import collections
import functools
import importlib
import itertools
from typing import Any

import torch

from metro_moe.vllm import agreement, exchange, op, phase, seams
from metro_moe.vllm.gather import Gather, to_logical
from metro_moe.vllm.layers import layer_of
from metro_moe.vllm.models import Model, address_of, resolve
from metro_moe.vllm.plain import map_plain
from metro_moe.vllm.recorder import Recorder
from metro_moe.vllm.seams import logger
from metro_moe.vllm.settings import Settings


_starts = itertools.count()  # the same on all ranks, so that no answer is taken for another's


class Connector:
    """Binds to vLLM, decides per batch, and falls back."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.off = ""
        self.calls: collections.Counter[str] = collections.Counter()
        self.fallbacks = 0
        self.is_slow = False
        self.rank = 0
        self.publisher: Any = None
        self.models: dict[int, Model] = {}
        self.refused: set[int] = set()  # by the address of their tables, as all that follow
        self.states: dict[int, tuple[str, Any]] = {}  # vLLM's
        self.prepared: set[int] = set()  # those whose padding vLLM tells before a batch
        self.patches = seams.Patches()
        self.bound: list[str] = []
        self.recorder = Recorder(settings.record, settings.record_tokens, settings.max_tokens) if settings.record else None
        self.gather: Any = None
        self.cuda: Any = None
        self.op: Any = None
        self.stock: Any = None
        self.mapped: Any = None

    # -- binding

    def bind(self) -> None:
        settings = self.settings
        seams.check_version(bool(settings.any_version))
        self.stock = stock = seams.mapping_function()
        self.op = op.map_to_physical()
        try:
            if settings.backend == "cuda":
                from metro_moe.vllm.cuda_backend import CudaBackend

                op.exact = self.cuda = CudaBackend(settings, lambda fine: agreement.all_fine(fine, seams.ep_group()))
                self.cuda.follow_commits(importlib.import_module(seams.EPLB_STATE), self.patches.set)
            if settings.placement == "homed":
                from metro_moe.vllm import homed

                homed.install(self.patches, lambda: bool(self.models))
            if settings.decode == "metro":
                self.bind_gather()

            @functools.wraps(stock)
            def mapped(topk_ids, expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled,
                       num_unpadded_tokens=None):  # fmt: skip
                state = (expert_load_view, logical_to_physical_map, logical_replica_count, record_enabled,
                         num_unpadded_tokens)  # fmt: skip
                if not self.off:
                    try:
                        replica_ids = self.map(topk_ids, *state)
                        if replica_ids is not None:
                            return replica_ids
                    except Exception as error:
                        self.turn_off(f"{type(error).__name__}: {error}")
                if self.off:
                    self.fallbacks += 1
                return stock(topk_ids, *state)

            self.mapped = mapped
            self.bound = self.patches.set_everywhere(stock, mapped)
        except BaseException:
            self.unbind()
            raise

    def bind_gather(self) -> None:
        """Without this seam, data parallelism has the exchange."""
        gather = Gather(self.turn_off)
        try:
            gather.bind(self.patches)
            self.gather = gather
        except Exception as error:
            logger.debug("metro: no mapping after the gather: %s", error)

    def unbind(self) -> None:
        self.patches.undo()
        if self.mapped is not None:  # modules that were loaded since have ours by name
            seams.Patches().set_everywhere(self.mapped, self.stock)
        self.bound = []

    def turn_off(self, why: str) -> None:
        if not self.off:
            self.off = why
            logger.warning("metro: vLLM's own mapping from here on: %s", why)

    def status(self) -> dict:
        models = {model.name: model.where for model in self.models.values()}
        gpus = next((model.num_gpus for model in self.models.values()), 0)
        return {"bound": self.bound, "calls": dict(self.calls), "off": self.off, "num_gpus": gpus, "models": models,
                "fallbacks": self.fallbacks}  # fmt: skip

    def add_model(self, state: Any, parallel_config: Any, name: str) -> None:
        """A model, or a drafter, got its EPLB tables."""
        if getattr(parallel_config, "enable_elastic_ep", False):
            return self.turn_off("elastic EP is not supported")
        if getattr(parallel_config, "enable_dbo", False) or getattr(parallel_config, "num_ubatches", 0) > 1:
            return self.turn_off("microbatches (DBO) are not supported")
        taken = [other for other, _ in self.states.values()]
        unique = next(n for n in itertools.chain([name], (f"{name} {i}" for i in itertools.count(2))) if n not in taken)
        self.states[state.logical_replica_count.data_ptr()] = (unique, state)

    # -- one batch of one layer

    def map(self, topk_ids, load, table, count, record, num_real) -> Any:
        """The physical ids, or None for vLLM's own."""
        if self.gather is not None:
            self.gather.pending = None
        if topk_ids.ndim != 2 or not len(topk_ids):
            return None
        address = address_of(count)
        model = self.models.get(address)
        if model is None and address not in self.refused:
            model = self.start(topk_ids, load, table, count, record, num_real)
        if model is None:
            self.fallbacks += not self.off
            return None
        state = (load, table, count, record, num_real)
        self.prepare(model, topk_ids[: self.settings.max_tokens], *state)
        policy, rows = "hash", len(topk_ids)
        is_decode = rows <= self.settings.max_tokens and phase.is_decode(seams.forward_context())
        if rows <= self.settings.max_tokens:
            policy = self.settings.decode if is_decode else self.settings.prefill
            if is_decode and self.recorder is not None:
                self.recorder.record(topk_ids, count, num_real)
        if policy == "metro" and model.where != "whole":
            policy = self.for_a_part(model, rows, topk_ids.shape[1], len(count), len(load))
        self.calls[policy] += 1
        if policy == "hash" and not (is_decode and model.counters is not None):
            return None
        return self.serve(model, policy, is_decode, topk_ids, state)

    def serve(self, model, policy, is_decode, topk_ids, state) -> Any:
        load, table, count, record, num_real = state
        counters = model.counters if is_decode else None
        if counters is not None:
            counters.begin(layer_of(count))
        if policy == "hash":
            out = self.stock(topk_ids, *state)
        elif policy == "metro" and model.where == "gather":
            self.gather.pending = (len(topk_ids), functools.partial(self.choose_gathered, model, state))
            return self.op(topk_ids, *state, None, "home", model.num_gpus)
        else:
            batch = None
            if policy == "metro" and model.where == "exchange":
                batch = exchange.exchange(topk_ids, num_real, len(count), seams.ep_group())
            out = self.apply(model, policy, topk_ids, state, batch)
        if counters is not None:
            counters.count(layer_of(count), topk_ids, out, table, count, num_real, len(load))
        return out

    def apply(self, model, policy, topk_ids, state, batch) -> Any:
        """The op; where it fails and other ranks go on with this batch, its answer from the host."""
        solver = self.solver(policy)
        try:
            return self.op(topk_ids, *state, batch, solver, model.num_gpus)
        except Exception as error:
            if model.is_alone or model.where != "whole" or solver == "optimal" or seams.is_capturing(topk_ids):
                raise
            self.fallbacks += 1
            if not self.is_slow:
                self.is_slow = True
                logger.warning("metro: on the host, slowly, since other ranks go on: %s: %s", type(error).__name__, error)
            load, table, count, record, num_real = state
            return map_plain(topk_ids, load, table, count, record, num_real, policy, model.num_gpus)

    def choose_gathered(self, model, state, physical_ids) -> Any:
        """The replicas of the whole batch, whose rows each rank mapped to homes."""
        _, table, count, _, _ = state
        layer = layer_of(count)
        if model.counters is not None:
            model.counters.begin(layer)  # again: the gather is not the mapping's time
        ids = to_logical(physical_ids, model.state.physical_to_logical_map[layer])
        state = (model.unused_load, table, count, model.no_record, None)
        out = self.op(ids, *state, None, self.solver("metro"), model.num_gpus)
        if model.counters is not None:
            model.counters.count(layer, ids, out, table, count, None, len(model.unused_load))
        return out

    def solver(self, policy: str) -> str:
        return "optimal" if policy == "metro" and self.cuda is not None else policy

    def for_a_part(self, model, rows, topk, num_experts, num_physical) -> str:
        """`metro` where a rank sees a part of the batch; every rank must come to the same answer."""
        if not phase.is_shared(seams.forward_context()):
            return "hash"
        if model.where == "exchange" and not model.is_worth(rows, topk, num_experts, num_physical, self.settings):
            if "exchange" not in model.warm:
                model.warm.add("exchange")
                logger.warning("metro: %d rows a rank: the exchange costs more than it saves, vLLM's own mapping", rows)
            return "hash"
        return "metro"

    def start(self, topk_ids, load, table, count, record, num_real) -> Model | None:
        """Resolves a model, compiles for it, and asks the other ranks. Not to be captured."""
        if seams.is_capturing(topk_ids):
            raise seams.Unsupported("the first batch of a model was captured")
        name, state = self.states.get(address_of(count), (f"model {len(self.models)}", None))
        model: Any = None
        try:
            model = resolve(self.settings, load, count, record, state, self.gather is not None, name)
            self.prepare(model, topk_ids[: self.settings.max_tokens], load, table, count, record, num_real)
            mine = model.fingerprint(self.settings)
        except Exception as error:
            mine = f"off: {error}" if isinstance(error, seams.Unsupported) else f"off: {type(error).__name__}: {error}"
        group = seams.ep_group()
        self.rank = group.rank_in_group
        ranks = list(getattr(group, "ranks", range(group.world_size)))
        why = agreement.agree(mine, f"model-{next(_starts)}", ranks, group.rank_in_group)
        if mine.startswith("off") or why:
            why = mine.removeprefix("off: ") if mine.startswith("off") else why
            if not self.models:
                self.turn_off(why)
            else:  # a drafter; the model goes on
                self.refused.add(address_of(count))
                logger.warning("metro: vLLM's own mapping for %s: %s", name, why)
            return None
        model.is_alone = group.world_size == 1
        self.models[address_of(count)] = model
        return model

    def prepare(self, model, topk_ids, load, table, count, record, num_real) -> None:
        """Compiles and allocates while nothing is captured: vLLM's warm-up does not look like decode."""
        key = (topk_ids.dtype, topk_ids.shape[1], num_real is None)
        if key in model.warm or seams.is_capturing(topk_ids):
            return
        model.warm.add(key)
        if self.recorder is not None:
            self.recorder.start(topk_ids, count)
        state = (model.unused_load, table, count, model.no_record, num_real)
        out = topk_ids
        for policy in sorted({self.settings.decode, self.settings.prefill} - {"hash"}):
            if policy == "metro" and model.where != "whole":
                words = exchange.active_words(topk_ids, num_real, len(count))
                self.op(topk_ids, *state, exchange.active_ids(words, len(count)), "metro", model.num_gpus)
                out = self.op(topk_ids, *state, None, "home", model.num_gpus)
                if model.where == "gather":
                    self.choose_gathered(model, state, out)
            else:
                out = self.op(topk_ids, *state, None, self.solver(policy), model.num_gpus)
        if model.counters is not None:
            model.counters.begin(layer_of(count))
            model.counters.count(layer_of(count), topk_ids, out, table, count, num_real, len(load))
            with torch.inference_mode():
                model.counters.rows.zero_()

    # -- after a step

    def after_step(self, state: Any) -> None:
        """On every rank after every forward, before the next one is prepared."""
        for model in getattr(state, "model_states", {}).values():
            address = model.logical_replica_count.data_ptr()
            known = self.models.get(address)
            if known is not None and known.where in ("gather", "exchange") and address in self.prepared:
                # vLLM sets this before a real batch and not before an idle rank's: without it all rows are padding.
                for tensor in model.num_unpadded_tokens_tensors or []:
                    tensor.fill_(-1)
        if self.publisher is not None:
            self.publisher.tick()

    def sources(self) -> dict[str, list[Any]]:
        """The device counters of each model, for the publisher."""
        found = {}
        for address, model in self.models.items():
            if model.counters is not None:
                faults = self.cuda.faults_at(address) if self.cuda is not None else None
                found[model.name] = [model.counters.rows] + ([] if faults is None else [faults])
        return found
