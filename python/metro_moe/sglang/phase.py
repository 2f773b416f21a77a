# SPDX-License-Identifier: Apache-2.0
"""Which kind of batch SGLang runs, where its gate asks for the experts' places.

SGLang's forward context lends the batch's own method for its token count, so the batch is behind it: while
a step runs and while a graph of it is captured. `is_extend_in_batch` is agreed by all ranks that share
a batch, a rank's own mode is not: an idle rank takes part in the others' decode step.
"""

from __future__ import annotations

import importlib
from typing import Any


def forward_batch() -> Any:
    """The ForwardBatch that is running or captured, or None."""
    module = importlib.import_module("sglang.srt.model_executor.forward_context")
    if not module.has_forward_context():
        return None
    return getattr(module.get_forward_context().moe_num_token_non_padded, "__self__", None)


def is_decode(batch: Any) -> bool:
    """Whether the step generates only: decode or verification of drafts, on every rank of it."""
    if batch is None or batch.is_extend_in_batch:
        return False
    mode = batch.forward_mode
    return mode.is_decode() or mode.is_target_verify() or mode.is_idle()
