# SPDX-License-Identifier: Apache-2.0
"""One entry for each model that has EPLB tables, drafters included: how its batch is spread, and what it owns."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from metro_moe.vllm import checksum as checksums
from metro_moe.vllm import exchange, seams
from metro_moe.vllm.counters import Counters
from metro_moe.vllm.layers import all_layers, num_layers
from metro_moe.vllm.settings import Settings


@dataclasses.dataclass
class Model:
    """`where` the whole batch of a layer is seen: at the mapping (`whole`), after the `gather`, by `exchange`, `never`."""

    name: str
    num_gpus: int
    where: str
    ranks: int = 1
    state: Any = None
    """vLLM's EplbModelState, where add_model was seen."""
    expert_us: float = 0.0
    is_alone: bool = True
    """Whether no other rank maps the same batch."""
    unused_load: Any = None
    no_record: Any = None
    counters: Counters | None = None
    ones: Any = None
    """int64 [experts] of ones, which stays: replica counts under which vLLM's mapping serves the first replica."""
    ranks_of_one_batch: int = 1
    """Ranks that map the same batch, so that they must choose alike."""
    checksum: Any = None
    """int64 [1]: of what the last layer chose; None where no other rank maps the same batch."""
    num_layers: int = 1
    warm: set[Any] = dataclasses.field(default_factory=set)

    @property
    def seen(self) -> str:
        """`where`, for people."""
        return {"whole": "at the mapping", "gather": "after the gather", "exchange": "by an exchange",
                "never": "in part (home needs no more)"}[self.where]  # fmt: skip

    def checksum_of(self, layer: int) -> Any:
        """What this layer's choices are added to, for ranks to compare; of most layers none."""
        return self.checksum if layer == self.num_layers - 1 else None

    def clear_check(self, replica_ids: Any, num_real: Any) -> None:
        """Runs it once outside of graph capture, and forgets that."""
        if self.checksum is not None:
            checksums.add(self.checksum, replica_ids, num_real)
            with torch.inference_mode():
                self.checksum.zero_()

    def is_worth(self, rows: int, topk: int, num_experts: int, num_physical: int, settings: Settings) -> bool:
        """Whether an exchange pays; from what is the same on all ranks."""
        if settings.exchange != "auto":
            return settings.exchange == "always"
        tokens = rows * self.ranks
        gain = exchange.modelled_gain_us(tokens, topk, num_experts, num_physical, self.num_gpus, self.expert_us)
        return gain > settings.exchange_us

    def fingerprint(self, settings: Settings) -> str:
        """What all ranks must have alike; folders and the like are each rank's own."""
        same = ("policy", "prefill", "auto_tokens", "max_tokens", "exchange", "exchange_us", "placement", "check_steps")
        values = [str(getattr(settings, name)) for name in same]
        return ":".join([self.where, str(self.num_gpus), str(self.ranks), f"{self.expert_us:.3f}", *values])


def address_of(count: Any) -> int:
    """What names a model: where its table of all layers lies."""
    return all_layers(count, num_layers(count)).data_ptr()


def resolve(settings: Settings, load: Any, count: Any, record: Any, state: Any, gathers: bool, name: str) -> Model:
    """Reads how the model is spread over GPUs, at its first batch. Raises Unsupported."""
    layer = seams.layer_that_holds(count)
    config = layer.moe_config
    parallel = config.moe_parallel_config
    if getattr(config, "is_lora_enabled", False):
        raise seams.Unsupported("LoRA is not supported")
    if getattr(layer, "enable_dbo", False):
        raise seams.Unsupported("microbatches (DBO) are not supported")
    if getattr(layer, "do_naive_dispatch_combine", False) or getattr(parallel, "pcp_size", 1) > 1:
        raise seams.Unsupported("the batch is gathered before the mapping (naive dispatch, PCP), its padding is not known")
    spread = getattr(parallel, "is_sequence_parallel", False)
    where, expert_us = "whole", 0.0
    if parallel.dp_size > 1 or spread:
        where = "never"
        if settings.policy in ("metro", "optimal", "auto"):
            if seams.dispatch_of(layer) == seams.GATHER_CLASS and gathers and state is not None:
                where = "gather"
            elif settings.policy == "optimal":
                raise seams.Unsupported("optimal needs the whole batch on every rank, which this dispatch does not give; "
                                        "use home, or metro with its exchange")  # fmt: skip
            elif settings.policy == "metro" and settings.exchange != "never":
                where, expert_us = "exchange", exchange.expert_microseconds(layer)
            elif settings.policy == "metro":
                raise seams.Unsupported("metro needs the whole batch on every rank, which DP and SP do not give; use home")
    num_gpus = settings.num_gpus or parallel.ep_size
    counters = Counters(num_layers(count), num_gpus, load.device) if settings.metrics else None
    return Model(
        name, num_gpus, where, parallel.ep_size if spread else parallel.dp_size, state, expert_us, True,
        torch.zeros_like(load), torch.zeros_like(record), counters,
        torch.ones(count.numel(), dtype=count.dtype, device=count.device),
        parallel.ep_size if where in ("whole", "gather") else 1, num_layers=num_layers(count),
    )  # fmt: skip
