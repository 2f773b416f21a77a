# SPDX-License-Identifier: Apache-2.0
"""data/constants as the fitting tools read and write it: one list of GPUs for them and the program."""
import hashlib
import json
import pathlib

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "constants"


def architecture(gpu):
    """GPUs that multiply fp4, fp8, or neither are taken to have kernels alike, as in src/cost/kernel_table.cpp."""
    return "blackwell" if gpu["fp4_tflops"] else "hopper" if gpu["fp8_tflops"] else "ampere"


def tflops(gpu, dtype):
    """Rate of the narrowest unit that is at least as wide, as in src/core/gpu.cpp."""
    return gpu[f"{dtype}_tflops"] or gpu["bf16_tflops"]


class Gpus:
    """GPUs by the names of the measured tables: "h200_sxm", "gb200", "rtx_pro_6000"."""

    def __init__(self, path=FOLDER / "gpus.json"):
        self._by_name = {}
        for gpu in json.loads(path.read_text(encoding="utf-8"))["gpus"]:
            for name in [gpu["name"], *gpu.get("aliases", [])]:
                self._by_name[name.lower().replace("-", "_")] = gpu

    def __getitem__(self, name):
        return self._by_name[name.removesuffix("_sxm")]


def source(path, used_for):
    """Names an input by its contents: the file itself is not in this repository (data/README.md)."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "used_for": used_for}


def rounded(value):
    """To four digits: more would only say how the search ended."""
    return float(f"{value:.4g}")


def file_text(document):
    """One line a row of constants, so that a change of one shows as one."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list):
            rows = ",\n".join(f"    {json.dumps(row)}" for row in value)
            lines.append(f'  "{key}": [\n{rows}\n  ]')
        else:
            lines.append(f'  "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
