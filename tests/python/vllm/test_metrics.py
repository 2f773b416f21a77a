# SPDX-License-Identifier: Apache-2.0
"""Counters on the device, and their way to vLLM's endpoint and log line."""

import json
import logging
import sys

import pytest
import torch
from choice_reference import choose, max_activated
from engine import Config, Layers, context, needs_interpreter, stand_in

from metro_moe import vllm as plugin
from metro_moe.vllm import counters, metrics, seams
from metro_moe.vllm.counters import CALLS, EVERY, OURS, SAMPLES, STOCK, Counters

NUM_EXPERTS, NUM_GPUS = 16, 4
SLOTS = [0, 3, 5, 5, 9, 11, 14, 0, *range(NUM_EXPERTS)]


@needs_interpreter
@pytest.mark.parametrize("num_real", [None, 0, 3, 9])
def test_counters_are_what_was_activated(num_real):
    layers, rows = Layers(SLOTS, NUM_EXPERTS), Counters(3, NUM_GPUS, "cpu")
    ids = torch.randint(-1, NUM_EXPERTS, (9, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    out = choose(ids, layers.table[1], layers.count[1], "metro", NUM_GPUS, num_real)[0]
    hashed = choose(ids, layers.table[1], layers.count[1], "hash", NUM_GPUS)[0]
    real = None if num_real is None else torch.tensor(num_real, dtype=torch.int32)
    for _ in range(EVERY + 1):
        rows.count(1, ids, out, layers.table[1], layers.count[1], real, len(SLOTS))
    seen = len(ids) if num_real is None else num_real
    row = rows.rows[1].tolist()
    most = lambda slots: max_activated(slots[:seen], len(SLOTS), NUM_GPUS) if seen else 0  # noqa: E731
    assert (row[CALLS], row[SAMPLES]) == (EVERY + 1, 2)
    assert (row[OURS], row[STOCK]) == (2 * most(out), 2 * most(hashed))
    assert not rows.rows[0].any() and not rows.rows[2].any()


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """A worker that serves one batch and steps, and the server's loggers; METRO_VLLM_* as given."""

    def serve(config=None, steps=2, **settings):
        module, _, _ = stand_in(monkeypatch)
        sys.modules["vllm.forward_context"].get_forward_context = context
        monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
        for name, value in settings.items():
            monkeypatch.setenv(f"METRO_VLLM_{name.upper()}", str(value))
        plugin.register()
        vllm_config = type("C", (), {"additional_config": config})
        sys.modules["vllm.config"].get_current_vllm_config_or_none = lambda: vllm_config
        layers, state = Layers(SLOTS, NUM_EXPERTS), sys.modules[seams.EPLB_STATE].EplbState()
        state.add_model(layers, Config())
        ids = torch.randint(0, NUM_EXPERTS, (6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
        for layer in range(3):
            layers.call(getattr(module, seams.FUNCTION), ids, layer)
        for _ in range(steps):
            state.step()
        return sys.modules[seams.LOGGERS].StatLoggerManager(vllm_config).stat_loggers, layers, ids

    return serve


@needs_interpreter
@pytest.mark.parametrize("policy", ["metro", "home", "hash"])
def test_a_worker_leaves_its_counters(serve, tmp_path, policy):
    _, layers, ids = serve(decode=policy, metrics=1)
    (path,) = tmp_path.glob("*.json")
    worker = json.loads(path.read_text())
    served = max_activated(choose(ids, layers.table[0], layers.count[0], policy, NUM_GPUS)[0], len(SLOTS), NUM_GPUS)
    stock = max_activated(choose(ids, layers.table[0], layers.count[0], "hash", NUM_GPUS)[0], len(SLOTS), NUM_GPUS)
    model = worker["models"]["tiny"]
    assert (model["samples"], model["calls"]) == (3, 3)
    assert (model["ours"], model["stock"]) == (3 * served, 3 * stock)
    assert (worker["rank"], worker["fallbacks"], model["stale"]) == (0, 0, 0)


@needs_interpreter
def test_the_endpoint_and_the_log_line(serve, caplog):
    import prometheus_client

    loggers, _, _ = serve({"metro": {"decode": "metro", "metrics": 1}})
    text = prometheus_client.generate_latest().decode()
    for line in ('vllm:metro_max_activated{choice="served",model="tiny",rank="0"}', "vllm:metro_saved_share{",
                 "vllm:metro_mapping_seconds{", "vllm:metro_mappings_total{", "vllm:metro_epoch_mismatches_total{",
                 "vllm:metro_fallbacks_total{"):  # fmt: skip
        assert line in text
    with caplog.at_level(logging.INFO):
        for _ in range(2):  # nothing new, no second line
            [logger.log() for logger in loggers]
    assert caplog.text.count("busiest rank") == 1
    plugin.unregister()
    assert "vllm:metro" not in prometheus_client.generate_latest().decode()


@needs_interpreter
def test_of_several_servers_each_registry_has_them(serve):
    import prometheus_client

    serve(decode="metro", metrics=1)
    module, registry = sys.modules[seams.PROMETHEUS], prometheus_client.CollectorRegistry()
    plugin._plugin.join_registry(registry)
    assert b"vllm:metro_max_activated" in prometheus_client.generate_latest(registry)
    assert sys.modules["vllm.engine.arg_utils"].get_prometheus_registry is module.get_prometheus_registry


@needs_interpreter
def test_a_folder_that_cannot_be_written_is_said_once(serve, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    serve(decode="home", metrics=1, steps=0)
    publisher, state = plugin._plugin.connector.publisher, sys.modules[seams.EPLB_STATE].EplbState()
    publisher.path = tmp_path / "file" / "x" / "1.json"
    for _ in range(6):
        state.step()
        publisher.next = 0.0
    assert len([record for record in caplog.records if "file" in record.message]) == 1
    assert plugin.status()["off"] == ""


@needs_interpreter
def test_off_by_default(serve, tmp_path):
    loggers, _, _ = serve(decode="metro")
    assert loggers == [] and not list(tmp_path.iterdir())


def test_files_that_cannot_be_read_are_left_out(tmp_path):
    (tmp_path / "1.json").write_text("{")
    assert metrics.read(str(tmp_path)) == [] and list(metrics.Collector(str(tmp_path)).collect())


def test_readings_are_rare(tmp_path):
    class Slow:
        asked = 0
        rank = fallbacks = 0

        def sources(self):
            Slow.asked += 1
            return {"m": [torch.zeros(2, counters.WIDTH, dtype=torch.int64)]}

    publisher = metrics.Publisher(str(tmp_path), 10, Slow())
    for now in range(20):
        publisher.tick(float(now))
    assert Slow.asked == 2
