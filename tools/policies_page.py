#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tables of docs/policies.md with those of the program, or writes them.

usage: policies_page.py [--write] METRO

A table stands below a comment that holds the command it came from: <!-- metro policies --markdown -->.
Exits 1 and says which table is out of date, unless it was told to write.
"""

import argparse
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "policies.md"
TABLE = re.compile(r"(<!-- metro (policies [a-z -]*--markdown) -->\n)((?:\|.*\n)*)")


def updated(page, metro):
    """The page with the program's tables, and the commands whose tables were not those."""
    stale, commands = [], []

    def replace(match):
        line = match[2].split()
        table = subprocess.run([metro, *line], check=True, capture_output=True, text=True).stdout
        commands.append(match[2])
        if table != match[3]:
            stale.append(match[2])
        return match[1] + table

    page = TABLE.sub(replace, page)
    if len(commands) != 2:
        sys.exit(f"policies_page: docs/policies.md has {len(commands)} tables, must have 2")
    return page, stale


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("metro")
    arguments = parser.parse_args()
    page, stale = updated(PAGE.read_text(encoding="utf-8"), arguments.metro)
    if arguments.write:
        PAGE.write_text(page, encoding="utf-8")
    elif stale:
        sys.exit(f"policies_page: `metro {stale[0]}` differs from docs/policies.md; run tools/policies_page.py --write")


main()
