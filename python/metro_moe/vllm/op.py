# SPDX-License-Identifier: Apache-2.0
"""torch.ops.metro.map_to_physical: the hot path as one op, opaque to torch.compile, with a fake.

`optimal` is served by the router in `exact`, if one was set; the other policies by Triton.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import library as torch_ops

from metro_moe.vllm import checksum as checksums
from metro_moe.vllm import replica_choice

_SCHEMA = (
    "map_to_physical(Tensor topk_ids, Tensor(a!) load, Tensor table, Tensor count, Tensor record, "
    "Tensor? num_real, Tensor? batch_ids, str policy, int num_gpus, Tensor(b!)? checksum=None) -> Tensor"
)

exact: Any = None  # a CudaBackend
_library = None  # the op lives as long as this does


def _map(topk_ids, load, table, count, record, num_real, batch_ids, policy, num_gpus, checksum=None):
    if policy == "optimal":
        return exact.map(topk_ids, load, table, count, record, num_real, num_gpus, checksum)
    out = replica_choice.map_to_physical_and_record(
        topk_ids, load, table, count, record, num_real, policy=policy, num_gpus=num_gpus, batch_ids=batch_ids
    )
    if checksum is not None:
        checksums.add(checksum, out, num_real)
    return out


def _fake(topk_ids, load, table, count, record, num_real, batch_ids, policy, num_gpus, checksum=None):
    return torch.empty_like(topk_ids, memory_format=torch.contiguous_format)


def map_to_physical():
    """The op, registered on the first call."""
    global _library
    if _library is None:
        library = torch_ops.Library("metro", "FRAGMENT")
        library.define(_SCHEMA)
        library.impl("map_to_physical", _map, "CompositeExplicitAutograd")
        torch_ops.register_fake("metro::map_to_physical", _fake, lib=library)
        _library = library
    return torch.ops.metro.map_to_physical.default
