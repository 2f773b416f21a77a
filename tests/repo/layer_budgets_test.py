#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/layer_budgets.py must divide slots as well as any division does."""
import itertools
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import layer_budgets  # noqa: E402


class Divide(unittest.TestCase):
    def test_no_division_of_as_many_slots_has_a_lesser_sum(self):
        draw = random.Random(0)
        for _ in range(50):
            curves = [[draw.random() for _ in range(4)] for _ in range(4)]  # neither falling nor convex
            for slots in range(8):
                given = layer_budgets.divide(curves, slots)
                self.assertLessEqual(sum(given), slots)
                every = (d for d in itertools.product(range(4), repeat=4) if sum(d) <= slots)
                self.assertAlmostEqual(
                    layer_budgets.total(curves, given), min(layer_budgets.total(curves, d) for d in every)
                )

    def test_a_slot_alone_may_be_worth_nothing_and_two_be_worth_all(self):
        curve = [4.0, 4.0, 3.0]
        self.assertEqual(sorted(layer_budgets.divide([curve, curve], 2)), [0, 2])

    def test_every_batch_size_weighs_as_much(self):
        layers = [{8: [1.0, 0.5], 64: [100.0, 100.0]}, {8: [1.0, 1.0], 64: [100.0, 90.0]}]
        first, second = layer_budgets.over_sizes(layers)
        self.assertAlmostEqual(first[0] + second[0], 1)
        self.assertAlmostEqual(first[0] - first[1], 0.125)
        self.assertAlmostEqual(second[0] - second[1], 0.025)


if __name__ == "__main__":
    unittest.main()
