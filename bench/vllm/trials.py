# SPDX-License-Identifier: Apache-2.0
"""Trials in child processes under a budget: each result is a line of JSON on disk the moment it is known.

A child that hangs, dies or runs out of time loses its own unfinished part alone.
"""

import argparse
import json
import lzma
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import start

ROOT = pathlib.Path(__file__).parents[2]


def make_package(folder, extension):
    """metro_moe as it would be installed: entry point and, where it was given, the compiled extension."""
    folder.mkdir(parents=True)
    package = folder / "metro_moe"
    if extension is not None:
        beside = extension.parent / "metro_moe"  # the Python part that it was built with, where that was carried too
        shutil.copytree(beside if beside.exists() else ROOT / "python/metro_moe", package)
        opened = lzma.open(extension) if extension.suffix == ".xz" else open(extension, "rb")
        with opened as source, open(package / extension.name.removesuffix(".xz"), "wb") as target:
            shutil.copyfileobj(source, target)
    else:  # the plugin alone needs none of the rest
        package.mkdir()
        (package / "__init__.py").write_text("")
        shutil.copytree(ROOT / "python/metro_moe/vllm", package / "vllm")
        shutil.copy(ROOT / "python/metro_moe/homes.py", package)
    info = folder / "metro_moe-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metro-moe\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nmetro = metro_moe.vllm:register\n")


def add_arguments(parser, budget):
    parser.add_argument("--site", help="folder that unpack.py filled")
    parser.add_argument("--out", type=pathlib.Path, help="folder for results (.jsonl), table (.txt) and log")
    parser.add_argument("--extension", type=pathlib.Path, help="compiled _metro of metro_moe (or .xz), for the cuda backend")
    parser.add_argument("--budget", type=float, default=budget, help="seconds for everything")
    parser.add_argument("--child", help=argparse.SUPPRESS)


def report(row):
    """In a child: one result, kept whatever happens next."""
    with open(os.environ["METRO_TRIAL_RESULT"], "a") as out:
        out.write(json.dumps(row) + "\n")


class Bench:
    """Runs children, keeps their rows in OUT/<name>.jsonl and what they print in OUT/<name>.log."""

    def __init__(self, name, args):
        self.args, self.script = args, sys.argv[0]
        self.deadline = time.monotonic() + args.budget
        args.out.mkdir(parents=True, exist_ok=True)
        self.jsonl, self.log = args.out / f"{name}.jsonl", args.out / f"{name}.log"
        self.scratch = pathlib.Path(tempfile.mkdtemp())
        extension = args.extension if args.extension and args.extension.exists() else None
        if args.extension and extension is None:
            raise SystemExit(f"{args.extension} is not there")
        self.has_cuda = extension is not None
        make_package(self.scratch / "package", extension)

    def left(self):
        return self.deadline - time.monotonic()

    def keep(self, rows):
        with open(self.jsonl, "a") as out:
            for row in rows:
                out.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)

    def start(self, name, trial, environment=None):
        return Child(self, name, trial, environment or {})

    def run(self, name, trial, limit, environment=None, tag=None):
        """The rows of one child, each with `tag`; where there is too little time, a row that says so."""
        if self.left() < 20:
            rows = [{"trial": name, "failed": "not run: out of time"}]
            self.keep(rows)
            return rows
        return self.start(name, trial, environment).rows(min(limit, self.left()), tag=tag)


class Child:
    def __init__(self, bench, name, trial, environment):
        self.bench, self.name = bench, name
        self.answer = bench.scratch / f"{name.replace(' ', '-')}.jsonl"
        self.talk = open(self.answer.with_suffix(".log"), "w")
        site = bench.args.site or ""
        path = [bench.scratch / "package", site, pathlib.Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, **start.ENVIRONMENT, **trial.get("env", {}), **environment,
            "PYTHONPATH": ":".join(map(str, path)), "VLLM_CACHE_ROOT": f"{site}/../vllm-cache",
            "METRO_TRIAL_RESULT": str(self.answer),
        }  # fmt: skip
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, bench.script, "--child", json.dumps(trial)], stdout=self.talk, stderr=self.talk,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def rows(self, seconds, keep=True, tag=None):
        """What it reported, and why it ended early if it did; `keep` also writes and prints it."""
        try:
            status = self.process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            status = "out of time"
        try:  # what it left running holds GPU memory
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.talk.close()
        wall = time.monotonic() - self.began
        text = self.answer.with_suffix(".log").read_text(errors="replace")
        with open(self.bench.log, "a") as log:
            log.write(f"\n===== {self.name}: {status}, {wall:.0f} s\n{text[-400000:]}")
        print(f"{self.name}: {status}, {wall:.0f} s", flush=True)
        lines = self.answer.read_text().splitlines() if self.answer.exists() else []
        rows = [{"trial": self.name, **(tag or {}), **json.loads(line)} for line in lines]
        if status != 0:
            tail = text.splitlines()[-30:]
            print("\n".join(tail), flush=True)
            rows.append({"trial": self.name, "failed": f"{status}: {tail[-1][:150] if tail else ''}"})
        if keep:
            self.bench.keep(rows)
        return rows
