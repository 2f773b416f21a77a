#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/never_worse.py must see a loss, and say which rival a point is measured by."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import never_worse  # noqa: E402
import sharded_map  # noqa: E402

KEY = ("Qwen3-30B-A3B", "h200", "bf16", 8, 64, 0)


def row(tpot_ms, max_activated, experts=0.5, preemptions=0):
    return {
        "tpot_ms": {"mean": tpot_ms},
        "max_activated": max_activated,
        "stage_share": {"experts": experts},
        "preemptions": preemptions,
        "mean_batch": 64,
    }


def cell(optimal, off=(10.0, 16.0), home=(10.1, 16.0), sharded=(11.0, 15.0)):
    rows = {
        ("optimal", 1.5): row(*optimal),
        ("off", 1): row(*off),
        ("home", 1.5): row(*home),
        ("moe-TP", 1): row(*sharded),
    }
    return never_worse.Cell(KEY, rows, 1.5)


class NeverWorse(unittest.TestCase):
    def test_ratio_is_over_the_best_rival(self):
        self.assertAlmostEqual(cell((9.5, 14.0)).ratio(), 0.95)
        self.assertEqual(cell((9.5, 14.0)).best(), "off")
        sharded = cell((9.5, 14.0), sharded=(9.0, 15.0))
        self.assertEqual(sharded.best(), "moe-TP")
        self.assertAlmostEqual(sharded.ratio_to_routing(), 0.95)

    def test_more_activated_experts_are_a_fault(self):
        self.assertEqual(list(cell((9.5, 16.0)).faults()), [])
        self.assertEqual(len(list(cell((9.5, 16.1)).faults())), 2)  # than EPLB off, than home

    def test_time_beyond_the_router_is_a_fault(self):
        # 48 layers of 2.3 us are 1.1 % of 10 ms, and tokens may weigh 0.1 % more.
        self.assertEqual(list(cell((10.1, 16.0)).faults()), [])
        self.assertEqual(len(list(cell((10.2, 16.0)).faults())), 1)
        self.assertEqual(list(cell((10.3, 16.0, 0.5, 3)).faults()), [], "short of memory")

    def test_says_why_it_is_above_one(self):
        self.assertEqual(cell((9.5, 14.0)).why(), "gains")
        self.assertEqual(cell((9.95, 14.0)).why(), "level")
        self.assertEqual(cell((10.1, 16.0)).why(), "router")
        self.assertEqual(cell((10.1, 16.0, 0.5, 3)).why(), "KV cache")
        self.assertEqual(cell((9.5, 14.0), sharded=(9.0, 15.0)).why(), "moe-TP")

    def test_what_does_not_fit_is_no_point(self):
        self.assertFalse(never_worse.Cell(KEY, {("off", 1): row(10, 16)}, 1.5).fits())


class ShardedMap(unittest.TestCase):
    POINTS = {
        1: {("EPLB off", 1, 1): 10, ("moe-TP", 8, 1): 11, ("home", 1, 1.25): 10.2, ("optimal", 1, 1.25): 9.8,
            ("EPLB off", 2, 1): 9.5, ("optimal", 2, 1.25): 9.0},
        2: {("EPLB off", 1, 1): 10, ("moe-TP", 8, 1): 8, ("optimal", 1, 1.25): 10.1, ("EPLB off", 2, 1): 9.0,
            ("optimal", 4, 1.125): 9.1},
    }  # fmt: skip

    def lines(self):
        return [{line[0]: line[1:] for line in lines} for _, _, lines in sharded_map.tables(self.POINTS, "optimal")]

    def test_a_part_of_the_map(self):
        part = sharded_map.part("h100:fp8,h200:bf16/8/0,1")
        self.assertEqual(part, {"formats": [("h100", "fp8"), ("h200", "bf16")], "gpus": [8], "drafts": [0, 1]})
        for wrong in ["h100/8/0", "h100:fp8/8"]:
            with self.assertRaisesRegex(SystemExit, "must be like h100:fp8"):
                sharded_map.part(wrong)

    def test_counts_are_over_the_best_rival(self):
        over_r, with_groups = self.lines()
        self.assertEqual(over_r["s = 1, optimal"], ["2", "1", "0.980", f"{(0.98 + 10.1 / 8) / 2:.3f}", "1"])
        self.assertEqual(over_r["s = 2 or 4, 1x"][:3], ["2", "1", "0.950"])
        self.assertEqual(over_r["s = 2 or 4, optimal"][:3], ["2", "1", "0.900"])
        self.assertEqual(with_groups["s = 2 or 4, optimal"][:3], ["2", "1", f"{9 / 9.5:.3f}"])
        self.assertEqual(over_r["least of these"][4], "1")


if __name__ == "__main__":
    unittest.main()
