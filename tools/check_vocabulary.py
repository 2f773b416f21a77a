#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that one thing has one name: EPLB off, moe-TP, and `ep` for whole experts.

usage: check_vocabulary.py [ROOT]

Prints one line a fault and exits 1 when there is any. A line that keeps an old one for readers of old
files has the words "old spelling" in it, or in the line above.
"""
import pathlib
import re
import sys

FOLDERS = ["src", "apps", "include", "python", "docs", "tools", "examples"]
FILES = ["README.md", "CONTRIBUTING.md", "HACKING.md"]
SUFFIXES = {".hpp", ".cpp", ".h", ".cu", ".cuh", ".js", ".py", ".md", ".json", ".html"}
SELF = "tools/check_vocabulary.py"

# What may not stand, what stands for it, and whether the latter on the same line defines it by the
# former ("EPLB off: no replicas"). Identifiers (`no_replication`, `moe_tp`) are no prose.
RULES = [
    (re.compile(r"\bno[- ]replication\b", re.IGNORECASE), "EPLB off", False),
    (re.compile(r"\bno[- ]replicas\b", re.IGNORECASE), "EPLB off", True),
    (re.compile(r"\bmoe[- ]tp\b", re.IGNORECASE), "moe-TP", False),
    (re.compile(r"\btensor[- ]sharded\b", re.IGNORECASE), "moe-TP", True),
    (re.compile(r"[\"`]expert-parallel[\"`]"), "ep", False),
]


def faults_of(name, text):
    """One line for each spelling in the text that is not the one."""
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        kept = "old spelling" in line or "old spelling" in before
        before = line
        for rule, right, may_define in RULES:
            if kept or (may_define and ("EPLB off" in line or "moe-TP" in line)):
                continue
            for found in rule.finditer(line):
                if found.group() != right:
                    yield f"{name}:{number}: '{found.group()}' is called {right}"


def check(root):
    paths = [root / name for name in FILES]
    for folder in FOLDERS:
        paths += sorted(p for p in (root / folder).rglob("*") if p.suffix in SUFFIXES and p.is_file())
    faults = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != SELF:
            faults += faults_of(name, path.read_text(encoding="utf-8"))
    return faults


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]
    faults = check(root.resolve())
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
