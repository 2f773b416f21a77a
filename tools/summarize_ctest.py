#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints `N passed, N failed, N skipped` over the JUnit files that ctest and pytest wrote.

usage: summarize_ctest.py FILE...

Exits 1 when a test failed, none passed, or a file is missing or unreadable.
"""
import sys
import xml.etree.ElementTree as ElementTree


def count(path):
    """(passed, failed, skipped) of one file."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        note = case.find("skipped")
        if status is None:  # pytest: a case without a note has passed
            bad = case.find("failure") is not None or case.find("error") is not None
            failed += bad
            skipped += not bad and note is not None
            passed += not bad and note is None
        elif status == "run":
            passed += 1
        elif status == "disabled":
            skipped += 1
        elif note is not None and note.get("message", "").startswith("SKIP_"):
            skipped += 1
        else:  # failed, timed out, or its program is missing
            failed += 1
    return passed, failed, skipped


def main(paths):
    totals = [0, 0, 0]
    readable = True
    for path in paths:
        try:
            totals = [total + more for total, more in zip(totals, count(path))]
        except (OSError, ElementTree.ParseError) as error:
            print(f"summarize_ctest: {path}: {error}", file=sys.stderr)
            readable = False
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 0 if readable and totals[0] > 0 and totals[1] == 0 else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
