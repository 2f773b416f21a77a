#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program on a terminal: what it prints fits 80 columns, and progress tells rate and time left.

usage: terminal_test.py METRO
"""
import fcntl
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

ROOT = pathlib.Path(__file__).parents[2]
METRO = str(pathlib.Path(sys.argv.pop(1)).resolve())
TRACE = "data/learned/learned-256e-top8-decode.npy"
SERVED = "--model Qwen3-30B-A3B --gpu h100 --isl 16 --osl 16 --num-requests 4 --concurrency 2".split()
GRID = ["--trace", TRACE, "--gpus", "8,16", "--replication", "1.5", "--tokens", "32", "--batches", "2"]


def on_terminal(arguments, columns=80, stream=1):
    """What the program writes to the stream when that is a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams["stdout" if stream == 1 else "stderr"] = theirs
    with tempfile.TemporaryFile() as other:
        streams["stderr" if stream == 1 else "stdout"] = other
        process = subprocess.Popen([METRO, *arguments], cwd=ROOT, **streams)
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            parts.append(part)
        os.close(ours)
        status = process.wait(timeout=120)
    return status, b"".join(parts).decode("utf-8").replace("\r\n", "\n")


def piped(arguments):
    return subprocess.run([METRO, *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


class Terminal(unittest.TestCase):
    def assert_fits(self, arguments, columns=80):
        status, text = on_terminal(arguments, columns)
        self.assertEqual(status, 0, text)
        wide = [line for line in text.split("\n") if len(line) > columns]
        self.assertEqual(wide, [], " ".join(arguments))
        self.assertNotIn("\x1b", text)  # no colours to switch off
        return text

    def test_every_table_fits(self):
        commands = [
            ["policies"],
            ["policies", "--algorithms"],
            ["trace", "info", TRACE],
            ["compare", *GRID],
            ["compare", *GRID, "--policy", "even,hash,home,metro-paper,metro,optimal,single,random"],
            ["compare", *GRID, "--ep", "4,2"],
            ["simulate", *SERVED, "--gpus", "8"],
            ["sweep", *SERVED, "--gpus", "4,8"],
            ["advise", *SERVED, "--gpus", "8"],
            ["advise", *SERVED, "--gpus", "8", "--slo-tpot-ms", "10"],
            ["bench", "route", "--experts", "64", "--gpus", "8", "--tokens", "32", "--rounds", "2"],
            ["bench", "layer", "--model", "Qwen3-30B-A3B", "--gpus", "2", "--tokens-per-gpu", "1", "--batches", "1",
             "--hidden", "64", "--intermediate", "64"],
        ]
        for arguments in commands:
            with self.subTest(" ".join(arguments)):
                self.assert_fits(arguments)

    def test_help_fits_and_keeps_its_words(self):
        for command in (["compare"], ["simulate"], ["bench", "layer"], ["calibrate"], []):
            with self.subTest(" ".join(command)):
                text = self.assert_fits([*command, "--help"])
                self.assertEqual("".join(text.split()), "".join(piped([*command, "--help"]).split()))

    def test_what_matters_stays(self):
        text = self.assert_fits(["compare", *GRID, "--policy", "even,hash,home,metro-paper,metro,optimal,single,random"])
        header = next(line for line in text.split("\n") if line.startswith("placement"))
        for name in ("moe-TP", "EPLB off", "even", "optimal"):
            self.assertIn(name, header)
        self.assertRegex(text, r"Left out for lack of room: .*random")

    def test_wide_terminals_pipes_and_wide_have_all_columns(self):
        arguments = ["policies"]
        def header(text):
            return text.split("\n", 1)[0]

        self.assertIn("timed as", header(piped(arguments)))
        self.assertNotIn("timed as", header(self.assert_fits(arguments)))
        self.assertIn("timed as", header(self.assert_fits(arguments, 160)))
        self.assertEqual(on_terminal([*arguments, "--wide"])[1], piped(arguments))

    def test_json_on_a_terminal_is_one_object_as_in_a_pipe(self):
        self.assertEqual(on_terminal(["policies", "--json"])[1], piped(["policies", "--json"]))

    def test_progress_tells_share_rate_and_time_left(self):
        batches = GRID[:-1] + ["20000"]
        status, text = on_terminal(["compare", *batches, "--policy", "even,optimal"], stream=2)
        self.assertEqual(status, 0, text)
        shown = text.split("\r\x1b[K")
        self.assertTrue(all(len(part) < 80 for part in shown), shown)
        self.assertTrue(all(re.match(r"metro: comparing on learned-256e-top8-decode.npy [0-9]+ %|^$", part) for part in shown), shown)
        self.assertRegex(text, r"[0-9]+ %, [0-9]+ of [0-9]+, [0-9.]+/s, [0-9]+ s left")
        self.assertEqual(shown[-1], "", "the line is wiped")

    def test_no_progress_where_nobody_looks(self):
        done = subprocess.run([METRO, "compare", *GRID], cwd=ROOT, check=True, capture_output=True, text=True)
        self.assertEqual(done.stderr, "")

    def test_version_names_compilers(self):
        lines = piped(["--version"]).split("\n")
        self.assertRegex(lines[0], r"^metro [0-9]+\.[0-9]+\.[0-9]+$")
        self.assertRegex("\n".join(lines[1:]), r"(commit [0-9a-f]{12}(-dirty)?\n)?compiled by \w+ [0-9.]+, (CUDA [0-9.]+ for|without CUDA)")


class Shells(unittest.TestCase):
    def complete(self, *words):
        script = 'source <("$0" completion); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _metro; echo "${COMPREPLY[@]}"'
        return subprocess.run(["bash", "-c", script, METRO, *words], check=True, capture_output=True, text=True).stdout.split()

    def test_bash_completes_commands_and_options(self):
        self.assertEqual(self.complete("metro", "comp"), ["compare", "completion"])
        self.assertEqual(self.complete("metro", "trace", "con"), ["convert"])
        self.assertEqual(self.complete("metro", "trace", "convert", "x.npy", "--layers"), ["--layers-first"])
        self.assertEqual(self.complete("metro", "place", "--gpus", "8", "--alg"), ["--algorithm"])

    def test_every_option_is_in_every_shell_and_manual(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([METRO, "completion", "--write", folder], check=True, capture_output=True)
            root = pathlib.Path(folder)
            files = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
        self.assertGreater(len([name for name in files if name.startswith("man/man1/metro-")]), 15)
        options = re.findall(r"^  (--[a-z][a-z-]+)", piped(["simulate", "--help"]), re.M)
        self.assertGreater(len(options), 30)
        fish = files["fish/vendor_completions.d/metro.fish"]
        for option in options:
            self.assertIn(option, files["bash-completion/completions/metro"])
            self.assertIn(option, files["zsh/site-functions/_metro"])
            self.assertIn(f"-l {option[2:]} ", fish)
            self.assertIn(option.replace("-", "\\-"), files["man/man1/metro-simulate.1"])


if __name__ == "__main__":
    unittest.main()
