# SPDX-License-Identifier: Apache-2.0
"""What SGLang's expert distribution recorder dumps (.pt), as traces and loads.

Mode `per_token` writes a file for each rank: {"records": [...], "last_physical_to_logical_map"}; a
record is one forward pass, with topk_ids_of_layer int32 [layers, tokens, 8] of physical experts. Mode
`stat` writes {"logical_count": [steps, layers, experts]}.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_moe._metro import RoutingTrace
from metro_moe.errors import InputError

_EXTEND, _DECODE, _MIXED, _TARGET_VERIFY, _SPLIT_PREFILL = 1, 2, 3, 5, 8
# SGLang's ForwardMode. A pass that verifies drafts is a decode pass to the experts.
_MODES = {
    "prefill": {_EXTEND, _SPLIT_PREFILL},
    "decode": {_DECODE, _TARGET_VERIFY},
    "mixed": {_EXTEND, _DECODE, _MIXED, _TARGET_VERIFY, _SPLIT_PREFILL},
}


def load_recording(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Loads one .pt file with torch, which must be installed. Tensors only: runs no code of the file."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{os.fspath(path)}: reading .pt files needs torch") from error
    try:
        dump = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler does
        raise InputError(f"{os.fspath(path)}: cannot be read: {error}") from error
    if not isinstance(dump, dict):
        raise InputError(f"{os.fspath(path)}: holds {type(dump).__name__}, must be a recorder's dictionary")
    return dump


def read_recording(paths: Iterable[str | os.PathLike[str]], **options: Any) -> RoutingTrace:
    """`recorded_trace` of the files of all ranks."""
    return recorded_trace([load_recording(path) for path in paths], **options)


def recorded_loads(dump: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Tokens per [layer, expert] of a dump in mode `stat`, what `place` takes. Dense layers stay zero."""
    if "logical_count" not in dump:
        raise InputError("the dump has no logical_count: record with mode stat")
    counts = np.asarray(dump["logical_count"])
    if counts.ndim not in (2, 3) or counts.dtype.kind not in "iu":
        raise InputError(f"logical_count is {counts.dtype} of shape {counts.shape}, must be [steps, layers, experts]")
    return counts.reshape(-1, *counts.shape[-2:]).sum(axis=0, dtype=np.float64)


def recorded_trace(
    dumps: Iterable[Mapping[str, Any]],
    *,
    phase: str = "decode",
    num_experts: int | None = None,
    model: str = "",
    licence: str = "",
) -> RoutingTrace:
    """A trace of logical experts from the `per_token` dumps of one or all ranks.

    `phase` picks the passes: "decode" (verified drafts too), "prefill", or "mixed", all of them.
    Layers, top-k columns and tokens that are empty throughout (dense layers, a top-k below 8, padding)
    are left out. Ranks that recorded the same tokens (tensor parallelism) count once. Decode passes are
    chained to sequences by the tokens' positions; where a request ends just as another one at its
    position moves up, the two become one sequence.
    """
    if phase not in _MODES:
        raise InputError(f"phase is {phase!r}, must be one of {', '.join(_MODES)}")
    passes, largest = _passes(dumps, phase)
    sequences = _sequences(passes)
    if not sequences:
        raise InputError(f"the recording has no {phase} pass with tokens")
    ids = np.concatenate([tokens for _, tokens, _ in passes])
    order = np.concatenate([np.asarray(sequence) for sequence in sequences])
    ids = ids[order]
    used = ids >= 0
    ids = ids[:, used.any(axis=(0, 2))][:, :, used.any(axis=(0, 1))]
    if ids.size == 0:
        raise InputError("the recording has no expert in any layer")
    experts = largest + 1 if num_experts is None else num_experts
    ids.setflags(write=False)
    return RoutingTrace(
        np.ascontiguousarray(ids),
        experts,
        model=model,
        phase=phase,
        sequence_lengths=[len(sequence) for sequence in sequences],
        source="SGLang expert distribution recorder",
        licence=licence,
    )


