#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/check_layers.py must find what it is there to find."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import check_layers  # noqa: E402


class CheckLayers(unittest.TestCase):
    def faults(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            for name, text in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return check_layers.Checker(root).run()

    def test_downwards_is_fine(self):
        files = {
            "include/metro/topk.hpp": "#include <vector>\n",
            "src/core/topk.cpp": '#include "metro/topk.hpp"\n',
            "src/core/index.hpp": '#include "metro/topk.hpp"\n',
            "src/routing/even.cpp": '#include "core/index.hpp"\n',
        }
        self.assertEqual(self.faults(files), [])

    def test_upwards(self):
        files = {
            "src/core/a.cpp": '#include "routing/b.hpp"\n',
            "src/routing/b.hpp": "",
        }
        self.assertEqual(
            self.faults(files), ['src/core/a.cpp: "routing/b.hpp" (routing) lies above core']
        )

    def test_upwards_by_a_public_header(self):
        files = {
            "include/metro/router.hpp": "",
            "src/core/a.cpp": '#  include "metro/router.hpp"\n',
            "src/routing/router.cpp": '#include "metro/router.hpp"\n',
        }
        self.assertEqual(len(self.faults(files)), 1)

    def test_public_header_that_needs_a_private_one(self):
        files = {
            "include/metro/topk.hpp": '#include "core/a.hpp"\n',
            "src/core/topk.cpp": "",
            "src/core/a.hpp": "",
        }
        self.assertEqual(len(self.faults(files)), 1)

    def test_circle_names_its_files_only(self):
        files = {
            "src/core/a.hpp": '#include "core/b.hpp"\n',
            "src/core/b.hpp": '#include "core/c.hpp"\n#include "core/a.hpp"\n',
            "src/core/c.hpp": "",
            "src/core/d.cpp": '#include "core/a.hpp"\n',
        }
        self.assertEqual(
            [fault.split(":")[0] for fault in self.faults(files)],
            ["src/core/a.hpp", "src/core/b.hpp"],
        )

    def test_folder_and_header_without_a_place(self):
        files = {"src/zoo/a.cpp": "", "include/metro/zebra.hpp": ""}
        self.assertEqual(len(self.faults(files)), 3)  # and "no sources found"

    def test_two_types_of_one_name(self):
        one = "namespace metro {\nstruct Candidate {\n  int gpu;\n};\nstruct Row;\n}\n"
        other = "namespace metro::ep {\nclass Candidate final : public Row {\n};\n}\n"
        files = {"src/core/a.hpp": one, "src/ep/b.hpp": other, "src/core/c.cpp": one}
        self.assertEqual(self.faults(files), [])
        self.assertEqual(
            self.faults({**files, "src/sim/d.hpp": one}),
            ["src/sim/d.hpp: Candidate is a type of src/core/a.hpp too"],
        )

    def test_missing_file(self):
        self.assertEqual(len(self.faults({"src/core/a.cpp": '#include "core/gone.hpp"\n'})), 1)


if __name__ == "__main__":
    unittest.main()
