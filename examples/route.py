# SPDX-License-Identifier: Apache-2.0
"""Routes a batch from Python: NumPy arrays, and torch tensors where torch is."""
import numpy
import metro_moe
from metro_moe import cuda

loads = numpy.array([[40, 30, 20, 10]], dtype=float)          # [layers, experts]
placement = metro_moe.place(loads, num_replicas=6, num_gpus=2, algorithm="homed")
router = metro_moe.Router(placement.layers[0], "optimal")      # allocates once
topk_ids = numpy.array([[0, 1], [0, 2]], dtype=numpy.int32)    # [tokens, topk]
print(*router.route(topk_ids).ravel())

try:
    import torch
except ImportError:
    raise SystemExit(0)
tensor = torch.tensor([[0, 1], [0, 2]], dtype=torch.int32)
print(*router.route(tensor, out=tensor).ravel().tolist())      # in place, no copy

if torch.cuda.is_available() and cuda.is_built():
    router = cuda.Router(placement, topk=2)          # all layers
    print(*router.route_tensor(0, tensor.new_tensor([[0, 1], [0, 2]]).cuda()).ravel().tolist())
