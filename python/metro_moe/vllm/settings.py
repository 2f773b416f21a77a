# SPDX-License-Identifier: Apache-2.0
"""What a user can set, by environment: METRO_VLLM_<NAME>. The table is in docs/vllm.md."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from metro_moe.vllm.replica_choice import MAX_GPUS, POLICIES

BACKENDS = ("triton", "cuda")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How each phase is served; the default changes nothing."""

    decode: str = "hash"
    """hash (vLLM's own) | home | metro, for uniform batches of 1 + draft tokens a request."""
    prefill: str = "hash"
    """hash | home, for every other batch."""
    backend: str = "triton"
    """triton | cuda: who computes `metro`. cuda is metro_moe.cuda.Router, whose answer is optimal."""
    max_tokens: int = 1024
    """Batches with more rows stay with vLLM."""
    num_gpus: int = 0
    """GPUs that share the replicas; 0 asks vLLM."""
    record: str = ""
    """Folder for traces of the logical ids of decode batches; empty is off."""
    record_tokens: int = 65536
    """The last so many tokens are kept."""

    def __post_init__(self):
        for name, value, known in (
            ("DECODE", self.decode, POLICIES),
            ("PREFILL", self.prefill, POLICIES[:2]),
            ("BACKEND", self.backend, BACKENDS),
        ):
            if value not in known:
                raise ValueError(f"METRO_VLLM_{name} is {value!r}, must be one of {', '.join(known)}")
        for name, value, low, high in (
            ("MAX_TOKENS", self.max_tokens, 1, 65536),
            ("NUM_GPUS", self.num_gpus, 0, MAX_GPUS),
            ("RECORD_TOKENS", self.record_tokens, self.max_tokens if self.record else 0, 1 << 24),
        ):
            if not low <= value <= high:
                raise ValueError(f"METRO_VLLM_{name} is {value}, must be {low}..{high}")

    @property
    def is_on(self) -> bool:
        return bool(self.record) or (self.decode, self.prefill) != ("hash", "hash")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        values = {}
        known = {f"METRO_VLLM_{field.name.upper()}": field for field in dataclasses.fields(cls)}
        for name, text in environment.items():
            if not name.startswith("METRO_VLLM_"):
                continue
            if name not in known:
                raise ValueError(f"{name} is no setting, must be one of {', '.join(known)}")
            field = known[name]
            if isinstance(field.default, int):
                try:
                    values[field.name] = int(text)
                except ValueError:
                    raise ValueError(f"{name} is {text!r}, must be an integer") from None
            else:
                values[field.name] = text
        return cls(**values)
