# SPDX-License-Identifier: Apache-2.0
"""What was captured: which policy serves which graphs of each model, and why not the one that was asked for."""

from __future__ import annotations

import collections
from typing import Any


class Graphs:
    """Filled while graphs are captured, by every layer; a graph counts once."""

    def __init__(self, wanted: str):
        self.wanted = wanted
        self.clear()

    def clear(self) -> None:
        """Before a capture: graphs of an earlier one, which only measured memory, are gone."""
        self.found: dict[str, dict[str, set[tuple[int, int]]]] = {}
        self.reasons: dict[str, collections.Counter[str]] = {}

    def add(self, model: str, policy: str, rows: int, batch: Any, why: str) -> None:
        tokens = batch.tokens_per_request if batch.is_decode else 0
        self.found.setdefault(model, {}).setdefault(policy, set()).add((rows, tokens))
        if why:
            self.reasons.setdefault(model, collections.Counter())[why] += 1

    def served(self) -> dict[str, dict[str, int]]:
        """Graphs by model and policy."""
        return {model: {name: len(graphs) for name, graphs in found.items()} for model, found in self.found.items()}

    def lines(self) -> list[tuple[str, bool]]:
        """One line a model, and whether it is what was asked for."""
        said = []
        wanted = {"home", "optimal"} if self.wanted == "auto" else {self.wanted}
        for model, found in self.found.items():
            parts = []
            for policy in sorted(found.keys() & wanted):
                rows = sorted({rows for rows, _ in found[policy]})
                tokens = sorted({tokens for _, tokens in found[policy] if tokens})
                each = f", tokens a request: {' or '.join(map(str, tokens))}" if tokens else ""
                parts.append(f"{policy} in {len(found[policy])} decode graph(s) of {_span(rows)} rows{each}")
            if parts or self.wanted == "hash":
                said.append((f"{model}: captured: {'; '.join(parts) or 'hash'}", True))
            else:
                why = self.reasons.get(model, collections.Counter()).most_common(1)
                said.append((f"{model}: no captured graph is served by {self.wanted}: "
                             f"{why[0][0] if why else 'none was for decode'}", False))  # fmt: skip
        if not self.found and self.wanted != "hash":
            said.append((f"no captured graph maps experts, so {self.wanted} serves batches without a graph alone", False))
        return said


def _span(rows: list[int]) -> str:
    return str(rows[0]) if len(rows) == 1 else f"{rows[0]} to {rows[-1]}"
