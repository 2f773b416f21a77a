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
    """What weights were loaded by, which the maps must then say too, whatever is set later."""

    def __init__(self) -> None:
        self.loaded: dict[tuple[int, int], list[int]] = {}
        self.is_adding = False  # whether EplbState.add_model asks, and not a loader
        self.is_spread = False

    def build(self, stock: Callable[[int, int], Any], num_experts: int, num_redundant: int, num_gpus: int) -> Any:
        """The expert of each slot; `num_gpus` is 0 where vLLM's own start is wanted.

        Loaders that compute `slot % experts` for themselves, and dummy weights, do not ask: then the EPLB state
        gets vLLM's own start, and so do models that are not known to load by the map.
        """
        key = (num_experts, num_redundant)
        if not self.is_adding:
            self.loaded.pop(key, None)
            if num_gpus > 1 and num_redundant and loads_by_the_map(seams.current_config()):
                self.loaded[key] = spread_start(num_experts, num_redundant, num_gpus)
        self.is_spread = key in self.loaded
        return list(self.loaded[key]) if self.is_spread else stock(num_experts, num_redundant)


# They load one tensor an expert, by the map. Others may not: a fused checkpoint's row goes to the slot of the same
# number, and DeepSeek-V4's and Kimi-K3's loaders have vLLM's start written into them.
LOAD_BY_THE_MAP = {
    "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM",
    "DeepseekV32ForCausalLM", "Glm4MoeForCausalLM",
}  # fmt: skip


def loads_by_the_map(config: Any) -> bool:
    """Whether this model's weights go where the map says, and its slots stay (elastic EP)."""
    if config is None or getattr(config.parallel_config, "enable_elastic_ep", False):
        return False
    if "mega_moe" in str(getattr(getattr(config, "kernel_config", None), "moe_backend", "")):
        return False
    names = getattr(getattr(config.model_config, "hf_config", None), "architectures", None) or []
    return bool(names) and set(names) <= LOAD_BY_THE_MAP
