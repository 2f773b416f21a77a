#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints, as one shell script, what a page tells a newcomer to do. usage: page_commands.py NAME PAGE.md ...

What counts stands below a comment, in the order of the pages:

    <!-- newcomer: NAME, ... -->          commands, as they are
    <!-- newcomer-file: NAME PATH -->     a file to save under PATH

Nothing else is run, so a page that leaves a step out fails.
"""
import pathlib
import re
import shlex
import sys

PART = re.compile(
    r"<!-- newcomer(?P<file>-file)?: (?P<spec>[^>]*?) -->\n(?:<!-- code: [^>]* -->\n)?```\w*\n(?P<text>.*?)^```$", re.M | re.S
)


def parts(name, page):
    for match in PART.finditer(page):
        if match["file"]:
            who, path = match["spec"].split()
            if who == name:
                end = "END_OF_FILE"
                yield f"mkdir -p {shlex.quote(str(pathlib.PurePath(path).parent))}\ncat >{path} <<'{end}'\n{match['text']}{end}\n"
        elif name in match["spec"].split(", "):
            yield match["text"]


def main():
    name, *pages = sys.argv[1:]
    for path in pages:
        found = list(parts(name, pathlib.Path(path).read_text(encoding="utf-8")))
        if not found:
            sys.exit(f"page_commands: {path} has nothing for {name}")
        print(f"echo '== {path}'")
        print("\n".join(found))


if __name__ == "__main__":
    main()
