# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed."""

import ast
import importlib.metadata
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import metro_moe
from metro_moe import cuda

FOLDER = pathlib.Path(metro_moe.__file__).parent


def test_the_version_is_the_librarys():
    version = re.search(r"project\(metro VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert metro_moe.__version__ == version
    try:
        assert importlib.metadata.version("metro-moe") == version
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from the build folder")


def test_the_wheel_has_the_program():
    try:
        files = importlib.metadata.files("metro-moe") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from the build folder")
    programs = [file.locate() for file in files if file.name == "metro" and "bin" in file.parts]
    assert len(programs) == 1
    said = subprocess.check_output([programs[0], "--version"], text=True)
    assert said.startswith(f"metro {metro_moe.__version__}\n")
    assert any(file.name == "metro-advise.1" for file in files)


def test_all_is_typed():
    assert (FOLDER / "py.typed").exists()
    stub = (FOLDER / "_metro.pyi").read_text()
    ast.parse(stub)
    # What nanobind has no Python type for is spelled as in C++, and fails when it is called.
    assert not re.findall(r"(?:std|metro|nanobind)::[\w:]+", stub)
    described = {node.name for node in ast.parse(stub).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    described |= {node.target.id for node in ast.parse(stub).body if isinstance(node, ast.AnnAssign)}
    assert set(metro_moe.__all__) & set(dir(metro_moe._metro)) - {"__version__", "algorithms"} <= described


def names_and_words(stub):
    """{dotted name: docstring} of a stub's classes and functions; overloads add up."""
    found = {}

    def visit(nodes, prefix):
        for node in nodes:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                name = prefix + node.name
                found[name] = found.get(name, "") + (ast.get_docstring(node) or "")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, name + ".")

    visit(ast.parse(stub).body, "")
    return found


def test_the_reference_has_the_stub():
    if "class CudaRouter" in (FOLDER / "_metro.pyi").read_text() or cuda.is_built():
        pytest.skip("the reference is of the build without CUDA")
    committed, built = ((folder / "_metro.pyi").read_text() for folder in (ROOT / "python", FOLDER))
    assert names_and_words(committed) == names_and_words(built), "copy the build's _metro.pyi to python/"


def test_all_has_words():
    for name in metro_moe.__all__:
        if name != "__version__":
            assert getattr(metro_moe, name).__doc__, name


def test_importing_imports_no_framework():
    code = (
        "import sys, metro_moe, metro_moe.cuda, metro_moe.sglang, metro_moe.tensorrt_llm;"
        "print([m for m in ('torch', 'cupy', 'jax', 'vllm', 'sglang') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_plugins_check_without_vllm_says_so():
    """A wheel is installed where there is no torch too."""
    found = importlib.util.find_spec("vllm")
    if found is not None and found.origin is not None:  # the folder beside this file has none
        pytest.skip("vLLM is installed")
    done = subprocess.run([sys.executable, "-m", "metro_moe.vllm", "check"], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("metro: vLLM is not installed here: ") and done.stderr.count("\n") == 1
