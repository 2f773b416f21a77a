# SPDX-License-Identifier: Apache-2.0
"""What the V2 runner's graphs serve, known to the layers while they are captured.

The V2 runner replays FULL graphs without a forward context, and captures them with one that names no kind. Its
graph managers (target's and drafters') all end in CudaGraphManager.capture, which has the descriptor of each
graph at hand: it is kept in a global of this module while inputs are made and while the forward runs.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from metro_moe.vllm import seams

descriptor: Any = None  # not thread-local: microbatches run the model in threads that were started before


def _with_descriptor(value: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def called(*arguments: Any, **more: Any) -> Any:
        global descriptor
        before, descriptor = descriptor, value
        try:
            return call(*arguments, **more)
        finally:
            descriptor = before

    return called


def publish_descriptors(patches: seams.Patches) -> None:
    """Wraps the capture of every graph manager. Raises Unsupported where it looks different."""
    owner = getattr(importlib.import_module(seams.GRAPH_MANAGER_MODULE), seams.GRAPH_MANAGER, None)
    if owner is None:
        raise seams.Unsupported(f"{seams.GRAPH_MANAGER_MODULE} has no {seams.GRAPH_MANAGER}")
    seams.check_parameters(owner.capture, ["create_forward_fn"])

    def make(stock):
        def capture(this, create_forward_fn, *rest, **more):
            def create(desc, *arguments, **options):
                made = _with_descriptor(desc, create_forward_fn)(desc, *arguments, **options)
                if isinstance(made, tuple):  # 0.25: with the attention state
                    return (_with_descriptor(desc, made[0]), *made[1:])
                return _with_descriptor(desc, made)

            return stock(this, functools.wraps(create_forward_fn)(create), *rest, **more)

        return capture

    patches.wrap(owner, "capture", make)


def watch_runners(patches: seams.Patches, begin: Callable[[], None], end: Callable[[], None]) -> list[str]:
    """`begin` before and `end` after a runner captures its graphs; the runners that are loaded."""
    found = []
    for name, module in seams.RUNNERS.items():
        owner = getattr(sys.modules.get(module), "GPUModelRunner", None)
        if owner is None:
            continue

        def make(stock):
            def capture_model(this, *rest, **more):
                begin()
                result = stock(this, *rest, **more)
                if not more.get("profile_only"):  # graphs that are thrown away
                    end()
                return result

            return capture_model

        patches.wrap(owner, "capture_model", make)
        found.append(name)
    return found
