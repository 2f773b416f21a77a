#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The library names arguments and fields; options of the program are for the program to name."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).parents[2]
# Comments, then raw strings, strings and characters, whichever begins first.
TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|(?P<raw>R"(?P<mark>\w*)\(.*?\)(?P=mark)")|(?P<text>"(?:\\.|[^"\\\n])*")|'
    r"'(?:\\.|[^'\\\n])'",
    re.DOTALL,
)
OPTION = re.compile(r"--[a-z][a-z-]*")
# Literals that may hold options, by file: a command line to be run, metro's or an engine's, is no message.
ALLOWED = {
    "src/advise/launch_vllm.cpp": {
        *"--all --data-parallel-size --enable-eplb --enable-expert-parallel --eplb-config --tensor-parallel-size".split()
    },
    "src/advise/launch_sglang.cpp": {
        *"--dp --enable-dp-attention --enable-eplb --ep-num-redundant-experts --ep-size --init-expert-location --model-path --moe-a --tp".split()
    },
    "src/advise/launch_trtllm.cpp": {
        *"--config".split()
    },
    "src/report/compare_sections.cpp": {
        *"--trace --gpus --ep --replication --tokens-per-gpu --tokens --policy --algorithm --batches --seed".split()
    },
}


def options_in(source):
    """Names that look like options in the string literals of C++."""
    literals = (match["text"] or match["raw"] for match in TOKEN.finditer(source))
    return [option for literal in literals if literal for option in OPTION.findall(literal)]


class LibraryMessages(unittest.TestCase):
    def test_finds_options_in_literals_only(self):
        source = """
            // "--comment" is none, nor is /* "--this" */ or i--
            const char quote = '"';  /* "--nor
            this" */ constexpr int kMany = 1'000'000;
            fail("--figure has {}", x--, "say \\"--seed\\"", R"(--raw)");
            fail("a -- b", "x--");
        """
        self.assertEqual(options_in(source), ["--figure", "--seed", "--raw"])

    def test_library_names_none(self):
        paths = [path for folder in ("src", "include") for path in (ROOT / folder).rglob("*")]
        sources = [path for path in paths if path.suffix in {".cpp", ".hpp", ".cu", ".cuh", ".inc"}]
        self.assertGreater(len(sources), 100)
        faults = []
        for path in sources:
            name = str(path.relative_to(ROOT))
            found = options_in(path.read_text(encoding="utf-8"))
            faults += [f"{name}: {option}" for option in found if option not in ALLOWED.get(name, ())]
        self.assertEqual(faults, [])


if __name__ == "__main__":
    unittest.main()
