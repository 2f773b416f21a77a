#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Parts of pages that stand elsewhere: tables of results (data/results/*.csv) and code (examples/).

usage: page_parts.py [--write] [PAGE ...]

A page has a comment and below it the part that it asks for; --write puts it there, else a part that
differs is named and the exit status is 1. Without PAGE: README.md and docs/*.md. So no table of results
is typed by hand, and the code on a page is what the tests compile.

    <!-- table: layers.csv; where: EP=8, tokens per GPU=4|32; columns: model, optimal us as time -->
    <!-- code: examples/route.cpp -->

`where` keeps rows whose column has one of the values, `columns` picks and renames; both may be left
out. Of code the first line (SPDX) is left out. `appendix` gives the site's long tables: every file,
whole, as data/results/tables.toml has it.
"""
import argparse
import csv
import difflib
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
DATA = ROOT / "data" / "results"
TABLE = re.compile(r"<!-- table: (?P<spec>[^>]*?) -->\n(?P<part>(?:\|.*\n)*)")
CODE = re.compile(r"<!-- code: (?P<spec>[^>]*?) -->\n(?P<part>(?:```.*\n(?:(?!```).*\n)*```\n)?)")
LANGUAGES = {".cpp": "cpp", ".c": "c", ".cu": "cpp", ".py": "python", ".txt": "cmake", ".sh": "bash"}


def read(name):
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            sys.exit(f"page_parts: data/results/{name}, line {number}: {len(row)} cells, must be {len(header)}")
    return header, rows


def is_number(text):
    return bool(re.fullmatch(r"[-+]?[0-9][0-9,.]*( %)?", text)) or text in ("", "-")


def grouped(text):
    """1234.5 as 1,234.5, for people."""
    whole = re.fullmatch(r"(-?)([0-9]{4,})(\.[0-9]+)?", text)
    return f"{whole[1]}{int(whole[2]):,}{whole[3] or ''}" if whole else text


def markdown(header, rows):
    """Numbers to the right."""
    right = [bool(rows) and all(is_number(row[i]) for row in rows) for i in range(len(header))]
    rule = ["---:" if r else "---" for r in right]
    body = [[grouped(cell) if r else cell for cell, r in zip(row, right, strict=True)] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in [header, rule, *body])


def pick(header, rows, where, columns):
    def index(name):
        if name not in header:
            near = difflib.get_close_matches(name, header, 1)
            sys.exit(f"page_parts: no column '{name}'" + (f", did you mean '{near[0]}'?" if near else ""))
        return header.index(name)

    for name, values in where.items():
        rows = [row for row in rows if row[index(name)] in values]
    if not columns:
        return header, rows
    at = [index(name) for name, _ in columns]
    return [shown for _, shown in columns], [[row[i] for i in at] for row in rows]


def parse(spec):
    """(file, where, columns) of a marker."""
    name, *parts = [part.strip() for part in spec.split(";")]
    where, columns = {}, []
    for part in parts:
        key, _, value = part.partition(":")
        items = [item.strip() for item in value.split(",")]
        if key == "where":
            for item in items:
                column, _, values = item.partition("=")
                where[column] = values.split("|")
        elif key == "columns":
            columns = [(item.partition(" as ")[0], item.partition(" as ")[2] or item) for item in items]
        else:
            sys.exit(f"page_parts: '{key}' in '{spec}', must be where or columns")
    return name, where, columns


def table(spec):
    name, where, columns = parse(spec)
    header, rows = pick(*read(name), where, columns)
    if not rows:
        sys.exit(f"page_parts: '{spec}' has no rows")
    return markdown(header, rows)


def code(spec):
    path = ROOT / spec
    lines = path.read_text(encoding="utf-8").split("\n", 1)
    text = lines[1] if "SPDX" in lines[0] else "\n".join(lines)
    return f"```{LANGUAGES[path.suffix]}\n{text.strip()}\n```\n"


def updated(text):
    """The page with the parts that it asks for, and which of them were others."""
    stale = []
    for kind, pattern, make in [("table", TABLE, table), ("code", CODE, code)]:

        def replace(match, kind=kind, make=make):
            made = make(match["spec"])
            if made != match["part"]:
                stale.append(f"{kind}: {match['spec']}")
            return f"<!-- {kind}: {match['spec']} -->\n{made}"

        text = pattern.sub(replace, text)
    return text, stale


def appendix():
    """{page: Markdown} of all tables, whole: what data/results/tables.toml lists."""
    pages = {}
    for page in tomllib.loads((DATA / "tables.toml").read_text(encoding="utf-8"))["page"]:
        lines = [f"# {page['title']}\n", f"{page['text'].strip()}\n"]
        for entry in page["table"]:
            header, rows = read(entry["file"])
            lines += [f"## {entry['title']}\n", f"{entry['text'].strip()} File: `data/results/{entry['file']}`.\n"]
            by = entry.get("by", [])
            keys = list(dict.fromkeys(tuple(row[header.index(name)] for name in by) for row in rows))
            for key in keys:
                of_key = pick(header, rows, {n: [v] for n, v in zip(by, key, strict=True)}, [])[1]
                kept = [i for i, name in enumerate(header) if name not in by]
                if key:
                    lines.append("### " + ", ".join(f"{n} {v}" for n, v in zip(by, key, strict=True)) + "\n")
                lines.append(markdown([header[i] for i in kept], [[row[i] for i in kept] for row in of_key]))
        pages[f"appendix/{page['name']}.md"] = "\n".join(lines)
    return pages


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("pages", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    pages = arguments.pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    status = 0
    for path in pages:
        before = path.read_text(encoding="utf-8")
        text, stale = updated(before)
        if arguments.write and text != before:
            path.write_text(text, encoding="utf-8")
        elif not arguments.write:
            for spec in stale:
                print(f"{path}: '{spec}' is not what it stands for; run tools/page_parts.py --write", file=sys.stderr)
                status = 1
    appendix()
    sys.exit(status)


if __name__ == "__main__":
    main()
