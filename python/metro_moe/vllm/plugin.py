# SPDX-License-Identifier: Apache-2.0
"""The plugin in one process: reads the settings when they are known, then binds the connector, once."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
from typing import Any

from metro_moe.vllm import hooks, metrics, seams
from metro_moe.vllm.seams import logger
from metro_moe.vllm.settings import Settings
from metro_moe.vllm.spread import Start


class Plugin:
    def __init__(self) -> None:
        self.patches = seams.Patches()
        self.connector: Any = None
        self.asked: Any = None  # the connector's settings as they were given
        self.refused = ""
        self.collector: Any = None
        self.start = Start()

    def install(self) -> None:
        """Hooks, and the connector if the environment asks for it; else additional_config may, later."""
        folder = os.environ.get(metrics.FOLDER)
        metrics.choose_folder()
        if folder is None:
            made = os.environ[metrics.FOLDER]
            self.patches.back.append(lambda: os.environ.pop(metrics.FOLDER, None))
            atexit.register(shutil.rmtree, made, ignore_errors=True)
        try:
            settings = Settings.read()
        except ValueError as error:
            self.refused = str(error)
            raise
        hooks.install(self, self.patches)
        if settings.is_on:
            self.bind(settings)

    def uninstall(self) -> None:
        if self.connector is not None:
            self.connector.unbind()
        self.connector = None
        self.patches.undo()

    def bind(self, settings: Settings) -> None:
        if self.connector is not None or self.refused:
            return
        try:
            from metro_moe.vllm.connector import Connector

            connector = Connector(settings, lambda: self.start.is_spread)
            connector.bind()
            if settings.metrics:
                folder = settings.metrics_folder or os.environ[metrics.FOLDER]
                connector.publisher = metrics.Publisher(folder, settings.metrics, connector)
            self.connector, self.asked = connector, settings
        except Exception as error:
            self.refused = f"{type(error).__name__}: {error}"
            logger.warning("metro: vLLM stays as it is: %s", self.refused)

    def settings_for(self, vllm_config: Any) -> Settings | None:
        """With additional_config; None, said once, where it is wrong."""
        try:
            return Settings.read(getattr(vllm_config, "additional_config", None))
        except ValueError as error:
            if not self.refused:
                self.refused = str(error)
                logger.warning("metro: vLLM stays as it is: %s", error)
            return None

    # -- what the hooks call

    def is_bound(self) -> bool:
        return self.connector is not None

    def configure(self, vllm_config: Any) -> None:
        settings = self.settings_for(vllm_config)
        if settings is None:
            return
        if self.connector is not None and settings != self.asked:
            self.connector.unbind()  # before any batch: the environment asked first, the configuration adds to it
            self.connector = None
        if settings.is_on:
            self.bind(settings)

    def add_model(self, eplb_state: Any, model_config: Any) -> None:
        if self.connector is not None:
            state = eplb_state.model_states[model_config.compute_hash()]
            self.connector.add_model(state, eplb_state.parallel_config, str(model_config.model))

    def gpus_of_spread_start(self) -> int:
        """GPUs over which redundant experts are to be spread; 0 leaves vLLM's start."""
        settings = None if self.connector is None else self.connector.settings
        if settings is None or settings.start != "spread" or self.connector.ordered is None or self.connector.off:
            return 0
        return settings.num_gpus or seams.ep_group().world_size

    def mark_prepared(self, eplb_state: Any, model_config: Any) -> None:
        """vLLM says how many rows of this model are real; of others the number is not to be trusted."""
        self.connector.prepared.add(eplb_state.model_states[model_config.compute_hash()].logical_replica_count.data_ptr())

    def after_step(self, eplb_state: Any) -> None:
        self.connector.after_step(eplb_state)

    def loggers_for(self, vllm_config: Any) -> list[Any]:
        settings = self.settings_for(vllm_config)
        if settings is None or not settings.metrics:
            return []
        folder = settings.metrics_folder or os.environ[metrics.FOLDER]
        if self.collector is None:
            from prometheus_client import REGISTRY

            self.collector = metrics.Collector(folder)
            self.join_registry(REGISTRY)
            self.patches.back.append(functools.partial(REGISTRY.unregister, self.collector))
        return [metrics.stat_logger(folder)]

    def join_registry(self, registry: Any) -> None:
        if self.collector is not None and self.collector not in getattr(registry, "_collector_to_names", {}):
            registry.register(self.collector)
