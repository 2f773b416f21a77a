# SPDX-License-Identifier: Apache-2.0
"""What kind of batch is being mapped: decode or not, tokens a request, and whether all ranks know it.

A captured graph is asked once, for all its replays. The V1 runner says in the forward context what the graph
serves; the V2 runner says it in the descriptor that capture.py keeps while the graph is captured.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Batch:
    is_decode: bool
    """Every request of it has the same few tokens: one and its drafts."""
    tokens_per_request: int = 0
    """0 where vLLM does not tell."""
    is_shared: bool = False
    """Ranks with batches of their own replay this graph together, with as many rows, or none of them does."""
    why: str = ""
    """Why it is not decode, or not shared."""


EAGER = "it ran without a graph, so other ranks may serve another phase"


def describe(context: Any, descriptor: Any = None, is_capturing: bool = False) -> Batch:
    """The batch of vLLM's forward `context`; `descriptor` is the V2 runner's while it captures, else None."""
    if getattr(context, "ubatch_slices", None) is not None or getattr(descriptor, "num_ubatches", 1) > 1:
        return Batch(False, why="it is one of two microbatches (DBO)")
    if descriptor is not None:
        return _of_descriptor(descriptor)
    mode = context.cudagraph_runtime_mode.name
    if getattr(context.batch_descriptor, "uniform", False):
        return Batch(True, _longest_query(context), mode == "FULL", "" if mode == "FULL" else EAGER)
    if mode != "NONE":
        return Batch(False, why=f"graphs of mode {mode} serve prefill too")
    if is_capturing:
        return Batch(False, why="vLLM does not say what the graph serves")
    if _longest_query(context) == 1:
        return Batch(True, 1, why=EAGER)
    return Batch(False, why="it is not known to be decode")


def _of_descriptor(descriptor: Any) -> Batch:
    mode = descriptor.cg_mode.name
    # max_query_len stands in decode graphs whose requests have up to so many tokens (0.33, adaptive verification).
    tokens = descriptor.uniform_token_count or getattr(descriptor, "max_query_len", None) or 0
    if mode != "FULL" or not tokens:
        return Batch(False, why=f"graphs of mode {mode} serve prefill too")
    return Batch(True, tokens, True)


def _longest_query(context: Any) -> int:
    """Tokens of the longest request, or 0 where the attention backend does not tell."""
    if not isinstance(context.attn_metadata, dict):
        return 0
    told = (getattr(metadata, "max_query_len", None) for metadata in context.attn_metadata.values())
    return max((int(length) for length in told if length is not None), default=0)