def _passes(dumps: Iterable[Mapping[str, Any]], phase: str) -> tuple[list[tuple], int]:
    """The passes of this phase as (record, ids [tokens, layers, k], rank), by rank and time; and the
    largest expert of any map."""
    chosen, seen, largest = [], set(), 0
    for dump in dumps:
        if "records" not in dump or "last_physical_to_logical_map" not in dump:
            raise InputError("the dump has no records: record with mode per_token")
        to_logical = np.asarray(dump["last_physical_to_logical_map"])
        if to_logical.ndim != 2 or to_logical.size == 0:
            raise InputError(f"last_physical_to_logical_map has shape {to_logical.shape}, must be [layers, physical]")
        largest = max(largest, int(to_logical.max()))
        for index, record in enumerate(dump["records"]):
            if "topk_ids_of_layer" not in record:
                raise InputError(f"records[{index}] has no topk_ids_of_layer: record with mode per_token")
            if int(record["forward_mode"]) not in _MODES[phase]:
                continue
            ids = _logical(np.asarray(record["topk_ids_of_layer"]), to_logical, index)
            key = (record.get("forward_pass_id"), ids.tobytes())
            if key[0] is not None and ids.size and key in seen:
                continue
            seen.add(key)
            chosen.append((record, ids, record.get("rank", 0)))
    chosen.sort(key=lambda item: (item[2], item[0].get("forward_pass_id") or 0))
    return chosen, largest


def _logical(physical: npt.NDArray[Any], to_logical: npt.NDArray[Any], index: int) -> npt.NDArray[np.int32]:
    """[layers, tokens, k] physical as [tokens, layers, k] logical ids."""
    name = f"records[{index}].topk_ids_of_layer"
    if physical.ndim != 3 or physical.dtype.kind not in "iu" or physical.shape[0] != len(to_logical):
        raise InputError(f"{name} is {physical.dtype} of shape {physical.shape}, must be [{len(to_logical)}, tokens, k]")
    bad = np.argwhere((physical < -1) | (physical >= to_logical.shape[1]))
    if len(bad):
        layer, token, k = bad[0]
        raise InputError(
            f"{name}[{layer}][{token}][{k}] is {physical[layer, token, k]}, "
            f"must be a physical expert 0..{to_logical.shape[1] - 1} or -1"
        )
    layers = np.arange(len(to_logical))[:, None, None]
    logical = np.where(physical < 0, -1, to_logical[layers, np.maximum(physical, 0)])
    return logical.transpose(1, 0, 2).astype(np.int32)


def _sequences(passes: list[tuple]) -> list[list[int]]:
    """Rows of the concatenated passes, grouped to sequences."""
    sequences: list[list[int]] = []
    begin, last_rank = 0, None
    running: list[tuple[int, list[int]]] = []  # (position, sequence) of the last decode pass, in order
    for record, ids, rank in passes:
        count = len(ids)
        positions = list(record.get("positions") or range(count))[:count]
        if len(positions) < count:
            raise InputError(f"a record has {len(positions)} positions for {count} tokens")
        if rank != last_rank:
            running, last_rank = [], rank
        rows = [row for row in range(count) if (ids[row] >= 0).any()]
        if int(record["forward_mode"]) == _DECODE:
            running = _chain(running, rows, positions, begin, sequences)
        else:
            previous = None
            for row in rows:
                if previous is not None and positions[row] == positions[previous] + 1 == positions[row - 1] + 1:
                    sequences[-1].append(begin + row)
                else:
                    sequences.append([begin + row])
                previous = row
        begin += count
    return sequences


def _chain(running, rows, positions, begin, sequences):
    """Gives each row of a decode pass to the sequence that it continues. Requests keep their order:
    finished ones drop out, new ones join behind."""
    following, left = [], iter(running)
    for row in rows:
        sequence = next((s for position, s in left if position + 1 == positions[row]), None)
        if sequence is None:
            sequence = []
            sequences.append(sequence)
        sequence.append(begin + row)
        following.append((positions[row], sequence))
    return following
