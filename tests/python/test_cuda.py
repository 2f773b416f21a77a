# SPDX-License-Identifier: Apache-2.0
"""The router on the GPU by addresses and by tensors; without a GPU, what leads there."""

import pathlib

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


def slots_by_expert(layer):
    """(all slots of each expert, those that a router could choose: the lowest on each GPU)."""
    listed = {e: [] for e in range(layer.num_experts)}
    could = {e: {} for e in range(layer.num_experts)}
    for slot, (e, gpu) in enumerate(zip(layer.replica_to_expert.tolist(), layer.replica_to_gpu.tolist())):
        listed[e].append(slot)
        could[e].setdefault(gpu, slot)
    return listed, {e: list(slots.values()) for e, slots in could.items()}


def engine_maps(torch, layer, generator, device, checksum):
    """vLLM's maps of a placement, its replicas in any order, with counters of zero."""
    listed, _ = slots_by_expert(layer)
    table = torch.full((layer.num_experts, 1024), -1, dtype=torch.int64)
    for e, slots in listed.items():
        table[e, : len(slots)] = torch.from_numpy(generator.permutation(slots))
    values = [table, torch.tensor([len(slots) for slots in listed.values()]), torch.zeros(layer.num_replicas, dtype=torch.int32),
              torch.tensor(bool(generator.integers(4))), torch.tensor(int(generator.integers(4) > 0), dtype=torch.int32),
              torch.zeros(2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64) if checksum else None]  # fmt: skip
    return cuda.EngineMaps(*[None if value is None else value.clone().to(device) for value in values])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("policy", ["optimal", "metro"])
def test_an_engines_maps_are_served_as_the_reference_says(torch, policy, dtype, monkeypatch):
    """Padding, masked rows, loads, commits that the router was not told of; checksums as the other policies make them."""
    pytest.importorskip("metro_moe.vllm.checksum")
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).with_name("vllm")))
    from choice_reference import serve

    generator = np.random.default_rng(5)
    served_by_router = 0
    for round in range(60):
        placement = metro_moe.place(generator.random((1, 32)), 48, 4, "homed")
        router = cuda.Router(placement, policy=policy, topk=4)
        routed, truth = placement.layers[0], placement.layers[0]
        if round % 3 == 0:  # the engine moved experts, and did not say so
            moved = truth.replica_to_expert.copy()
            moved[generator.choice(48, 8, replace=False)] = generator.integers(0, 32, 8)
            if len(np.unique(moved)) == 32:
                truth = metro_moe.LayerPlacement(moved, 32, 4)
        rows = int(generator.integers(1, 40))
        ids = generator.integers(0, 32, (rows, 4)).astype(dtype)
        ids[generator.random(rows) < 0.1] = -1
        real = int(generator.integers(0, rows + 1)) if round % 2 else None
        maps = engine_maps(torch, truth, generator, "cpu", checksum=round % 4 > 0)
        on_gpu = cuda.EngineMaps(*[None if value is None else value.cuda() for value in maps])
        valid = None if real is None else torch.tensor(real, dtype=torch.int32, device="cuda")
        out = router.serve_tensor(0, torch.from_numpy(ids).cuda(), on_gpu, num_valid=valid)
        masked = ids.copy()
        masked[rows if real is None else real :] = -1
        replicas = metro_moe.Router(routed, policy).route(masked)
        chosen = dict(zip(masked[masked >= 0].tolist(), replicas[masked >= 0].tolist()))
        chosen = {e: chosen.get(e, slots[0]) for e, slots in slots_by_expert(routed)[1].items()}
        want = serve(torch.from_numpy(ids), maps, chosen, real, slots_by_expert(routed)[1])
        assert torch.equal(out.cpu(), want), f"round {round}"
        for name in ("load", "faults", "checksum"):
            got, expected = getattr(on_gpu, name), getattr(maps, name)
            assert expected is None or torch.equal(got.cpu(), expected), f"{name} of round {round}"
        served_by_router += int((maps.faults == 0).all())
    assert served_by_router > 10


def test_an_engines_maps_are_checked(torch):
    router = cuda.Router(PLACEMENT, topk=8)
    ids = torch.zeros((4, 8), dtype=torch.int32, device="cuda")
    maps = engine_maps(torch, PLACEMENT.layers[0], np.random.default_rng(6), "cuda", True)
    for wrong in (
        {"load": maps.load.long()}, {"is_recording": maps.is_live}, {"faults": maps.faults[:1]},
        {"num_replicas_of": maps.num_replicas_of[1:]}, {"checksum": maps.faults},
    ):  # fmt: skip
        with pytest.raises(TypeError, match=next(iter(wrong))):
            router.serve_tensor(0, ids, maps._replace(**wrong))
    with pytest.raises(metro_moe.UsageError, match="must not be topk_ids"):
        router.serve_tensor(0, ids, maps, ids)


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
