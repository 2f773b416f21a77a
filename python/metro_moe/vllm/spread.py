# SPDX-License-Identifier: Apache-2.0
"""A start whose redundant experts are spread over GPUs, so that it helps before the first rearrangement.

vLLM starts with slots 0..E-1 as they are and the redundant ones behind, all on the last GPUs. Its weight loader and
its EPLB state ask one function for that, so both get the spread start, or neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from metro_moe.vllm import seams
from metro_moe.vllm.seams import logger


def spread_start(num_experts: int, num_redundant: int, num_gpus: int) -> list[int]:
    """The expert of each slot at the start: homes and redundant experts spread over GPUs alike.

    vLLM starts with slots 0..E-1 as they are and the redundant ones behind, all on the last GPUs. Here GPU g has
    its share of homes, in order, then copies of experts whose home is elsewhere, those with the fewest copies first.
    """
    slots = (num_experts + num_redundant) // num_gpus
    homes = [num_experts * (g + 1) // num_gpus - num_experts * g // num_gpus for g in range(num_gpus)]
    if (num_experts + num_redundant) % num_gpus or max(homes) > slots:
        raise ValueError(f"{num_experts} + {num_redundant} slots do not go over {num_gpus} GPUs")
    copies = [1] * num_experts
    first, result = 0, []
    for number in homes:
        mine = list(range(first, first + number))
        first += number
        while len(mine) < slots:
            expert = min(range(num_experts), key=lambda expert: (expert in mine, copies[expert], expert))
            copies[expert] += 1
            mine.append(expert)
        result += mine
    return result


class Start:
    """What weights are loaded by, which the maps must then say too, whatever is set later.

    Decided once an engine for each number of experts, when a loader first asks. vLLM's MoE layers load by the map what
    has a tensor an expert, and put the rows of a fused tensor into the slots of the same numbers; `load` sees which.
    """

    def __init__(self) -> None:
        self.loaded: dict[tuple[int, int], list[int] | None] = {}  # None: vLLM's own
        self.sees_layers = False  # whether `load` is bound
        self.is_adding = False  # whether EplbState.add_model asks, and not a loader
        self.was_added = False
        self.is_spread = False
        self.layer = ""  # how the layer that asks now is loaded: by expert, fused, or nothing

    def build(self, stock: Callable[[int, int], Any], num_experts: int, num_redundant: int, num_gpus: int) -> Any:
        """The expert of each slot; `num_gpus` is 0 where vLLM's own start is wanted.

        Loaders that compute `slot % experts` for themselves, and dummy weights, do not ask: then the EPLB state
        gets vLLM's own start.
        """
        key = (num_experts, num_redundant)
        if self.is_adding:
            self.was_added = True
        else:
            if self.was_added:  # another engine of this process
                self.loaded.clear()
                self.was_added = False
            if key not in self.loaded:
                why = "" if num_gpus > 1 and num_redundant else "it is not wanted"
                self.loaded[key] = None
                if not why:
                    why = self.why_not(seams.current_config())
                    if why:
                        logger.warning("metro: redundant experts start where vLLM puts them, not spread: %s", why)
                if not why:
                    self.loaded[key] = spread_start(num_experts, num_redundant, num_gpus)
            elif self.loaded[key] is not None and self.layer == "fused":
                self.refuse()
        slots = self.loaded.get(key)
        self.is_spread = slots is not None
        return stock(num_experts, num_redundant) if slots is None else list(slots)

    def why_not(self, config: Any) -> str:
        """Why the weights that are loaded now would not go where the map says; '' where they do."""
        if not self.sees_layers:
            return "this vLLM does not tell how its layers load"
        if self.layer == "fused":
            return "the checkpoint has fused experts"
        parallel = getattr(config, "parallel_config", None)
        if config is None or getattr(parallel, "enable_elastic_ep", False):
            return "elastic EP" if config is not None else "the configuration is not known"
        if "mega_moe" in str(getattr(getattr(config, "kernel_config", None), "moe_backend", "")):
            return "MegaMoE loads by itself"
        names = architectures(config)
        if self.layer == "by expert" or (names and set(names) <= LOAD_BY_THE_MAP):
            return ""
        return f"{', '.join(names) or 'the model'} is not known to load by the map"

    def load(self, stock: Callable[[Any, Any], Any], layer: Any, weights: Iterable[tuple[str, Any]]) -> Iterator[Any]:
        """As `stock`, RoutedExperts.load_weights, which asks for the map before it takes the first tensor."""
        rest = iter(weights)
        first = next(rest, None)
        if first is None:
            yield from stock(layer, [])
            return
        self.layer = "fused" if is_fused(*first) else "by expert"

        def watched() -> Iterator[tuple[str, Any]]:
            asked, self.layer = self.is_spread, ""
            for name, tensor in itertools.chain([first], rest):
                if asked and is_fused(name, tensor):
                    self.refuse()
                yield name, tensor

        try:
            yield from stock(layer, watched())
        finally:
            self.layer = ""

    def refuse(self) -> None:
        raise seams.RanksDiffer(
            "metro: fused experts behind experts that were loaded spread: set METRO_VLLM_START=stock"
        )


def is_fused(name: str, tensor: Any) -> bool:
    """Whether vLLM takes a tensor of a MoE layer for all experts at once."""
    return tensor.dim() == 3 and not any(part.isdecimal() for part in name.split("."))


# Their own loops load one tensor an expert, by the map. Loops of others may not: DeepSeek-V4's and Kimi-K3's have
# vLLM's start written into them. Models that let their layers load need not stand here.
LOAD_BY_THE_MAP = {
    "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "DeepSeekMTPModel",
    "Glm4MoeForCausalLM", "Glm4MoeMTPModel",
}  # fmt: skip


def architectures(config: Any) -> list[str]:
    return getattr(getattr(config.model_config, "hf_config", None), "architectures", None) or []
