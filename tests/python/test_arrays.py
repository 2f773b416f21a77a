# SPDX-License-Identifier: Apache-2.0
"""How arrays cross the border: without a copy where that is possible, never wrongly."""

import numpy as np
import pytest

import metro_moe

LAYER = metro_moe.LayerPlacement([0, 1, 2, 3, 0, 1], 4, 2)
IDS = np.random.default_rng(0).integers(-1, 4, (9, 4))


@pytest.fixture
def router():
    return metro_moe.Router(LAYER, "hash")


@pytest.fixture
def expected(router):
    return router.route(IDS.astype(np.int32))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i2", ">i8"])
def test_every_integer_type(router, expected, dtype):
    assert (router.route(IDS.astype(dtype)) == expected).all()


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_unsigned_types(router, dtype):
    ids = IDS.copy()
    ids[ids < 0] = 0
    assert (router.route(ids.astype(dtype)) == router.route(ids)).all()


def test_any_layout(router, expected):
    wide = np.full((18, 8), 3, np.int32)
    wide[::2, 1::2] = IDS
    assert (router.route(wide[::2, 1::2]) == expected).all()
    assert (router.route(np.asfortranarray(IDS.astype(np.int32))) == expected).all()
    assert (router.route(IDS.astype(np.int32)[::-1]) == router.route(IDS[::-1].copy())).all()
    packed = np.zeros(IDS.size * 4 + 1, np.uint8)
    unaligned = packed[1:].view(np.int32).reshape(IDS.shape)
    unaligned[:] = IDS
    assert (router.route(unaligned) == expected).all()
    assert (router.route(IDS.tolist()) == expected).all()
    frozen = IDS.astype(np.int32)
    frozen.setflags(write=False)
    assert (router.route(frozen) == expected).all()


def test_out_is_written_in_place(router, expected):
    out = np.empty(IDS.shape, np.int32)
    assert router.route(IDS, out) is out
    assert (out == expected).all()
    ids = IDS.astype(np.int32)
    assert (router.route(ids, out=ids) == expected).all()


def frozen_out():
    out = np.zeros(IDS.shape, np.int32)
    out.setflags(write=False)
    return out


@pytest.mark.parametrize(
    "out",
    [np.zeros(IDS.shape, np.int64), np.zeros((4, 9), np.int32).T, np.zeros(36, np.int32), frozen_out(), "out"],
    ids=["int64", "not C order", "one dimension", "read-only", "no array"],
)
def test_out_must_fit(router, out):
    with pytest.raises(TypeError, match="out must be a writable C-order int32 array"):
        router.route(IDS, out=out)


def test_out_must_have_the_shape(router):
    with pytest.raises(ValueError, match=r"out is \[9, 5\], must be \[9, 4\]"):
        router.route(IDS, out=np.zeros((9, 5), np.int32))


@pytest.mark.parametrize("ids", [IDS.astype(float), IDS > 0, IDS.astype(object), "ids", None, object()])
def test_what_is_no_array_of_integers(router, ids):
    with pytest.raises(TypeError, match="topk_ids"):
        router.route(ids)


def test_results_outlive_what_made_them():
    placement = metro_moe.place(np.ones((2, 8)), 12, 4, "homed")
    layer = placement.layers[1]
    view = layer.replica_to_expert
    kept = view.copy()
    del placement, layer
    np.empty(1 << 20)
    assert (view == kept).all()
    assert not view.flags.writeable


def test_dlpack_both_ways(router, expected):
    class Foreign:
        """Another framework's array: nothing but DLPack."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **keywords):
            return self.array.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    ids, out = IDS.astype(np.int32), np.zeros(IDS.shape, np.int32)
    router.route(Foreign(ids), out=Foreign(out))
    assert (out == expected).all()
    assert (np.from_dlpack(router.route(ids)) == expected).all()


def test_torch(router, expected):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ids = torch.from_numpy(IDS)
    out = torch.empty(IDS.shape, dtype=torch.int32)
    assert router.route(ids, out=out) is out
    assert (out.numpy() == expected).all()
