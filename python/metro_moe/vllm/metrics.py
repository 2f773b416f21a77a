# SPDX-License-Identifier: Apache-2.0
"""METRO's figures in vLLM's Prometheus endpoint and log line.

A worker leaves its counters in a file every few seconds; the server process, which has neither the GPU nor
the model, reads the files when it is scraped or logs. Off unless METRO_VLLM_METRICS is set.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from metro_moe.vllm.counters import CALLS, NANOSECONDS, OURS, SAMPLES, STOCK, Reading
from metro_moe.vllm.seams import LOGGERS, logger

FOLDER = "METRO_VLLM_METRICS_FOLDER"


def choose_folder() -> None:
    """One folder for the server and the workers that it starts, which inherit its environment."""
    os.environ.setdefault(FOLDER, str(pathlib.Path(tempfile.gettempdir()) / f"metro-vllm-{os.getpid()}-{time.time_ns()}"))


class Publisher:
    """In a worker: reads the counters off the forward stream every `seconds`, and writes them when they came."""

    def __init__(self, folder: str, seconds: float, connector: Any):
        self.path = pathlib.Path(folder) / f"{os.getpid()}.json"
        self.seconds, self.connector = seconds, connector
        self.next = 0.0
        self.reading: Reading | None = None
        self.names: list[tuple[str, int]] = []

    def tick(self, now: float | None = None) -> None:
        """After a step, outside graph capture: starts a reading when it is time, or ends one that is there."""
        now = time.monotonic() if now is None else now
        if self.reading is not None:
            if self.reading.is_done():
                done, self.reading = self.reading, None
                self.write(done.hosts)
        elif now >= self.next:
            self.next = now + self.seconds
            sources = self.connector.sources()
            self.names = [(name, len(tensors)) for name, tensors in sources.items()]
            self.reading = Reading([tensor for tensors in sources.values() for tensor in tensors])

    def write(self, tensors: list[Any]) -> None:
        hosts = iter(tensors)
        models = {}
        for name, parts in self.names:
            rows = next(hosts).sum(0).tolist()
            faults = next(hosts).sum(0).tolist() if parts > 1 else [0, 0]
            models[name] = {
                "calls": rows[CALLS], "samples": rows[SAMPLES], "ours": rows[OURS], "stock": rows[STOCK],
                "nanoseconds": rows[NANOSECONDS], "not_live": faults[0], "stale": faults[1],
            }  # fmt: skip
        text = json.dumps({"rank": self.connector.rank, "fallbacks": self.connector.fallbacks, "models": models})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(self.path)


def read(folder: str) -> list[dict]:
    """What the workers wrote last; files that cannot be read are left out."""
    found = []
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text()))
    return found


def figures(model: dict, before: dict | None = None) -> dict[str, float]:
    """Means since `before` (or the start): the busiest rank's experts, ours and stock's, and the time."""
    since = {key: value - (before or {}).get(key, 0) for key, value in model.items()}
    samples = since["samples"]
    if samples <= 0:
        return {}
    return {
        "ours": since["ours"] / samples,
        "stock": since["stock"] / samples,
        "saved": 1 - since["ours"] / since["stock"] if since["stock"] else 0.0,
        "seconds": since["nanoseconds"] / samples * 1e-9,
    }


class Collector:
    """For prometheus_client: reads the workers' files when it is scraped."""

    def __init__(self, folder: str):
        self.folder = folder

    def describe(self) -> list:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ["model", "rank"]
        activated = GaugeMetricFamily(
            "vllm:metro_max_activated", "Experts of the busiest rank a layer, mean", labels=[*labels, "choice"]
        )
        saved = GaugeMetricFamily("vllm:metro_saved_share", "1 - ours / stock of the above", labels=labels)
        spent = GaugeMetricFamily("vllm:metro_mapping_seconds", "Time of the mapping a layer, mean", labels=labels)
        calls = CounterMetricFamily("vllm:metro_mappings", "Mappings served", labels=labels)
        stale = CounterMetricFamily("vllm:metro_epoch_mismatches", "Ids whose table was stale: hash served", labels=labels)
        fallbacks = CounterMetricFamily("vllm:metro_fallbacks", "Mappings or ids left to vLLM's own", labels=labels)
        for worker in read(self.folder):
            rank = str(worker["rank"])
            for name, model in worker["models"].items():
                at = [name, rank]
                calls.add_metric(at, model["calls"])
                stale.add_metric(at, model["stale"])
                fallbacks.add_metric(at, model["not_live"] + worker["fallbacks"])
                means = figures(model)
                if means:
                    activated.add_metric([*at, "served"], means["ours"])
                    activated.add_metric([*at, "stock"], means["stock"])
                    saved.add_metric(at, means["saved"])
                    spent.add_metric(at, means["seconds"])
        yield from (activated, saved, spent, calls, stale, fallbacks)


class LogLine:
    """A line of METRO's beside each of vLLM's, over the time since the last."""

    def __init__(self, folder: str):
        self.folder = folder
        self.before: dict[tuple[int, str], dict] = {}

    def say(self) -> None:
        try:
            for worker in read(self.folder):
                for name, model in worker["models"].items():
                    key = (worker["rank"], name)
                    means = figures(model, self.before.get(key))
                    self.before[key] = model
                    if means and worker["rank"] == 0:
                        logger.info(
                            "metro: %s: busiest rank %.2f experts a layer (stock %.2f, saved %.1f%%), mapping %.1f us, "
                            "fallbacks %d, epoch mismatches %d",
                            name, means["ours"], means["stock"], means["saved"] * 100, means["seconds"] * 1e6,
                            worker["fallbacks"] + model["not_live"], model["stale"],
                        )  # fmt: skip
        except Exception as error:
            logger.debug("metro: no log line: %s", error)


def stat_logger(folder: str) -> Any:
    """LogLine as one of vLLM's stat loggers: of its own class, so that what a later vLLM asks of them is there."""
    base = importlib.import_module(LOGGERS).AggregateStatLoggerBase

    class StatLogger(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.line = LogLine(folder)

        def record(self, *arguments: Any, **more: Any) -> None:
            pass

        def log_engine_initialized(self) -> None:
            pass

        def log(self) -> None:
            self.line.say()

    return StatLogger()
