#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that includes follow the layers of HACKING.md: downwards only, and in no circle; and that
no two headers define a type of one name in one namespace, which no compiler says and breaks both.

usage: check_layers.py [ROOT]

Prints one line a fault and exits 1 when there is any.
"""
import pathlib
import re
import sys

# Lowest first: a folder of src/ may include from itself and from those before it.
LAYERS = [
    "core", "io", "placement", "routing", "trace", "replay", "cost", "sim", "serving", "advise", "reproduce", "report",
    "sweep",
]
# Beside the line: the folder, or a folder in one, and all that it may use.
BESIDE = {
    "c": ["core", "io", "placement", "routing"],
    "cuda": ["core", "io", "placement", "routing"],
    "route_bench": ["core", "io", "placement", "routing", "trace", "replay", "cuda"],
    "ep": ["core", "placement", "routing", "cuda"],
    "layer_bench": ["core", "placement", "routing", "trace", "replay", "cost", "cuda", "ep"],
}
BESIDE["report/layers"] = [*BESIDE["layer_bench"], "layer_bench", "report"]
# A public header belongs to the layer that has its .cpp; these have none of their name, and
# include/metro/cuda/ is all cuda's, include/metro/ep/ all ep's.
PUBLIC = {"error": "core", "policy_names": "core", "dispatch": "core", "io": "io", "convert": "io", "c": "c"}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
# At the start of a line, so neither nested nor in an unnamed namespace that indents.
NAMESPACE = re.compile(r"^namespace ([\w:]+) \{", re.MULTILINE)
TYPE = re.compile(r"^(?:struct|class|enum class) (\w+)(?: final)?(?: : [\w\s:,<>]+)? \{", re.MULTILINE)
HEADERS = {".hpp", ".cuh", ".h"}
SUFFIXES = {*HEADERS, ".cpp", ".cu"}


def allowed_layers(layer):
    """The layers that `layer` may include from; none if it has no place."""
    if layer in BESIDE:
        return [layer, *BESIDE[layer]]
    return LAYERS[: LAYERS.index(layer) + 1] if layer in LAYERS else []


class Checker:
    def __init__(self, root):
        self.root = root
        self.public = root / "include" / "metro"
        self.src = root / "src"
        self.faults = []
        self.edges = {}  # file -> the files of this repository that it includes
        self.types = {}  # (namespace, name) -> the header that defines it

    def fault(self, path, text):
        self.faults.append(f"{path.relative_to(self.root)}: {text}")

    def layer_of(self, path):
        for folder in ("cuda", "ep"):
            if path.is_relative_to(self.public / folder):
                return folder
        if path.is_relative_to(self.public):
            if path.stem in PUBLIC:
                return PUBLIC[path.stem]
            path = next(self.src.glob(f"*/{path.stem}.cpp"), path)
        if not path.is_relative_to(self.src):
            return None
        parts = path.relative_to(self.src).parts
        return "/".join(parts[:2]) if "/".join(parts[:2]) in BESIDE else parts[0]

    def resolve(self, path, name):
        """The file of this repository that `#include "name"` in `path` means, or None."""
        for folder in (path.parent, self.public.parent, self.src, self.root):
            target = (folder / name).resolve()
            if target.is_file() and target.is_relative_to(self.root):
                return target
        return None

    def fault_of(self, path, name, target):
        """What is wrong with `path` including `target`, or None."""
        if target is None:
            return f'"{name}" is no file of include/ or src/'
        if path.is_relative_to(self.public) and not target.is_relative_to(self.public):
            return f'"{name}": a public header may include public headers only'
        layer, other = self.layer_of(path), self.layer_of(target)
        if other not in allowed_layers(layer):
            return f'"{name}" ({other or "outside the library"}) lies above {layer}'
        return None

    def check_file(self, path):
        if not allowed_layers(self.layer_of(path)):
            self.fault(path, "no layer of tools/check_layers.py is its")
            return
        self.edges[path] = []
        text_of_file = path.read_text(encoding="utf-8")
        if path.suffix in HEADERS:
            self.check_types(path, text_of_file)
        for name in INCLUDE.findall(text_of_file):
            target = self.resolve(path, name)
            text = self.fault_of(path, name, target)
            if text:
                self.fault(path, text)
            if target:
                self.edges[path].append(target)

    def check_types(self, path, text):
        namespace = NAMESPACE.search(text)
        for name in TYPE.findall(text):
            first = self.types.setdefault((namespace and namespace[1], name), path)
            if first != path:
                self.fault(path, f"{name} is a type of {first.relative_to(self.root)} too")

    def check_circles(self):
        """Peels off files that include nothing left, then those that nothing left includes."""
        left = {path: set(targets) & self.edges.keys() for path, targets in self.edges.items()}
        for _ in range(2):
            while leaves := {path for path, targets in left.items() if not targets}:
                left = {path: left[path] - leaves for path in left.keys() - leaves}
            left = {path: {other for other in left if path in left[other]} for path in left}
        for path in sorted(left):
            self.fault(path, "is in an include circle")

    def run(self):
        for path in sorted([*self.public.rglob("*"), *self.src.rglob("*")]):
            if path.suffix in SUFFIXES:
                self.check_file(path)
        self.check_circles()
        if not self.edges:
            self.faults.append(f"{self.root}: no sources found")
        return self.faults


def main(arguments):
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).parents[1]
    faults = Checker(root.resolve()).run()
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
