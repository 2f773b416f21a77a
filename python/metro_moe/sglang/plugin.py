# SPDX-License-Identifier: Apache-2.0
"""The entry point of SGLang's plugin group `sglang.srt.plugins`: off unless METRO_SGLANG_DECODE names a policy."""

from __future__ import annotations

import os

from metro_moe.errors import UsageError

VARIABLE = "METRO_SGLANG_DECODE"
MAX_TOKENS = "METRO_SGLANG_MAX_TOKENS"


def register() -> None:
    """Called by SGLang in every process of a server. Imports nothing of SGLang's while it is off."""
    policy = os.environ.get(VARIABLE, "")
    if policy in ("", "stock"):
        return
    from metro_moe.sglang.dispatch import install

    text = os.environ.get(MAX_TOKENS, "1024")
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"{MAX_TOKENS} is {text!r}, must be an integer above 0")
    install(policy, max_tokens=int(text))
