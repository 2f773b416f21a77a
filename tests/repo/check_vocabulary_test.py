#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/check_vocabulary.py must find what it is there to find."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import check_vocabulary  # noqa: E402


class CheckVocabulary(unittest.TestCase):
    def faults(self, text, name="docs/page.md"):
        return list(check_vocabulary.faults_of(name, text))

    def test_planted_in_a_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src" / "report").mkdir(parents=True)
            (root / "src" / "report" / "a.cpp").write_text('std::string s = "moe-tp";\n', encoding="utf-8")
            (root / "src" / "report" / "b.txt").write_text("moe-tp\n", encoding="utf-8")
            (root / "README.md").write_text("EPLB off\nbeside no replication\n", encoding="utf-8")
            self.assertEqual(
                check_vocabulary.check(root),
                [
                    "README.md:2: 'no replication' is called EPLB off",
                    "src/report/a.cpp:1: 'moe-tp' is called moe-TP",
                ],
            )

    def test_every_variant(self):
        for text in ["no replication", "No-replication", "no replicas", "MoE-TP", "moe tp", "tensor-sharded",
                     "Tensor sharded", '"expert-parallel"', "`expert-parallel`"]:  # fmt: skip
            self.assertEqual(len(self.faults(text)), 1, text)

    def test_the_names_themselves(self):
        for text in ["EPLB off", "moe-TP", "an expert-parallel layer", "vs_no_replication", "tensor_sharded"]:
            self.assertEqual(self.faults(text), [], text)

    def test_a_name_may_be_defined(self):
        self.assertEqual(self.faults("EPLB off: no replicas. moe-TP: tensor-sharded experts"), [])
        self.assertEqual(len(self.faults("EPLB off, or no replication")), 1)

    def test_old_spellings_are_kept_where_said(self):
        self.assertEqual(self.faults('word == "tensor-sharded"  // old spelling'), [])
        self.assertEqual(self.faults("// takes the old spelling\nword == 'moe-tp'"), [])
        self.assertEqual(len(self.faults("// takes the old spelling\n\nword == 'moe-tp'")), 1)


if __name__ == "__main__":
    unittest.main()
