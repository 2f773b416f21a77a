# SPDX-License-Identifier: Apache-2.0
"""Which layer a call is for: vLLM gives each layer a row of one tensor and no number."""

from __future__ import annotations


def num_layers(count) -> int:
    """Rows of the tensor [layers, experts] that `count` is a row of."""
    return count.untyped_storage().nbytes() // (count.element_size() * count.numel())


def layer_of(count) -> int:
    return count.storage_offset() // count.numel()


def all_layers(tensor, layers: int):
    """The whole tensor that `tensor` is one layer of; no copy."""
    size = (layers, *tensor.shape)
    stride = (tensor.numel(), *tensor.stride())
    return tensor.as_strided(size, stride, 0)
