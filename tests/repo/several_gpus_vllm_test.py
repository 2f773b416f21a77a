#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/vllm/several_gpus.py without vLLM: what it would start, that it goes on where it stopped, and how it judges."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench" / "vllm"))
import several_gpus  # noqa: E402


class SeveralGpusVllm(unittest.TestCase):
    def test_slots_are_a_multiple_of_the_gpus(self):
        for gpus in (2, 4, 8):
            for replication in (1.0, 1.125, 1.5):
                slots = 128 + several_gpus.redundant(128, replication, gpus)
                self.assertEqual(slots % gpus, 0)
                self.assertGreaterEqual(slots, 128 * replication)
                self.assertLess(slots, 128 * replication + gpus)

    def test_every_part_has_its_rivals(self):
        for part in ("tp", "dp", "deepseek"):
            engines = {(trial["policy"], trial["replication"]) for trial in several_gpus.trials_of(part)}
            self.assertLessEqual({("off", 1.0), ("stock", 1.0), ("stock", 1.5), ("metro", 1.5), ("home", 1.5)}, engines)

    def test_tokens_are_judged_by_stocks(self):
        rows = several_gpus.judge([
            {"policy": "metro", "tokens": [[1, 2], [3, 4]]}, {"policy": "stock", "tokens": [[1, 2], [3, 4]]},
            {"policy": "home", "tokens": [[1, 2], [3, 5]]}, {"policy": "home", "failed": "out of time"},
        ])  # fmt: skip
        self.assertEqual([row.get("verdict") for row in rows], ["ok", "ok", "WRONG", None])
        self.assertEqual(rows[2]["equal"], 1)
        alone = several_gpus.judge([{"policy": "metro", "tokens": [[1]]}])
        self.assertEqual(alone[0]["verdict"], "WRONG")

    def call(self, folder, budget, run):
        arguments = ["x", "--site", "/nowhere", "--gpus", "2", "--out", folder, "--part", "dp", "--budget", str(budget)]
        out = io.StringIO()
        with (
            mock.patch.object(sys, "argv", arguments), mock.patch.object(several_gpus, "run", run),
            mock.patch.object(several_gpus, "make_package", lambda folder: folder),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()),
        ):  # fmt: skip
            return several_gpus.main(), out.getvalue()

    def test_goes_on_where_it_stopped(self):
        started = []

        def run(trial, *_):
            started.append(trial["name"])
            if len(started) == 3:
                raise KeyboardInterrupt  # the call is cut off
            return [{"trial": trial["name"], "policy": trial["policy"], "tpot_ms": 1.0}]

        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.call(folder, 1, run), (6, ""))
            with self.assertRaises(KeyboardInterrupt):
                self.call(folder, 1000, run)
            status, text = self.call(folder, 1000, run)
        self.assertEqual(status, 0)
        names = [trial["name"] for trial in several_gpus.trials_of("dp")]
        self.assertEqual(started, names[:3] + names[2:])
        self.assertEqual([row["trial"] for row in json.loads(text)["rows"]], names)


if __name__ == "__main__":
    unittest.main()
