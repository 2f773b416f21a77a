# SPDX-License-Identifier: Apache-2.0
"""How pickles are put together again; no part of the interface."""

from metro_moe._metro import LayerPlacement, Placement


def make_layer(replica_to_expert, num_experts, num_gpus, replica_to_gpu, home, shares):
    return LayerPlacement(
        replica_to_expert,
        num_experts,
        num_gpus,
        replica_to_gpu=replica_to_gpu,
        home=home,
        shares=shares,
    )


def make_placement(layers, shards):
    return Placement(layers, shards=shards)
