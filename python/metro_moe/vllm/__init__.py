# SPDX-License-Identifier: Apache-2.0
"""METRO in vLLM: a plugin that vLLM finds by itself, and nothing happens until it is asked for.

    METRO_VLLM_DECODE=home vllm serve ... --enable-expert-parallel --enable-eplb

`replica_choice` is the rule alone, as an engine would take it in. docs/vllm.md has the settings.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("vllm.metro")

_plugin = None


def register() -> None:
    """vLLM calls this in every process (entry point vllm.general_plugins); again it changes nothing."""
    global _plugin
    if _plugin is not None:
        return
    try:
        from metro_moe.vllm.plugin import Plugin

        plugin = Plugin()
        _plugin = plugin
        plugin.install()
    except Exception as error:
        logger.warning("metro: vLLM stays as it is: %s: %s", type(error).__name__, error)


def unregister() -> None:
    """Puts vLLM's functions back; captured graphs keep what they have."""
    global _plugin
    if _plugin is not None:
        _plugin.uninstall()
        _plugin = None


def status() -> dict:
    """What the plugin does in this process: bound modules, calls by policy, fallbacks, why it is off."""
    connector = None if _plugin is None else _plugin.connector
    if connector is None:
        return {"bound": [], "calls": {}, "off": "not registered", "fallbacks": 0, "models": {}, "graphs": {}}
    return connector.status()


def current_recorder():
    """The recorder of this process (METRO_VLLM_RECORD), or None."""
    return None if _plugin is None or _plugin.connector is None else _plugin.connector.recorder
