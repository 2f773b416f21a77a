# SPDX-License-Identifier: Apache-2.0
"""A start whose redundant experts are spread over GPUs, so that it helps before the first rearrangement.

vLLM starts with slots 0..E-1 as they are and the redundant ones behind, all on the last GPUs. Its weight loader and
its EPLB state ask one function for that, so both get the spread start, or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metro_moe.vllm import seams


def spread_start(num_experts: int, num_redundant: int, num_gpus: int) -> list[int]:
    """The expert of each slot at the start: homes and redundant experts spread over GPUs alike.

    vLLM starts with slots 0..E-1 as they are and the redundant ones behind, all on the last GPUs. Here GPU g has
    its share of homes, in order, then copies of experts whose home is elsewhere where there are such.
    """
    slots = (num_experts + num_redundant) // num_gpus
    homes = [num_experts * (g + 1) // num_gpus - num_experts * g // num_gpus for g in range(num_gpus)]
    if (num_experts + num_redundant) % num_gpus or max(homes) > slots:
        raise ValueError(f"{num_experts} + {num_redundant} slots do not go over {num_gpus} GPUs")
    waiting = [i % num_experts for i in range(num_redundant)]
    first, result = 0, []
    for number in homes:
        mine = list(range(first, first + number))
        first += number
        while len(mine) < slots:
            other = next((i for i, expert in enumerate(waiting) if expert not in mine), 0)
            mine.append(waiting.pop(other))
        result += mine
    return result


class Start:
    """What weights were loaded by, which the maps must then say too, whatever is set later."""

    def __init__(self) -> None:
        self.loaded: dict[tuple[int, int], list[int]] = {}
        self.is_adding = False  # whether EplbState.add_model asks, and not a loader
        self.is_spread = False

    def build(self, stock: Callable[[int, int], Any], num_experts: int, num_redundant: int, num_gpus: int) -> Any:
        """The expert of each slot; `num_gpus` is 0 where vLLM's own start is wanted.

        Loaders that compute `slot % experts` for themselves, and dummy weights, do not ask: then the EPLB state
        gets vLLM's own start.
        """
        key = (num_experts, num_redundant)
        if not self.is_adding:
            self.loaded.pop(key, None)
            if num_gpus > 1 and num_redundant and not computes_for_itself(seams.current_config()):
                self.loaded[key] = spread_start(num_experts, num_redundant, num_gpus)
        self.is_spread = key in self.loaded
        return list(self.loaded[key]) if self.is_spread else stock(num_experts, num_redundant)


def computes_for_itself(config: Any) -> bool:
    """Whether this model's loader has the start written into it, or its slots come and go (elastic EP)."""
    if config is None or getattr(config.parallel_config, "enable_elastic_ep", False):
        return True
    if "mega_moe" in str(getattr(getattr(config, "kernel_config", None), "moe_backend", "")):
        return True
    names = getattr(getattr(config.model_config, "hf_config", None), "architectures", None) or []
    return any(part in str(name).lower() for name in names for part in ("deepseekv4", "kimik3"))
