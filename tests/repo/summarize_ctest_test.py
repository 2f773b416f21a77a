#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/summarize_ctest.py must count what ctest's own JUnit dialect says, and never turn green by mistake."""
import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import summarize_ctest  # noqa: E402

PASSED = '<testcase name="a" status="run"/>'
FAILED = '<testcase name="b" status="fail"><failure message=""/></testcase>'
SKIPPED = '<testcase name="c" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase>'
DISABLED = '<testcase name="d" status="disabled"/>'
NOT_BUILT = '<testcase name="e" status="notrun"><skipped message="Unable to find executable"/></testcase>'


class SummarizeCtest(unittest.TestCase):
    def run_on(self, *texts):
        """(exit status, last line) for files of these contents."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(pathlib.Path(folder) / f"{i}.xml") for i in range(len(texts))]
            for path, text in zip(paths, texts):
                if text is not None:
                    pathlib.Path(path).write_text(text, encoding="utf-8")
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = summarize_ctest.main(paths)
        return status, out.getvalue().splitlines()[-1]

    def test_sums_over_files(self):
        first = f"<testsuite>{PASSED}{PASSED}{SKIPPED}</testsuite>"
        second = f"<testsuite>{PASSED}{DISABLED}</testsuite>"
        self.assertEqual(self.run_on(first, second), (0, "3 passed, 0 failed, 2 skipped"))

    def test_failed_and_not_built_fail(self):
        for case in (FAILED, NOT_BUILT):
            with self.subTest(case):
                text = f"<testsuite>{PASSED}{case}</testsuite>"
                self.assertEqual(self.run_on(text), (1, "1 passed, 1 failed, 0 skipped"))

    def test_nothing_ran(self):
        self.assertEqual(self.run_on("<testsuite/>"), (1, "0 passed, 0 failed, 0 skipped"))
        self.assertEqual(
            self.run_on(f"<testsuite>{SKIPPED}</testsuite>"), (1, "0 passed, 0 failed, 1 skipped")
        )

    def test_missing_or_broken_file(self):
        good = f"<testsuite>{PASSED}</testsuite>"
        self.assertEqual(self.run_on(good, None), (1, "1 passed, 0 failed, 0 skipped"))
        self.assertEqual(self.run_on(good, "<testsuite>"), (1, "1 passed, 0 failed, 0 skipped"))


if __name__ == "__main__":
    unittest.main()
