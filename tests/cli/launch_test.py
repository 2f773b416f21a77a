# SPDX-License-Identifier: Apache-2.0
"""The launch lines of `metro advise --engine`: a shell reads them, and our plugins know their settings.

    launch_test.py BINARY
"""

import ast
import json
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVING = (
    "--model DeepSeek-V3 --gpu h200 --gpus 16 --isl 64 --osl 32 --num-requests 64 --concurrency 64 --replication 1.125"
)


def run(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def constants(path: str) -> dict:
    """Constants of a Python file whose values are literals or name one another."""
    found: dict = {}
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                found[node.targets[0].id] = ast.unparse(node.value)
    return found


def check_engine(binary: str, engine: str, tp: int) -> None:
    arguments = ["advise", *SERVING.split(), "--tp", str(tp), "--engine", engine]
    result = json.loads(run(binary, *arguments, "--json"))
    advice, rows = result["advice"], result["rows"]
    launch = advice["launch"]
    assert (launch["refusal"] is None) == (launch["row"] == advice["row"]), launch
    table = run(binary, *arguments)
    assert launch["command"] in table, table
    assert all(len(line) < 80 for line in launch["command"].split("\n")), launch["command"]
    subprocess.run(["bash", "-n"], input=launch["command"], text=True, check=True)

    words = shlex.split(launch["command"].replace("\\\n", " "))
    row = rows[launch["row"]]
    if engine == "vllm":
        assert words[words.index("--tensor-parallel-size") + 1] == "4"
        assert words[words.index("--data-parallel-size") + 1] == "4"
        assert any(word.startswith("METRO_VLLM_DECODE=") for word in words), "a serving that replicas help"
        config = json.loads(words[words.index("--eplb-config") + 1]) if "--eplb-config" in words else {}
        assert config.get("num_redundant_experts", 0) == row["redundant_experts"]
        assert ("--enable-expert-parallel" in words) == (row["experts"] == "ep")
        settings = (ROOT / "python/metro_moe/vllm/settings.py").read_text()
        policies = constants("python/metro_moe/vllm/replica_choice.py")["POLICIES"]
        for word in words:
            if word.startswith("METRO_VLLM_"):
                name, value = word.removeprefix("METRO_VLLM_").lower().split("=")
                assert f'    "{name}": (' in settings and (f'"{value}"' in settings or value in policies), word


def main(binary: str) -> None:
    for engine, tp in (("vllm", 4), ("sglang", 4), ("trtllm", 1)):
        check_engine(binary, engine, tp)
    plain = json.loads(run(binary, "advise", *SERVING.split(), "--json"))
    assert plain["advice"]["launch"] is None, "no engine was named"


main(sys.argv[1])
