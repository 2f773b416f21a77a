#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tools/release.py does to texts; the packages themselves are built by .ci/run python-wheel."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import release  # noqa: E402

CMAKE = "cmake_minimum_required(VERSION 3.25)\nproject(metro VERSION 0.1.0 LANGUAGES CXX)\n"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n- This.\n\n## [0.1.0] - 2026-01-02\n- That.\n"


class Release(unittest.TestCase):
    def test_bump_moves_what_was_unreleased_and_leaves_other_versions(self):
        cmake, changelog = release.bumped(CMAKE, CHANGELOG, "0.2.0", "2026-03-04")
        self.assertEqual(cmake, CMAKE.replace("0.1.0", "0.2.0"))
        self.assertIn("## [Unreleased]\n\n## [0.2.0] - 2026-03-04\n\n### Added", changelog)
        self.assertEqual(release.notes_of(changelog, "0.2.0"), "### Added\n- This.\n")
        self.assertEqual(release.notes_of(changelog, "0.1.0"), "- That.\n")

    def test_versions_only_grow(self):
        for version in ("0.1.0", "0.0.9", "1.0", "next"):
            with self.assertRaisesRegex(SystemExit, "must be"):
                release.bumped(CMAKE, CHANGELOG, version, "2026-03-04")
        self.assertEqual(release.version_of(release.bumped(CMAKE, CHANGELOG, "0.10.0", "d")[0]), "0.10.0")

    def test_a_version_without_notes_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "nothing on 0.3.0"):
            release.notes_of(CHANGELOG, "0.3.0")

    def test_this_repository_can_be_bumped(self):
        cmake, changelog = ((ROOT / name).read_text(encoding="utf-8") for name in ("CMakeLists.txt", "CHANGELOG.md"))
        major, *_ = release.version_of(cmake).split(".")
        version = f"{int(major) + 1}.0.0"
        self.assertTrue(release.notes_of(release.bumped(cmake, changelog, version, "2026-03-04")[1], version))

    def test_sums_are_sha256sums(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "a.whl").write_bytes(b"a")
            (folder / "SHA256SUMS").write_text(release.sums_of(folder))
            subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
            self.assertEqual(release.sums_of(folder).count("\n"), 1)

    def test_the_sbom_names_every_component_with_its_licence(self):
        sbom = release.sbom_of("0.1.0", {name: "1" for name in release.LICENCES})
        self.assertEqual(set(release.DEBIAN) | {"nanobind"}, {entry["name"] for entry in sbom["components"]})
        self.assertTrue(all(entry["licenses"][0]["license"]["id"] for entry in sbom["components"]))
        self.assertEqual(sbom["metadata"]["component"]["version"], "0.1.0")


if __name__ == "__main__":
    unittest.main()
