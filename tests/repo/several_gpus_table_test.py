#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/several_gpus_table.py: every part gets its table, the figures beside each other are those that belong together."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench"))
import several_gpus_table  # noqa: E402


def layer_row(policy, layer_us, tokens=8, replication=1.5, **more):
    return {
        "model": "DeepSeek-V3", "dtype": "bf16", "tokens_per_gpu": tokens, "replication": replication, "policy": policy,
        "gpus": 2, "max_activated": 20.0, "layer_us": layer_us, "stage_us": {"gate": 9.0, "experts": layer_us / 2, "shared": None},
        "exposed_routing_us": None, **more,
    }  # fmt: skip


PARTS = {
    "route": {"device": "NVIDIA H200", "rows": [
        {"experts": 256, "gpus": 16, "tokens": 256, "kernel": "optimal", "median_us": 2.3},
        {"experts": 256, "gpus": 16, "tokens": 256, "kernel": "optimal, peer exchange, 2 GPUs", "median_us": 6.25},
    ]},
    "predict-layer-DeepSeek-V3": {"rows": [layer_row("optimal", 90.0)]},
    "layer-all-gather-DeepSeek-V3": {"rows": [
        layer_row("none", 120.0, replication=1.0), layer_row("moe-tp", 80.0, replication=1.0),
        layer_row("even", 150.0), layer_row("optimal", 100.0), layer_row("optimal", 200.0, tokens=32),
    ]},
    "layer-all-to-all-DeepSeek-V3": {"rows": [layer_row("optimal", 110.0), layer_row("optimal", 180.0, tokens=32)]},
    "killed": {"exit_code": 5, "seconds": 5.4, "line": "metro: NCCL rank 0 of 2: lost"},
    "calibrate": {"collectives": [
        {"name": "all-gather", "gpus": 2, "alpha_us": 6.0, "beta_gb_s": 200.0, "median_error": 0.02},
        {"name": "reduce-scatter", "gpus": 2, "alpha_us": 7.0, "beta_gb_s": 200.0, "median_error": 0.02},
    ]},
    "predict-vllm-optimal-1.5-32": {"tpot_ms": {"mean": 9.0}},
    "vllm-dp": {"rows": [
        {"part": "dp", "shape": "30b", "requests_per_gpu": 32, "replication": 1.0, "policy": "stock", "tpot_ms": 11.0},
        {"part": "dp", "shape": "30b", "requests_per_gpu": 32, "replication": 1.5, "policy": "stock", "tpot_ms": 12.0},
        {"part": "dp", "shape": "30b", "requests_per_gpu": 32, "replication": 1.5, "policy": "metro", "tpot_ms": 10.0},
        {"part": "dp", "shape": "30b", "requests_per_gpu": 32, "replication": 1.5, "policy": "home", "failed": "out of time"},
    ]},
    "vllm-tokens": {"rows": [{"trial": "tokens metro rearranged", "verdict": "ok", "equal": 96}]},
}  # fmt: skip


class SeveralGpusTable(unittest.TestCase):
    def text(self, parts):
        with tempfile.TemporaryDirectory() as folder:
            for name, part in parts.items():
                pathlib.Path(folder, f"{name}.json").write_text(part if isinstance(part, str) else json.dumps(part))
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                self.assertEqual(several_gpus_table.main([folder]), 0)
        self.errors = err.getvalue()
        return out.getvalue()

    def row(self, text, *starts):
        return next(line for line in text.splitlines() if line.startswith("| " + " | ".join(starts)))

    def test_layer_stands_beside_none_moe_tp_and_its_prediction(self):
        row = self.row(self.text(PARTS), "DeepSeek-V3", "bf16", "8", "1.5", "optimal")
        # 90 predicted by virtual ranks; 13 us and 2 x 229 KB at 200 GB/s of communication on top.
        sent = 13 + 2 * (2e-3 * 7168 * 16) / 200
        self.assertIn(f"| 100.0 | 50.0 | - | -16.7 % | +25.0 % | {90 + sent:.1f} | {100 * (90 + sent) / 100 - 100:+.1f} % |", row)
        even = self.row(self.text(PARTS), "DeepSeek-V3", "bf16", "8", "1.5", "even")
        self.assertTrue(even.endswith("| - |  |"), even)

    def test_crossover(self):
        row = self.row(self.text(PARTS), "DeepSeek-V3", "bf16", "1.5", "8:")
        self.assertIn("8: 100.0 / 110.0, 32: 200.0 / 180.0 | 32 |", row)
        slower = {**PARTS, "layer-all-to-all-DeepSeek-V3": {"rows": [layer_row("optimal", 110.0)]}}
        self.assertIn("8: 100.0 / 110.0 | none |", self.text(slower))

    def test_vllm_gain_is_against_the_same_replication(self):
        row = self.row(self.text(PARTS), "dp", "30b", "32", "1.5", "metro")
        self.assertIn("| -16.7 % | -9.1 % | 9.000 | -10.0 % |", row)
        self.assertNotIn("| home |", self.text(PARTS))
        self.assertIn("| tokens metro rearranged | ok | 96 |", self.text(PARTS))

    def test_route_shows_exchanges_only(self):
        text = self.text(PARTS)
        self.assertIn("| 256 | 16 | 256 | optimal, peer exchange, 2 GPUs | 6.25 |", text)
        self.assertNotIn("| optimal | 2.30 |", text)

    def test_stages_leave_out_what_was_not_timed(self):
        self.assertIn("gate 9.0, experts 100.0 |", self.text(PARTS))

    def test_what_is_missing_is_named(self):
        self.assertIn("Not run: route, vllm", self.text({k: v for k, v in PARTS.items() if k[0] not in "rv"}))
        self.assertEqual(self.text({}), "\nNot run: predict, route, layer, killed, calibrate, vllm\n")
        self.assertNotIn("Not run", self.text(PARTS))

    def test_a_broken_part_is_no_part(self):
        self.assertIn("Not run: killed", self.text({**PARTS, "killed": "{"}))
        self.assertIn("killed.json", self.errors)

    def test_usage(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(several_gpus_table.main([]), 2)
            self.assertEqual(several_gpus_table.main(["/nowhere"]), 2)


if __name__ == "__main__":
    unittest.main()
