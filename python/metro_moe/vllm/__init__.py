# SPDX-License-Identifier: Apache-2.0
"""METRO in vLLM: a plugin that vLLM finds by itself, and nothing happens until METRO_VLLM_DECODE is set.

    METRO_VLLM_DECODE=metro vllm serve ... --enable-expert-parallel --enable-eplb

`replica_choice` is the rule alone, as an engine would take it in. docs/vllm.md has the settings.
"""

from __future__ import annotations

import logging

from metro_moe.vllm.settings import Settings

logger = logging.getLogger("metro_moe.vllm")

_connector = None


def register() -> None:
    """vLLM calls this in every process (entry point vllm.general_plugins); again it changes nothing."""
    global _connector
    if _connector is not None:
        return
    try:
        settings = Settings.from_environment()
        if not settings.is_on:
            return
        from metro_moe.vllm.connector import Connector

        connector = Connector(settings)
        connector.bind()
        _connector = connector
    except Exception as error:
        logger.warning("metro: vLLM stays as it is: %s: %s", type(error).__name__, error)


def unregister() -> None:
    """Puts vLLM's function back; captured graphs keep what they have."""
    global _connector
    if _connector is not None:
        _connector.unbind()
        _connector = None


def status() -> dict:
    """What the plugin does in this process: bound modules, calls by policy, why it is off."""
    return {"bound": [], "calls": {}, "off": "not registered"} if _connector is None else _connector.status()


def current_recorder():
    """The recorder of this process (METRO_VLLM_RECORD), or None."""
    return None if _connector is None else _connector.recorder
