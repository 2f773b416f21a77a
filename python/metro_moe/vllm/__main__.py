# SPDX-License-Identifier: Apache-2.0
"""`python -m metro_moe.vllm check [MODEL]`: what would be bound in the vLLM that is installed here. Needs no GPU."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

try:
    from metro_moe.vllm import seams
    from metro_moe.vllm.settings import Settings
except ImportError as missing:  # torch comes with vLLM
    print(f"metro: vLLM is not installed here: {missing}", file=sys.stderr)
    raise SystemExit(3) from None

EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")


def parameters(module: str, name: str, owner: str = "", want: list[str] | None = None) -> Callable[[], Any]:
    """A check that the function is there and takes `want` first."""

    def check() -> None:
        found: Any = importlib.import_module(module)
        for part in [part for part in (owner, name) if part]:
            found = getattr(found, part, None)
            if found is None:
                raise seams.Unsupported(f"{module} has no {part}")
        seams.check_parameters(found, want or [])

    return check


SEAMS = {  # what: (what needs it, the check)
    "mapping of experts to replicas": ("every policy", seams.mapping_function),
    "order of replicas at a commit": (
        "home", parameters(seams.EPLB_STATE, "compute_logical_maps", want=["physical_to_logical_map"])),
    "start of the EPLB state": ("spread start", parameters(seams.EPLB_STATE, seams.EPLB_START, "EplbState")),
    "weights of a layer": (
        "spread start", parameters(seams.EXPERTS_MODULE, "load_weights", seams.EXPERTS_CLASS, ["weights"])),
    "a model's tables": (
        "home, names, settings by additional_config",
        parameters(seams.EPLB_STATE, "add_model", "EplbState", ["model", "model_config"])),
    "commit of all layers": ("optimal", parameters(seams.EPLB_STATE, "_commit_eplb_maps")),
    "commit of one layer": ("optimal", parameters(seams.EPLB_STATE, "_commit_eplb_maps_for_layer")),
    "graphs of the V2 runner": (
        "decode on the V2 runner",
        parameters(seams.GRAPH_MANAGER_MODULE, "capture", seams.GRAPH_MANAGER, ["create_forward_fn"])),
    "batch gathered by data parallelism": (
        "optimal and metro under DP",
        parameters(seams.GATHER_MODULE, "prepare", seams.GATHER_CLASS, ["a1", "topk_weights", "topk_ids"])),
    "placement policies": ("placement=homed", lambda: importlib.import_module(seams.EPLB_POLICY).EPLB_POLICIES["default"]),
    "stat loggers": ("metrics", parameters(seams.LOGGERS, "AggregateStatLoggerBase")),
}  # fmt: skip


def check_seams(say: Callable[[str], None]) -> bool:
    """One line a seam; whether the mapping itself is there."""
    is_there = True
    for what, (needed_by, check) in SEAMS.items():
        try:
            check()
            say(f"  found    {what} ({needed_by})")
        except Exception as error:
            is_there = is_there and check is not seams.mapping_function
            say(f"  MISSING  {what} ({needed_by}): {type(error).__name__}: {error}")
    return is_there


def router() -> str:
    from metro_moe import cuda

    return "built" if cuda.is_built() else "not built (docs/python.md): decode=optimal is refused, decode=auto is home"


def model_lines(model: str) -> list[str]:
    """What the model's config.json says of its experts."""
    path = pathlib.Path(model)
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{model}: no config.json that can be read ({error}); give the folder of a model") from None
    config = config.get("text_config", config)
    experts = next((config[key] for key in EXPERTS if config.get(key)), 0)
    name = ", ".join(config.get("architectures") or ["unknown architecture"])
    if not experts:
        return [f"{model}: {name}: no experts, so nothing is mapped"]
    from metro_moe.vllm import spread

    loops = set(config.get("architectures") or ["?"]) <= spread.LOAD_BY_THE_MAP
    start = "spread" if loops else "spread if its layers load a tensor an expert (the log says)"
    return [f"{model}: {name}: {experts} experts; start of redundant experts: {start}"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m metro_moe.vllm", description=__doc__)
    parser.add_argument("command", choices=["check"])
    parser.add_argument("model", nargs="?", help="folder of a model, or its config.json")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.read()
    except ValueError as error:
        print(f"metro: {error}", file=sys.stderr)
        return 2
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        version = seams.version()
    except ImportError as error:
        print(f"metro: vLLM is not installed here: {error}", file=sys.stderr)
        return 3
    known = seams.is_known(version)
    print(f"vLLM {version}: {'tested' if known else 'not tried; known are ' + ', '.join(seams.KNOWN_VERSIONS)}")
    is_there = check_seams(print)
    print(f"router on the GPU: {router()}")
    served = settings.policy if known or settings.any_version or settings.policy == "hash" else "home"
    if not known and settings.strict:
        served = "hash (METRO_VLLM_STRICT=1)"
    print(f"settings: decode={settings.policy}, prefill={settings.prefill}; decode batches would be served by "
          f"{served if is_there else 'hash, which is vLLM alone'}")  # fmt: skip
    if not settings.is_on:
        print("nothing is asked for: set METRO_VLLM_DECODE=home")
    for line in model_lines(options.model) if options.model else []:
        print(line)
    return 0 if is_there else 4


if __name__ == "__main__":
    sys.exit(main())
