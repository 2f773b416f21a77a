# SPDX-License-Identifier: Apache-2.0
"""Where METRO meets vLLM: the one function through which every MoE layer maps its experts.

Before all ranks agreed, whatever is not understood and any exception of ours leaves vLLM's own mapping in place,
said once. Afterwards no rank changes its mind alone: tokens would be computed twice or not at all, so it ends.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib
import itertools
from typing import Any

import torch

from metro_moe.vllm import agreement, capture, checksum, exchange, op, phase, seams
from metro_moe.vllm.gather import Gather, to_logical
from metro_moe.vllm.graphs import Graphs
from metro_moe.vllm.layers import layer_of
from metro_moe.vllm.models import Model, address_of, resolve
from metro_moe.vllm.recorder import Recorder
from metro_moe.vllm.seams import logger
from metro_moe.vllm.settings import Settings

_starts = itertools.count()  # the same on all ranks, so that no answer is taken for another's
CHOSEN = ("metro", "optimal")  # for a batch, which every rank must then see


class Connector:
    """Binds to vLLM, decides per batch, and falls back."""

    def __init__(self, settings: Settings, is_spread: Any = lambda: False):
        self.settings = settings
        self.is_spread = is_spread
        self.off = ""
        self.calls: collections.Counter[str] = collections.Counter()
        self.fallbacks = 0
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
        self.ordered: Any = None
        self.graphs = Graphs(settings.policy)
        self.runners: list[str] = []
        self.runner = ""
        self.steps = 0
        self.op: Any = None
        self.stock: Any = None
        self.mapped: Any = None

    # -- binding

    def bind(self) -> None:
        self.check_version()
        settings = self.settings
        self.stock = stock = seams.mapping_function()
        self.op = op.map_to_physical()
        try:
            if settings.needs_router:
                self.bind_router()
            if settings.policy != "hash" or settings.prefill == "home" or settings.placement:
                from metro_moe.vllm.ordered import OrderedReplicas

                self.ordered = OrderedReplicas(settings.num_gpus)
                self.ordered.install(self.patches)
            if settings.placement == "homed":
                from metro_moe.vllm import homed

                homed.install(self.patches, lambda: bool(self.models))
            if settings.policy in (*CHOSEN, "auto"):
                self.bind_gather()
            self.watch_runners()

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
                        self.fail(error)
                if self.off:
                    self.fallbacks += 1
                return stock(topk_ids, *state)

            self.mapped = mapped
            self.bound = self.patches.set_everywhere(stock, mapped)
        except BaseException:
            self.unbind()
            raise

    def check_version(self) -> None:
        """A vLLM that METRO was not tried with is served by `home`, which needs least of it."""
        settings, version = self.settings, seams.version()
        if seams.is_known(version) or settings.any_version:
            return
        known = ", ".join(seams.KNOWN_VERSIONS)
        if settings.strict:
            raise seams.Unsupported(f"vLLM {version} was not tried, known are {known} (METRO_VLLM_STRICT=1)")
        served = {"decode": "hash" if settings.policy == "hash" else "home", "placement": "", "start": "stock"}
        self.settings = dataclasses.replace(settings, **served)
        self.graphs = Graphs(self.settings.policy)
        logger.warning(
            "metro: vLLM %s was not tried (known are %s): decode=%s; METRO_VLLM_STRICT=1 leaves it alone, "
            "METRO_VLLM_ANY_VERSION=1 serves decode=%s", version, known, self.settings.decode, settings.decode,
        )  # fmt: skip

    def bind_router(self) -> None:
        from metro_moe.vllm.cuda_backend import CudaBackend

        try:
            backend = CudaBackend(self.settings, lambda fine: agreement.all_fine(fine, seams.ep_group()))
        except (ImportError, RuntimeError) as error:
            if self.settings.policy != "auto":
                raise
            logger.warning("metro: decode=auto serves home alone: %s", error)
            return
        op.exact = self.cuda = backend
        backend.follow_commits(importlib.import_module(seams.EPLB_STATE), self.patches.set)

    def bind_gather(self) -> None:
        """Without this seam, data parallelism has the exchange."""
        gather = Gather(self.fail)
        try:
            gather.bind(self.patches)
            self.gather = gather
        except Exception as error:
            logger.debug("metro: no mapping after the gather: %s", error)

    def watch_runners(self) -> None:
        """Once vLLM's runner is loaded, and before it captures."""
        if self.runners:
            return
        self.runners = capture.watch_runners(self.patches, self.graphs.clear, self.say_graphs)
        if "V2" in self.runners:
            try:
                capture.publish_descriptors(self.patches)
            except Exception as error:
                logger.warning("metro: graphs of the V2 runner stay with vLLM's mapping: %s", error)

    def unbind(self) -> None:
        self.patches.undo()
        if self.mapped is not None:  # modules that were loaded since have ours by name
            seams.Patches().set_everywhere(self.mapped, self.stock)
        self.bound, self.runners = [], []

    def turn_off(self, why: str) -> None:
        if not self.off:
            self.off = why
            logger.warning("metro: vLLM's own mapping from here on: %s", why)

    def fail(self, error: Exception) -> None:
        """After the ranks agreed an error ends this rank; a rank that is alone, or was not asked yet, turns off."""
        if isinstance(error, seams.RanksDiffer):
            raise error
        text = f"{type(error).__name__}: {error}"
        if any(not model.is_alone for model in self.models.values()):
            raise seams.RanksDiffer(
                f"metro: this rank cannot serve decode={self.settings.decode}, to which all ranks agreed; start them "
                f"with METRO_VLLM_DECODE=hash and METRO_VLLM_PREFILL=hash: {text}"
            ) from error
        self.turn_off(text)

    def status(self) -> dict:
        models = {model.name: model.where for model in self.models.values()}
        gpus = next((model.num_gpus for model in self.models.values()), 0)
        return {"bound": self.bound, "calls": dict(self.calls), "off": self.off, "num_gpus": gpus, "models": models,
                "fallbacks": self.fallbacks, "graphs": self.graphs.served()}  # fmt: skip

    def say_graphs(self) -> None:
        for line, is_right in self.graphs.lines():
            logger.log(20 if is_right else 30, "metro: %s", line)

    def add_model(self, state: Any, parallel_config: Any, name: str) -> None:
        """A model, or a drafter, got its EPLB tables."""
        self.watch_runners()
        self.runner = seams.runner_of(seams.current_config())
        if getattr(parallel_config, "enable_elastic_ep", False):
            return self.turn_off("elastic EP is not supported")
        if getattr(parallel_config, "enable_dbo", False) or getattr(parallel_config, "num_ubatches", 0) > 1:
            return self.turn_off("microbatches (DBO) are not supported")
        taken = [other for other, _ in self.states.values()]
        unique = next(n for n in itertools.chain([name], (f"{name} {i}" for i in itertools.count(2))) if n not in taken)
        self.states[state.logical_replica_count.data_ptr()] = (unique, state)
        if self.ordered is not None:
            self.ordered.add_model(state)

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
        is_capturing = seams.is_capturing(topk_ids)
        batch = phase.describe(seams.forward_context(), capture.descriptor, is_capturing)
        policy, why = self.policy_for(model, batch, topk_ids, count, load)
        is_decode = batch.is_decode and len(topk_ids) <= self.settings.max_tokens
        if is_decode and self.recorder is not None:
            self.recorder.record(topk_ids, count, num_real)
        if is_capturing:
            self.graphs.add(model.name, policy, len(topk_ids), batch, why)
        self.calls[policy] += 1
        if policy == "hash" and not (is_decode and model.counters is not None):
            return None
        return self.serve(model, policy, is_decode, topk_ids, state)

    def policy_for(self, model, batch, topk_ids, count, load) -> tuple[str, str]:
        """(who serves this batch, why it is not who serves decode); the same on every rank that shares it."""
        settings, rows = self.settings, len(topk_ids)
        if rows > settings.max_tokens:
            return "hash", f"it has {rows} rows, max_tokens is {settings.max_tokens}"
        if not batch.is_decode:
            return settings.prefill, batch.why
        policy = settings.policy
        if policy == "auto":
            tokens = rows * (1 if model.where == "whole" else model.ranks)
            is_few = self.cuda is not None and model.where in ("whole", "gather") and tokens <= settings.auto_tokens
            policy = "optimal" if is_few and (model.where == "whole" or batch.is_shared) else "home"
        if policy in CHOSEN and model.where != "whole":
            if not batch.is_shared:
                return "hash", batch.why
            if model.where == "exchange" and not model.is_worth(rows, topk_ids.shape[1], len(count), len(load), settings):
                if "exchange" not in model.warm:
                    model.warm.add("exchange")
                    logger.warning("metro: %d rows a rank: the exchange costs more than it saves, vLLM's own mapping", rows)
                return "hash", "the exchange costs more than it saves"
        return policy, ""

    def serve(self, model, policy, is_decode, topk_ids, state) -> Any:
        load, table, count, record, num_real = state
        layer = layer_of(count)
        counters = model.counters if is_decode else None
        chosen = model.checksum_of(layer) if is_decode and model.where == "whole" else None
        if counters is not None:
            counters.begin(layer)
        if policy == "hash":
            out = self.stock(topk_ids, *state)
        elif policy == "home":
            out = self.stock(topk_ids, load, table, model.ones, record, num_real)
        elif model.where == "gather":
            self.gather.pending = (len(topk_ids), functools.partial(self.choose_gathered, model, policy, state))
            return self.op(topk_ids, *state, None, "home", model.num_gpus)
        else:
            batch = None
            if model.where == "exchange":
                batch = exchange.exchange(topk_ids, num_real, len(count), seams.ep_group())
            out, chosen = self.op(topk_ids, *state, batch, policy, model.num_gpus, chosen), None
        if chosen is not None:
            checksum.add(chosen, out, num_real)
        if counters is not None:
            counters.count(layer, topk_ids, out, table, count, num_real, len(load))
        return out

    def choose_gathered(self, model, policy, state, physical_ids) -> Any:
        """The replicas of the whole batch, whose rows each rank mapped to homes."""
        _, table, count, _, _ = state
        layer = layer_of(count)
        if model.counters is not None:
            model.counters.begin(layer)  # again: the gather is not the mapping's time
        ids = to_logical(physical_ids, model.state.physical_to_logical_map[layer])
        state = (model.unused_load, table, count, model.no_record, None)
        out = self.op(ids, *state, None, policy, model.num_gpus, model.checksum_of(layer))
        if model.counters is not None:
            model.counters.count(layer, ids, out, table, count, None, len(model.unused_load))
        return out

    def start(self, topk_ids, load, table, count, record, num_real) -> Model | None:
        """Resolves a model, compiles for it, and asks the other ranks. Not to be captured."""
        if seams.is_capturing(topk_ids):
            raise seams.Unsupported("the first batch of a model was captured")
        name, state = self.states.get(address_of(count), (f"model {len(self.models)}", None))
        model: Any = None
        try:
            model = resolve(self.settings, load, count, record, state, self.gather is not None, name)
            if self.settings.check_steps and model.ranks_of_one_batch > 1:
                model.checksum = torch.zeros(1, dtype=torch.int64, device=load.device)
            self.prepare(model, topk_ids[: self.settings.max_tokens], load, table, count, record, num_real)
            mine = f"{seams.version()}:{model.fingerprint(self.settings)}"
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
        self.say_start(model, len(count), len(load))
        return model

    def say_start(self, model, num_experts, num_physical) -> None:
        if self.rank:
            return
        settings = self.settings
        homes = ""
        if self.ordered is not None and self.ordered.most_homes:
            start = "spread" if self.is_spread() else "vLLM's own"
            homes = f", at most {self.ordered.most_homes} homes a GPU (start: {start})"
        logger.info(
            "metro: %s: decode=%s, prefill=%s; batch seen %s; %d GPUs with %d replicas of %d experts%s; vLLM %s, runner %s",
            model.name, settings.policy, settings.prefill, model.seen, model.num_gpus, num_physical, num_experts, homes,
            seams.version(), self.runner or "unknown",
        )  # fmt: skip

    def prepare(self, model, topk_ids, load, table, count, record, num_real) -> None:
        """Compiles and allocates while nothing is captured: vLLM's warm-up does not look like decode."""
        key = (topk_ids.dtype, topk_ids.shape[1], num_real is None)
        if key in model.warm or seams.is_capturing(topk_ids):
            return
        model.warm.add(key)
        if self.recorder is not None:
            self.recorder.start(topk_ids, count)
        policies = {self.settings.policy, self.settings.prefill} - {"hash"}
        if "auto" in policies:
            policies = (policies | {"home"} | ({"optimal"} if self.cuda is not None else set())) - {"auto"}
        out = topk_ids
        for policy in sorted(policies):
            out = self.try_out(model, policy, topk_ids, table, count, num_real)
        if model.counters is not None:
            model.counters.begin(layer_of(count))
            model.counters.count(layer_of(count), topk_ids, out, table, count, num_real, len(load))
            with torch.inference_mode():
                model.counters.rows.zero_()
        model.clear_check(out, num_real)

    def try_out(self, model, policy, topk_ids, table, count, num_real) -> Any:
        """What `policy` would run for this batch, its load thrown away."""
        state = (model.unused_load, table, count, model.no_record, num_real)
        if policy == "home":
            return self.stock(topk_ids, model.unused_load, table, model.ones, model.no_record, num_real)
        if model.where == "whole":
            return self.op(topk_ids, *state, None, policy, model.num_gpus)
        if model.where == "exchange":
            words = exchange.active_words(topk_ids, num_real, len(count))
            return self.op(topk_ids, *state, exchange.active_ids(words, len(count)), policy, model.num_gpus)
        out = self.op(topk_ids, *state, None, "home", model.num_gpus)
        if model.where == "gather":
            self.choose_gathered(model, policy, state, out)
        return out

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
        self.compare_ranks()

    def compare_ranks(self) -> None:
        """Every check_steps steps, which all ranks count alike: whether they chose alike."""
        self.steps += 1
        if not self.settings.check_steps or self.steps % self.settings.check_steps or self.off:
            return
        for model in self.models.values():
            if model.checksum is not None and not agreement.all_equal(model.checksum.cpu(), seams.ep_group()):
                raise seams.RanksDiffer(
                    f"metro: ranks chose different replicas for {model.name}: their top-k or their maps differ, so tokens "
                    "are computed twice or not at all, in vLLM's own mapping too; METRO_VLLM_CHECK_STEPS=0 does not look"
                )

    def sources(self) -> dict[str, list[Any]]:
        """The device counters of each model, for the publisher."""
        found = {}
        for address, model in self.models.items():
            if model.counters is not None:
                faults = self.cuda.faults_at(address) if self.cuda is not None else None
                found[model.name] = [model.counters.rows] + ([] if faults is None else [faults])
        return found
