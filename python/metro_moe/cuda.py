# SPDX-License-Identifier: Apache-2.0
"""The router on the GPU, for tensors of any framework; imports none, and needs no GPU to be imported.

    router = metro_moe.cuda.Router(placement, topk=8)
    replica_ids = router.route_tensor(layer, topk_ids)        # torch, CuPy, JAX, ...
    router.route(layer, ptr, 32, rows, 8, out_ptr, stream)    # the same by addresses
    router.serve_tensor(layer, topk_ids, engine_maps)         # by an engine's maps, its load recorded
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from metro_moe import _metro
from metro_moe.errors import DeviceError

__all__ = ["EngineMaps", "Router", "current_stream", "is_available", "is_built"]


def is_built() -> bool:
    """Whether this package was built with CUDA (where nvcc was)."""
    return hasattr(_metro, "CudaRouter")


def is_available() -> bool:
    """Whether a CUDA device can be used: built, with a driver and a device."""
    return is_built() and _metro.cuda_device_count() > 0


class _DeviceArray(NamedTuple):
    pointer: int
    type: str  # "i4", "i8", ...
    shape: tuple[int, ...]


def _device_array(tensor: Any, name: str) -> _DeviceArray:
    """Where a CUDA tensor lies: no copy, no synchronisation."""
    if _framework(tensor) == "torch" and tensor.is_cuda and tensor.is_contiguous():
        kind = {"torch.int32": "i4", "torch.int64": "i8", "torch.bool": "b1"}.get(str(tensor.dtype))
        if kind:  # the interface below takes torch tens of microseconds to make
            return _DeviceArray(tensor.data_ptr(), kind, tuple(tensor.shape))
    interface = getattr(tensor, "__cuda_array_interface__", None)
    if interface is None:
        raise TypeError(f"{name} must be a CUDA tensor (one with __cuda_array_interface__)")
    shape, kind = tuple(interface["shape"]), interface["typestr"]
    if kind[1] not in "iub":
        raise TypeError(f"{name} is {kind}, must hold integers")
    item, expected = int(kind[2:]), []
    for size in reversed(shape):
        expected.insert(0, item)
        item *= size
    strides = interface.get("strides")
    if strides is not None and 0 not in shape and any(
        size > 1 and stride != want for size, stride, want in zip(shape, strides, expected)
    ):
        raise ValueError(f"{name} must be contiguous")
    return _DeviceArray(interface["data"][0] or 0, kind[1:], shape)


class EngineMaps(NamedTuple):
    """An engine's own maps of one layer, CUDA tensors in vLLM's form; what each is for: metro/cuda/engine_maps.hpp."""

    expert_to_replicas: Any
    """int64 [experts, at least the most replicas of one]: vLLM's logical_to_physical_map."""
    num_replicas_of: Any
    """int64 [experts]: vLLM's logical_replica_count."""
    load: Any
    """int32 [replicas], added to: vLLM's expert_load_view."""
    is_recording: Any
    """bool, one: vLLM's record_enabled."""
    is_live: Any
    """int32, one: 0 while the router's placement is known to be old."""
    faults: Any
    """int64 [2], added to: ids that the router did not serve, since not live and since maps differ."""
    checksum: Any = None
    """int64, one, added to; None: none."""

    def addresses(self) -> dict[str, int]:
        """The keyword arguments of `serve`; TypeError names what is of the wrong type or shape."""
        kinds = {"expert_to_replicas": "i8", "num_replicas_of": "i8", "load": "i4", "is_recording": "b1",
                 "is_live": "i4", "faults": "i8", "checksum": "i8"}  # fmt: skip
        found = {name: _device_array(value, name) for name, value in self._asdict().items() if value is not None}
        table, experts = found["expert_to_replicas"].shape, found["num_replicas_of"].shape
        wanted = {"num_replicas_of": table[:1], "faults": (2,)}
        for name, array in found.items():
            is_one = array.shape in ((), (1,)) or name in ("expert_to_replicas", "load", *wanted)
            if array.type != kinds[name] or not is_one or array.shape != wanted.get(name, array.shape):
                raise TypeError(f"{name} is {array.type} of shape {array.shape}, must be {kinds[name]} as vLLM has it")
        if len(table) != 2 or len(found["load"].shape) != 1:
            raise TypeError(f"expert_to_replicas is of shape {table}, load {found['load'].shape}, {experts[0]} experts")
        result = {f"{name}_ptr": array.pointer for name, array in found.items()}
        return {**result, "row_stride": table[1], "load_size": found["load"].shape[0]}


