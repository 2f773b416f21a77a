#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Follows HACKING.md's recipe for a routing policy in copies of the files that it names.

usage: add_policy.py SRC OUT

Writes OUT/routing/policies.hpp with one declaration more and OUT/routing/policy_table.cpp with one row
more, for the policy of tests/recipe/last.cpp. Its price is high, so that results show who reads it.
"""

import pathlib
import sys

DECLARATION = "MakePolicy make_last;\n"
ROW = """    {.name = "last",
     .rule = "each expert's last replica, always",
     .source = "a test",
     .needs = kOwnRows,
     .single_replica = true,
     .headline = true,
     .route_us = 500,
     .calibration_key = "home",
     .make = routing::make_last},
"""


def insert_before(text, anchor, line):
    if text.count(anchor) != 1:
        sys.exit(f"add_policy: {anchor!r} is there {text.count(anchor)} times, must be once")
    return text.replace(anchor, line + anchor)


def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for name, anchor, line in [
        ("policies.hpp", "\n}  // namespace metro::routing", DECLARATION),
        ("policy_table.cpp", "});\n\n}  // namespace\n", ROW),
    ]:
        text = (source / name).read_text(encoding="utf-8")
        (out / name).write_text(insert_before(text, anchor, line), encoding="utf-8")


main()
