#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tools behind the pages: tables from data, references from sources, and the site's checks."""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "site")]

import check_site  # noqa: E402
import header_pages  # noqa: E402
import headline  # noqa: E402
import page_parts  # noqa: E402
import python_pages  # noqa: E402


class PageParts(unittest.TestCase):
    MARKER = "<!-- table: headline.csv; where: tokens/GPU=1, placement=homed; columns: trace, optimal as best -->\n"

    def test_a_table_is_put_below_its_comment_and_then_stays(self):
        page, stale = page_parts.updated(f"a\n\n{self.MARKER}\nb\n")
        self.assertEqual(len(stale), 1)
        self.assertIn("| trace | best |\n| --- | ---: |\n", page)
        self.assertEqual(page_parts.updated(page), (page, []))

    def test_a_cell_changed_by_hand_is_told(self):
        page = page_parts.updated(self.MARKER)[0]
        self.assertEqual(len(page_parts.updated(page.replace("homed |", "x |").replace("6.88", "5.00"))[1]), 1)

    def test_a_column_that_is_not_there_is_an_error(self):
        with self.assertRaisesRegex(SystemExit, "did you mean 'optimal'"):
            page_parts.table("headline.csv; columns: optima")

    def test_code_is_the_files(self):
        page = page_parts.updated("<!-- code: examples/route.c -->\n")[0]
        self.assertIn("```c\n/* As route.cpp, in C11. */\n#include <metro/c.h>", page)
        self.assertEqual(len(page_parts.updated(page.replace("homed", "eplb"))[1]), 1)

    def test_every_file_of_results_is_in_the_appendix(self):
        text = "".join(page_parts.appendix().values())
        for path in page_parts.DATA.glob("*.csv"):
            if path.name not in ("headline.csv", "serving-error-summary.csv"):  # on pages, whole
                self.assertIn(f"data/results/{path.name}", text)


class Headline(unittest.TestCase):
    ROW = {"trace": "t.npy", "algorithm": "homed", "policy": "optimal", "gpus": 16, "tokens_per_gpu": 1}

    def test_halves_are_those_of_pairs_at_their_replication(self):
        row = self.ROW | {"max_activated": 6.0, "no_replication": 9.0, "tensor_sharded": 5.0}
        row |= {"vs_even": 0.5, "vs_no_replication": 0.67}
        groups = [
            self.ROW | {"ep": ep, "replication": replication, "max_activated": most}
            for ep, replication, most in [(16, 1.0, 9.0), (8, 1.0, 8.0), (8, 1.125, 7.0), (4, 1.0, 6.5)]
        ]
        header, line = headline.headline([row], headline.halves_of({"rows": groups}, 16))
        cells = dict(zip(header, line, strict=True))
        self.assertEqual((cells["s=2"], cells["s=2 1.125x"]), ("8.00", "7.00"))
        self.assertEqual((cells["EPLB off"], cells["optimal"], cells["moe-TP"]), ("9.00", "6.00", "5.00"))


class References(unittest.TestCase):
    def test_every_public_type_and_function_of_c_is_there(self):
        page = header_pages.pages(ROOT)["reference/c-abi.md"]
        header = (ROOT / "include/metro/c.h").read_text(encoding="utf-8")
        names = {name for name in header_pages.re.findall(r"\bmetro_\w+(?=\()", header)}
        self.assertGreater(len(names), 10)
        for name in names:
            self.assertIn(f"## {name}\n", page)

    def test_words_stand_before_their_declaration(self):
        page = header_pages.pages(ROOT)["reference/router.md"]
        self.assertLess(page.index("Chooses which replica serves each (token, k)"), page.index("class Router {"))
        self.assertEqual([path for path, page in header_pages.pages(ROOT).items() if "## metro\n" in page], [])

    def test_every_public_name_of_python_is_there(self):
        made = python_pages.pages(ROOT)
        page = "".join(text for path, text in made.items() if path.startswith("reference/metro_moe"))
        for name in ["Router", "place", "exact_homes", "RouteResult", "UsageError", "generate_trace"]:
            self.assertIn(f"## {name}\n", page)


REFERENCE = header_pages.pages(ROOT) | python_pages.pages(ROOT)


class Site(unittest.TestCase):
    def faults(self, **pages):
        with tempfile.TemporaryDirectory() as folder:
            site = pathlib.Path(folder).resolve()
            for name, body in pages.items():
                (site / f"{name}.html").write_text(f"<!doctype html><body>{body}</body>", encoding="utf-8")
            read = check_site.read_site(site)
            found = [*check_site.link_faults(site, read)]
            browser = check_site.shutil.which("chromium")
            return found + ([*check_site.browser_faults(site, read, browser)] if browser else [])

    def test_a_good_site_has_none(self):
        self.assertEqual(self.faults(a='<h1 id="x">x</h1><a href="b.html">b</a>', b='<a href="a.html#x">a</a>'), [])

    def test_dead_links_and_anchors_and_foreign_scripts_are_told(self):
        self.assertIn("leads nowhere", self.faults(a='<a href="gone.html">b</a>')[0])
        self.assertIn("no such anchor", self.faults(a='<a href="#y">b</a>')[0])
        self.assertIn("another host", self.faults(a='<img src="https://example.org/x.png">')[0])

    @unittest.skipUnless(check_site.shutil.which("chromium"), "no chromium")
    def test_a_wide_page_is_told(self):
        self.assertIn("508 px wide", self.faults(a='<div style="width:508px;margin:0;position:absolute;left:0">wide</div>', b="")[0])

    def test_a_long_page_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "long.md"
            page.write_text("word " * (check_site.MOST_WORDS + 1), encoding="utf-8")
            self.assertIn("long.md: 1501 words", next(check_site.word_faults([page])))
            self.assertLess(max(len(text.split()) for text in REFERENCE.values()), check_site.MOST_WORDS)


unittest.main()