def _framework(tensor: Any) -> str:
    return type(tensor).__module__.partition(".")[0].replace("jaxlib", "jax")


def current_stream(tensor: Any) -> int:
    """The stream that the tensor's framework is working in on its device, as an address.

    0, the legacy default stream, for frameworks without a notion of it.
    """
    framework = _framework(tensor)
    if framework == "torch":
        return int(sys.modules["torch"].cuda.current_stream(tensor.device).cuda_stream)
    if framework == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return 0


def _new_like(tensor: Any) -> Any:
    framework = _framework(tensor)
    if framework in ("torch", "cupy"):
        return sys.modules[framework].empty_like(tensor)
    raise TypeError(f"give `out`: {framework} has no uninitialised tensors to write to")


if is_built():

    class Router(_metro.CudaRouter):
        """metro_moe.Router on the GPU for all layers of a model: the same replicas, bit for bit.

        Up to 1,024 experts, 64 GPUs, 8,192 replicas a layer. Calls of one router share a workspace:
        order them in one stream.
        """

        def route_tensor(
            self,
            layer: int,
            topk_ids: Any,
            out: Any = None,
            *,
            stream: int | None = None,
            num_valid: Any = None,
        ) -> Any:
            """The replica of each id of a contiguous CUDA tensor [tokens, topk], int32 or int64.

            `out` is of the same shape and type and may be `topk_ids`; `stream` left out is the
            framework's current one. `num_valid` is an int32 on the device: rows beyond it become -1.
            Only enqueues; may be captured in a CUDA graph when `out` is given or its allocator can.
            """
            out, arguments = self._batch(topk_ids, out, stream, num_valid)
            self.route(layer, *arguments)
            return out

        def serve_tensor(
            self,
            layer: int,
            topk_ids: Any,
            maps: EngineMaps,
            out: Any = None,
            *,
            stream: int | None = None,
            num_valid: Any = None,
        ) -> Any:
            """As `route_tensor`, by an engine's maps; one kernel maps, records and checks.

            `out` must not be `topk_ids`. Rows beyond `num_valid` repeat valid ones and are not recorded.
            """
            out, arguments = self._batch(topk_ids, out, stream, num_valid)
            self.serve(layer, *arguments, **maps.addresses())
            return out

        def _batch(self, topk_ids: Any, out: Any, stream: int | None, num_valid: Any) -> tuple[Any, tuple[int, ...]]:
            """(out, what `route` and `serve` take behind the layer)."""
            ids = _device_array(topk_ids, "topk_ids")
            if len(ids.shape) != 2 or ids.type not in ("i4", "i8"):
                raise TypeError(f"topk_ids are {ids.type} of shape {ids.shape}, must be i4 or i8 [tokens, topk]")
            if out is None:
                out = _new_like(topk_ids)
            target = _device_array(out, "out")
            if target[1:] != ids[1:]:
                raise TypeError(f"out is {target.type} of shape {target.shape}, must be as topk_ids")
            valid = 0
            if num_valid is not None:
                count = _device_array(num_valid, "num_valid")
                if count.type != "i4" or count.shape not in ((), (1,)):
                    raise TypeError(f"num_valid is {count.type} of shape {count.shape}, must be one i4")
                valid = count.pointer
            if stream is None:
                stream = current_stream(topk_ids)
            bits, (rows, topk) = 8 * int(ids.type[1:]), ids.shape
            return out, (ids.pointer, bits, rows, topk, target.pointer, stream, valid)

else:

    class Router:  # type: ignore[no-redef]
        """Stands for the router where the package was built without CUDA; making one raises."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise DeviceError("metro_moe was built without CUDA: install it where nvcc is (docs/python.md)")
