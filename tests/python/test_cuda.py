# SPDX-License-Identifier: Apache-2.0
"""The router on the GPU by addresses and by tensors; without a GPU, what leads there."""

import numpy as np
import pytest

import metro_moe
from metro_moe import cuda

PLACEMENT = metro_moe.place(np.random.default_rng(0).random((3, 16)), 24, 4, "homed")


class FakeTensor:
    """A device array that lies nowhere."""

    def __init__(self, shape=(4, 8), typestr="<i4", strides=None):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": typestr, "strides": strides, "data": (4096, False), "version": 3,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (np.zeros((2, 2), np.int32), TypeError, "ids must be a CUDA tensor"),
        (FakeTensor(typestr="<f4"), TypeError, "must hold integers"),
        (FakeTensor(strides=(4, 16)), ValueError, "ids must be contiguous"),
        (FakeTensor(strides=(64, 4)), ValueError, "ids must be contiguous"),
    ],
)
def test_what_is_no_device_array(tensor, error, message):
    with pytest.raises(error, match=message):
        cuda._device_array(tensor, "ids")


def test_device_arrays():
    assert cuda._device_array(FakeTensor(), "ids") == (4096, "i4", (4, 8))
    assert cuda._device_array(FakeTensor(strides=(64, 8), typestr="<i8"), "ids") == (4096, "i8", (4, 8))
    assert cuda._device_array(FakeTensor((1, 8), strides=(999, 4)), "ids").shape == (1, 8)
    assert cuda._device_array(FakeTensor((0, 8), strides=(1, 1)), "ids").shape == (0, 8)
    assert cuda.current_stream(FakeTensor()) == 0


def test_torch_tensors_take_a_short_way():
    class Tensor(FakeTensor):
        __module__ = "torch"
        is_cuda, dtype, shape = True, "torch.int64", (2, 3)

        def is_contiguous(self):
            return True

        def data_ptr(self):
            return 8192

    assert cuda._device_array(Tensor(), "ids") == (8192, "i8", (2, 3))
    Tensor.dtype = "torch.int16"  # not for us: the long way says what it is
    assert cuda._device_array(Tensor((4, 8), "<i2"), "ids") == (4096, "i2", (4, 8))


def test_without_a_device_making_a_router_says_so():
    if cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(metro_moe.DeviceError):
        cuda.Router(PLACEMENT, topk=8)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not cuda.is_available() or not torch.cuda.is_available():
        pytest.skip("no GPU, or built without CUDA")
    return torch


@pytest.mark.parametrize("policy", ["optimal", "metro", "metro-paper", "home", "hash", "even", "shares"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_torch_tensors_get_the_cpus_replicas(torch, policy, dtype):
    router = cuda.Router(PLACEMENT, policy=policy, topk=8)
    generator = np.random.default_rng(1)
    for rows in (0, 1, 7, 64, 3000):
        ids = generator.integers(-1, 16, (rows, 8)).astype(dtype)
        on_gpu = torch.from_numpy(ids).cuda()
        for layer in range(3):
            out = router.route_tensor(layer, on_gpu)
            assert out.dtype == on_gpu.dtype
            expected = metro_moe.Router(PLACEMENT.layers[layer], policy).route(ids)
            assert (out.cpu().numpy() == expected).all()


def test_a_captured_graph_follows_updates_and_padding(torch):
    router = cuda.Router(PLACEMENT, topk=8)
    ids = torch.zeros((32, 8), dtype=torch.int64, device="cuda")
    out, valid = torch.empty_like(ids), torch.tensor(32, dtype=torch.int32, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        router.route_tensor(1, ids, out, num_valid=valid)
    generator = np.random.default_rng(2)
    layer = PLACEMENT.layers[1]
    for rows in (32, 5, 0):
        batch = generator.integers(0, 16, (32, 8))
        ids.copy_(torch.from_numpy(batch))
        valid.fill_(rows)
        graph.replay()
        batch[rows:] = -1
        assert (out.cpu().numpy() == metro_moe.Router(layer).route(batch)).all()
        layer = metro_moe.LayerPlacement(generator.permutation(layer.replica_to_expert), 16, 4)
        router.update(1, layer.replica_to_expert, cuda.current_stream(ids))


def test_engine_maps_and_addresses(torch):
    maps = np.stack([layer.replica_to_expert for layer in PLACEMENT.layers]).astype(np.int64)
    router = cuda.Router(torch.from_numpy(maps), 4, topk=2, policy="home")
    assert (router.num_layers, router.num_experts, router.num_gpus) == (3, 16, 4)
    ids = torch.tensor([[3, 5]], dtype=torch.int32, device="cuda")
    out = torch.empty_like(ids)
    activated = torch.zeros(4, dtype=torch.int32, device="cuda")
    router.route(
        2, ids.data_ptr(), 32, 1, 2, out.data_ptr(), cuda.current_stream(ids),
        activated_per_gpu_ptr=activated.data_ptr(),
    )  # fmt: skip
    assert out.tolist() == [[maps[2].tolist().index(3), maps[2].tolist().index(5)]]
    assert activated.sum().item() == 2
    for arguments in [(0, 1, 16, 1, 2, 1), (0, 1, 32, 1, 3, 1), (3, 1, 32, 1, 2, 1), (0, 1, 32, 2**40, 2, 1)]:
        with pytest.raises(metro_moe.UsageError):
            router.route(*arguments)


def test_cupy_arrays_on_their_stream(torch):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    router = cuda.Router(PLACEMENT, topk=8)
    ids = np.random.default_rng(3).integers(0, 16, (40, 8)).astype(np.int32)
    with cupy.cuda.Stream(non_blocking=True):
        out = router.route_tensor(0, cupy.asarray(ids))
        assert (cupy.asnumpy(out) == metro_moe.Router(PLACEMENT.layers[0]).route(ids)).all()


def test_jax_arrays_come_in(torch):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    router = cuda.Router(PLACEMENT, topk=8)
    ids = np.random.default_rng(4).integers(0, 16, (40, 8)).astype(np.int32)
    on_gpu = jax.block_until_ready(jax.numpy.asarray(ids))
    out = torch.empty((40, 8), dtype=torch.int32, device="cuda")
    router.route_tensor(0, on_gpu, out, stream=cuda.current_stream(out))
    assert (out.cpu().numpy() == metro_moe.Router(PLACEMENT.layers[0]).route(ids)).all()
    with pytest.raises(TypeError, match="give `out`"):
        router.route_tensor(0, on_gpu)
