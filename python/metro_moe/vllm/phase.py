# SPDX-License-Identifier: Apache-2.0
"""What kind of batch a forward context is for, from what vLLM itself decided by."""

from __future__ import annotations

from typing import Any


def is_uniform(context: Any) -> bool:
    return bool(getattr(context.batch_descriptor, "uniform", False))


def is_decode(context: Any) -> bool:
    """Whether every request of this batch has 1 + draft tokens, as all ranks that share it see it."""
    if getattr(context, "ubatch_slices", None) is not None:
        return False  # one of two microbatches
    if is_uniform(context):
        return True
    # A graph that serves other batches too is captured as vLLM would serve it.
    if context.cudagraph_runtime_mode.name != "NONE" or not isinstance(context.attn_metadata, dict):
        return False
    told = (getattr(metadata, "max_query_len", None) for metadata in context.attn_metadata.values())
    lengths = [int(length) for length in told if length is not None]
    return bool(lengths) and max(lengths) == 1


def is_shared(context: Any) -> bool:
    """Whether ranks with batches of their own all see a decode batch of as many rows.

    A full graph of uniform batches is replayed by all ranks or none, with the same number of rows.
    """
    return context.cudagraph_runtime_mode.name == "FULL" and is_uniform(context)
