#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""data/constants: each file follows its schema, no GPU stands in a tool too, and the fit gives them again.

usage: constants_test.py [schemas | fit]

`fit` needs numpy and the measured tables (../shared/data/silicon beside the repository, or the folder
METRO_SILICON): without them it exits with 77 and says so.
"""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CONSTANTS = ROOT / "data" / "constants"
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int}


def faults(schema, value, path):
    """The keywords that our schemas use; where jsonschema is installed it has the last word."""
    if "const" in schema and value != schema["const"]:
        yield f"{path} is {value!r}, must be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {value!r}, must be one of {schema['enum']}"
    wanted = schema.get("type")
    if wanted and (not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")):
        yield f"{path} is {value!r}, must be of type {wanted}"
        return
    if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        yield f"{path} is {value}, must be in {schema['minimum']}..{schema['maximum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path} is {value!r}, must match {schema['pattern']}"
    if isinstance(value, (str, list)):
        least = schema.get("minLength", schema.get("minItems", 0))
        if not least <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{path} has a length of {len(value)}"
    if isinstance(value, list):
        for i, element in enumerate(value):
            yield from faults(schema["items"], element, f"{path}[{i}]")
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                yield f"{path}.{key} is missing"
        for key, member in value.items():
            if key not in schema.get("properties", {}):
                yield f"{path}.{key} is no field of the schema"
            else:
                yield from faults(schema["properties"][key], member, f"{path}.{key}")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def check_schemas():
    names = sorted(path.stem for path in CONSTANTS.glob("*.json"))
    assert names == ["engines", "gpus", "kernels"], names
    for name in names:
        schema, document = load(ROOT / "docs" / "schemas" / f"{name}.json"), load(CONSTANTS / f"{name}.json")
        found = list(faults(schema, document, name))
        assert not found, found
        # It can fail: each field of the first row, gone or of another type, is a fault.
        for key, rows in document.items():
            row = rows[0] if isinstance(rows, list) else rows
            for field in schema["properties"][key].get("items", {}).get("required", []):
                for broken in (None, {}):
                    changed = {k: v for k, v in row.items() if k != field}
                    if broken is not None:
                        changed[field] = broken
                    assert list(faults(schema, {**document, key: [changed]}, name)), (name, key, field)
        try:
            import jsonschema
        except ImportError:
            continue
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(document, schema)


def check_one_list_of_gpus():
    for gpu in load(CONSTANTS / "gpus.json")["gpus"]:
        for rate in (gpu["memory_tb_s"], gpu["bf16_tflops"]):
            for path in [*(ROOT / "src").rglob("*.?pp"), *(ROOT / "tools").glob("*.py")]:
                text = path.read_text(encoding="utf-8")
                twice = re.search(rf'{gpu["name"]}\W.*(?<![\w.]){re.escape(str(rate))}(?![\w.])', text, re.IGNORECASE)
                assert not twice, f"{path}: {twice[0]!r}: GPUs stand in data/constants/gpus.json alone"


def check_fit():
    silicon = pathlib.Path(os.environ.get("METRO_SILICON", ROOT / ".." / "shared" / "data" / "silicon"))
    kernels = load(CONSTANTS / "kernels.json")
    missing = [s["file"] for s in kernels["source"] if not (silicon / s["file"]).is_file()]
    if missing:
        print(f"skipped: no {missing[0]} at {silicon}")
        return 77
    try:
        import numpy  # noqa: F401
    except ImportError:
        print("skipped: no numpy")
        return 77
    for source in kernels["source"]:
        digest = hashlib.sha256((silicon / source["file"]).read_bytes()).hexdigest()
        assert digest == source["sha256"], f"{source['file']} is another one than the constants are of"
    again = subprocess.run([sys.executable, ROOT / "tools" / "fit_kernels.py", silicon],
                           check=True, capture_output=True, text=True).stdout
    assert again == (CONSTANTS / "kernels.json").read_text(encoding="utf-8"), "the fit gives another kernels.json"
    return 0


def main(what):
    if what == "fit":
        return check_fit()
    check_schemas()
    check_one_list_of_gpus()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["schemas"]))
