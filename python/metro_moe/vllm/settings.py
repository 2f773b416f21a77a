# SPDX-License-Identifier: Apache-2.0
"""What a user can set: METRO_VLLM_<NAME>, or {"metro": {"<name>": ...}} in vLLM's additional_config.

The environment wins. The table is in docs/vllm.md.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from metro_moe.vllm.replica_choice import MAX_GPUS, POLICIES

PREFIX = "METRO_VLLM_"
CHOICES = {
    "decode": (*POLICIES, "optimal", "auto"),  # the kernels', the router's, and one of these by size
    "prefill": POLICIES[:2],
    "backend": ("triton", "cuda"),
    "exchange": ("auto", "always", "never"),
    "placement": ("", "homed"),
    "start": ("spread", "stock"),
}
RANGES = {
    "auto_tokens": (0, 65536),
    "max_tokens": (1, 65536),
    "num_gpus": (0, MAX_GPUS),
    "record_tokens": (0, 1 << 24),
    "exchange_us": (0, 1_000_000),
    "check_steps": (0, 1 << 30),
    "metrics": (0, 86400),
    "strict": (0, 1),
    "any_version": (0, 1),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How each phase is served; the default changes nothing."""

    decode: str = "hash"
    """hash (vLLM's own) | home | optimal | auto | metro, for uniform batches of 1 + draft tokens a request."""
    prefill: str = "hash"
    """hash | home, for every other batch."""
    backend: str = "triton"
    """triton | cuda: `metro` with cuda is another name of `optimal`."""
    auto_tokens: int = 16
    """`auto`: batches of so many tokens (of all ranks) and fewer are served by optimal, others by home."""
    max_tokens: int = 1024
    """Batches with more rows stay with vLLM."""
    num_gpus: int = 0
    """GPUs that share the replicas; 0 asks vLLM."""
    exchange: str = "auto"
    """auto | always | never: whether ranks that see a part of the batch exchange what is active."""
    exchange_us: int = 25
    """What an exchange takes, microseconds a layer, for `auto`."""
    placement: str = ""
    """homed: what vLLM's rearrangement places; empty is vLLM's own."""
    start: str = "spread"
    """spread | stock: where redundant experts lie before the first rearrangement."""
    check_steps: int = 1000
    """Steps between two comparisons of what the ranks chose; 0 is off."""
    metrics: int = 0
    """Seconds between two readings of the counters; 0 is off."""
    metrics_folder: str = ""
    """Where workers leave their counters for the server; empty is a temporary folder."""
    record: str = ""
    """Folder for traces of the logical ids of decode batches; empty is off."""
    record_tokens: int = 65536
    """The last so many tokens are kept."""
    strict: int = 0
    """1: leave a vLLM that METRO was not tried with as it is; else it is served by `home` if it looks the same."""
    any_version: int = 0
    """1: serve every policy in such a vLLM."""

    def __post_init__(self):
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{PREFIX}{name.upper()} is {value!r}, must be one of {', '.join(map(repr, known))}")
        for name, (low, high) in RANGES.items():
            low = self.max_tokens if name == "record_tokens" and self.record else low
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{PREFIX}{name.upper()} is {getattr(self, name)}, must be {low}..{high}")

    @property
    def policy(self) -> str:
        """`decode` by its own name: `metro` by the cuda backend is `optimal`."""
        return "optimal" if (self.decode, self.backend) == ("metro", "cuda") else self.decode

    @property
    def needs_router(self) -> bool:
        return self.policy in ("optimal", "auto")

    @property
    def is_on(self) -> bool:
        return bool(self.record or self.metrics or self.placement) or (self.decode, self.prefill) != ("hash", "hash")

    @classmethod
    def read(cls, additional_config: Any = None, environment: Mapping[str, str] = os.environ) -> Settings:
        """From vLLM's additional_config (or None) and the environment, which wins."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        config = additional_config.get("metro", {}) if isinstance(additional_config, Mapping) else {}
        if not isinstance(config, Mapping):
            raise ValueError(f"additional_config['metro'] is {config!r}, must be an object")
        for name, value in config.items():
            if name not in fields:
                raise ValueError(f"additional_config['metro'] has {name!r}, must be one of {', '.join(fields)}")
            if type(value) is not type(fields[name].default):
                kind = type(fields[name].default).__name__
                raise ValueError(f"additional_config['metro']['{name}'] is {value!r}, must be {kind}")
            given[name] = value
        for variable, text in environment.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in fields or variable != variable.upper():
                known = ", ".join(PREFIX + name.upper() for name in fields)
                raise ValueError(f"{variable} is no setting, must be one of {known}")
            if not isinstance(fields[name].default, int):
                given[name] = text
                continue
            try:
                given[name] = int(text)
            except ValueError:
                raise ValueError(f"{variable} is {text!r}, must be an integer") from None
        return cls(**given)
