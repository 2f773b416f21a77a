#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No table but src/routing/policy_table.cpp names policies: a second one is not told of a new row.

In the library, the program and the Python package no policy's name stands in quotes at all: defaults and
rivals are constants of metro/policy_names.hpp. Scripts may name single policies, but no list of them.
"""

import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
TABLE = "src/routing/policy_table.cpp"
# The program's own name too; a table that has it has others beside it.
NOT_TOLD_APART = {"metro"}
STRICT = ("include", "src", "apps", "python/src", "python/metro_moe")
SCRIPTS = ("tools", "bench", "python/metro_moe/vllm", "fuzz")
SUFFIXES = {".cpp", ".hpp", ".cu", ".cuh", ".inc", ".h", ".c", ".py", ".js", ".sh"}
MANY = 3

# Why a file may have them, and which.
ALLOWED = {
    TABLE: ("the table", None),
    "include/metro/policy_names.hpp": ("defaults and rivals, as constants", None),
    "src/cuda/layer_table.cpp": ("which kernel is a policy's; a test compares it with the table", None),
    "src/report/plot.js": ("colours of well-known series; any other gets the next colour", None),
    "src/reproduce/pairs.hpp": ("keys of systems in results, which are placements with policies", None),
    "src/core/placement.cpp": ("a field of a placement", {"home"}),
    "src/io/placement_file.cpp": ("fields of a placement file", {"home", "shares"}),
    "src/report/policies_result.cpp": ("a column that says what is used", {"shares"}),
    "python/src/placement.cpp": ("fields of a placement", {"home", "shares"}),
    "python/metro_moe/sglang/dispatch.py": ("a mode of SGLang's, and the policy that this mode looks up", {"static", "home"}),
}


def policy_names(root):
    names = re.findall(r'\.name = "([^"]+)"', (root / TABLE).read_text(encoding="utf-8"))
    return set(names) - NOT_TOLD_APART


def without_comments(text, suffix):
    if suffix == ".py":
        text = re.sub(r'"""[\s\S]*?"""', '""', text)
    if suffix in (".py", ".sh"):
        return re.sub(r"(?m)(^|\s)#.*$", "", text)
    return re.sub(r"/\*[\s\S]*?\*/|//.*", "", text)


def quoted(line, names, suffix):
    quotes = "[\"']" if suffix in (".py", ".js") else '"'
    return [name for name in re.findall(f"{quotes}([a-z-]+){quotes}", line) if name in names]


def files_below(root, folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path


def faults_of(root):
    """Lines at fault, and the entries of ALLOWED that allow nothing."""
    names = policy_names(root)
    faults, used = [], set()
    scripts = set(files_below(root, SCRIPTS))
    for path in [*files_below(root, STRICT), *(path for path in scripts if path.suffix)]:
        relative = path.relative_to(root).as_posix()
        text = without_comments(path.read_text(encoding="utf-8"), path.suffix)
        if path in scripts:
            for items in re.findall(r"[\[({]([^\[\](){}]*)[\])}]", text):
                found = set(quoted(items, names, path.suffix))
                if len(found) >= MANY:
                    faults.append(f"{relative}: a list of policies: {', '.join(sorted(found))}")
            continue
        _, allowed = ALLOWED.get(relative, ("", set()))
        for line in text.splitlines():
            for name in quoted(line, names, path.suffix):
                if allowed is None or name in allowed:
                    used.add(relative)
                else:
                    faults.append(f'{relative}: "{name}" in: {line.strip()}')
    return sorted(set(faults)), sorted(set(ALLOWED) - used)


class PolicyNames(unittest.TestCase):
    def test_stand_in_one_table(self):
        faults, unused = faults_of(ROOT)
        self.assertEqual(faults, [], "read policies(), or a constant of metro/policy_names.hpp")
        self.assertEqual(unused, [], "ALLOWED has files that name no policy")

    def test_are_those_of_the_table(self):
        names = policy_names(ROOT)
        self.assertGreaterEqual(len(names), 10)
        self.assertIn("optimal", names)

    def faults(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            files = {TABLE: '{.name = "even", .x = 1}, {.name = "hash"}, {.name = "home"}', **files}
            for name, text in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return faults_of(root)[0]

    def test_a_second_table_is_found(self):
        table = 'constexpr auto kNames = {"hash", "home"};\n'
        self.assertEqual(len(self.faults({"src/sim/names.cpp": table})), 2)
        self.assertEqual(len(self.faults({"python/metro_moe/x.py": "_GLOBAL = {'even'}\n"})), 1)
        self.assertEqual(len(self.faults({"tools/x.py": 'A = ["even", "hash",\n     "home"]\n'})), 1)

    def test_what_is_no_table_is_not(self):
        self.assertEqual(
            self.faults(
                {
                    "src/a.cpp": '// "even" is a policy\nroute(kEvenPolicy); print("even split");\n',
                    "tools/x.py": 'best = rows["even"]  # or "hash", "home"\n',
                    "python/metro_moe/y.py": '"""Like "even"."""\n',
                }
            ),
            [],
        )


if __name__ == "__main__":
    sys.exit(unittest.main())
