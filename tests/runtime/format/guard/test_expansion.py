"""Files of a kilobyte that ask for more memory than they explain, while they load or while they run."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from xai_deploy.errors import UnsafeGraphError
from xai_deploy.format.guard import check_graph

from .graphs import IMAGE, floats, ints, model, n


def doubling(times: int, op: str = "Concat") -> onnx.ModelProto:
    """A constant, joined with itself again and again."""
    nodes = [n(op, f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(times)]
    return model([*nodes, n("ReduceSum", f"c{times}", "s"), n("Add", "x s")], {"c0": np.ones(16, np.float32)})


def summed(*nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """What `big` holds, added up and added to the image: no more is to be seen of it outside."""
    after = [n("Cast", "big", "f", to=TensorProto.FLOAT), n("ReduceSum", "f", "s"), n("Add", "x s")]
    return model([*nodes, *after], {name: np.asarray(value) for name, value in constants.items()})


def counted(value: int) -> onnx.NodeProto:
    return n("Constant", "", "big", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [float(value)]))


_RESIZE = {"mode": "nearest"}
BOMBS: dict[str, Callable[[], onnx.ModelProto]] = {
    "ConstantOfShape": lambda: summed(n("ConstantOfShape", "c", "big"), c=ints(1 << 20, 1 << 12)),
    "ConstantOfShape, computed": lambda: summed(
        n("Mul", "c c", "d"), n("ConstantOfShape", "d", "big"), c=ints(1 << 16, 1 << 5)
    ),
    "ConstantOfShape of the image's size": lambda: summed(
        n("Shape", "x", "i"), n("Pow", "i p", "d"), n("ConstantOfShape", "d", "big"), p=np.int64(12)
    ),
    "Range": lambda: summed(n("Range", "a b c", "big"), a=np.int64(0), b=np.int64(1 << 32), c=np.int64(1)),
    "Range of floats": lambda: summed(
        n("Range", "a b c", "big"), a=np.float32(0), b=np.float32(1), c=np.float32(1e-10)
    ),
    "Expand": lambda: summed(n("Expand", "v c", "big"), v=floats(1), c=ints(1 << 16, 1 << 16)),
    "Tile": lambda: summed(n("Tile", "v c", "big"), v=floats(1, 2), c=ints(1 << 31)),
    "Pad": lambda: summed(n("Pad", "v c", "big"), v=floats(1), c=ints(1 << 31, 1 << 31)),
    "Concat": lambda: doubling(30),
    "Resize by factors": lambda: summed(n("Resize", "x _ c", "big", **_RESIZE), c=floats(1, 1, 3e4, 3e4)),
    "Resize to sizes": lambda: summed(n("Resize", "x _ _ c", "big", **_RESIZE), c=ints(1, 3, 1 << 16, 1 << 16)),
    "Resize twice": lambda: summed(
        n("Resize", "x _ c", "r", **_RESIZE), n("Resize", "r _ c", "big", **_RESIZE), c=floats(1, 1, 150, 150)
    ),
    "OneHot": lambda: summed(n("OneHot", "i d v", "big"), i=np.arange(1 << 10), d=np.int64(1 << 24), v=floats(0, 1)),
    "EyeLike": lambda: summed(
        n("ConstantOfShape", "c", "e"), n("EyeLike", "e", "big", dtype=TensorProto.DOUBLE), c=ints(11000, 11000)
    ),
    "Gather": lambda: summed(
        n("Tile", "i k", "j"), n("Gather", "v j", "big"), i=ints(0), k=ints(1 << 15), v=np.ones((1, 1 << 15), np.float32)
    ),
    "MatMul": lambda: summed(
        n("Tile", "v k", "a"), n("Transpose", "a", "b"), n("MatMul", "b a", "big"), v=np.ones((1, 1 << 8), np.float32),
        k=ints(1, 1 << 8),
    ),
    "broadcast": lambda: summed(
        n("Tile", "v k", "a"), n("Transpose", "a", "b"), n("Add", "b a", "big"), v=np.ones((1, 1 << 8), np.float32),
        k=ints(1, 1 << 8),
    ),
    "broadcast by Where": lambda: summed(
        n("Tile", "v k", "a"), n("Transpose", "a", "b"), n("Where", "t a b", "big"), v=np.ones((1, 1 << 8), np.float32),
        k=ints(1, 1 << 8), t=np.array(True),
    ),
    "Einsum": lambda: summed(
        n("Tile", "v k", "a"), n("Einsum", "a a", "big", equation="i,j->ij"), v=floats(1), k=ints(1 << 16)
    ),
    "Conv": lambda: summed(
        n("Conv", "x w", "big", pads=[20000] * 4), w=np.ones((1, 3, 1, 1), np.float32)
    ),
    "ConvTranspose": lambda: summed(
        n("ConvTranspose", "x w", "big", strides=[20000, 20000]), w=np.ones((3, 1, 1, 1), np.float32)
    ),
    "Conv of volumes": lambda: summed(
        n("Unsqueeze", "x a", "v"), n("Conv", "v w", "big", pads=[700] * 6), w=np.ones((1, 3, 1, 1, 1), np.float32), a=ints(2)
    ),
    "ConvTranspose of volumes": lambda: summed(
        n("Unsqueeze", "x a", "v"), n("ConvTranspose", "v w", "big", strides=[1, 2000, 2000], output_padding=[0, 1999, 1999]),
        w=np.ones((3, 1, 500, 1, 1), np.float32), a=ints(2),
    ),
    "Resize of volumes": lambda: summed(
        n("Unsqueeze", "x a", "v"), n("Resize", "v _ c", "big", **_RESIZE), c=floats(1, 1, 1e3, 1e2, 1e2), a=ints(2)
    ),
    "Gemm": lambda: summed(
        n("Tile", "v k", "a"), n("Gemm", "a a", "big", transA=1), v=np.ones((1, 1 << 8), np.float32), k=ints(1, 1 << 8)
    ),
    "GridSample": lambda: summed(
        n("Expand", "g k", "e"), n("GridSample", "x e", "big"), g=floats(0), k=ints(1, 1 << 13, 1 << 13, 2)
    ),
    "kept alive together": lambda: model(
        [*(n("Resize", "x _ c", f"r{i}", **_RESIZE) for i in range(20)), n("Sum", " ".join(f"r{i}" for i in range(20)))],
        {"c": floats(1, 1, 1000, 1000)},
    ),
    "sizes that the image decides": lambda: summed(
        n("ReduceMax", "x", "m", keepdims=0), n("Cast", "m", "k", to=TensorProto.INT64), n("Reshape", "k o", "c"),
        n("ConstantOfShape", "c", "big"), o=ints(1),
    ),
    "found places": lambda: summed(
        n("NonZero", "x", "z"), n("Shape", "z", "c"), n("Concat", "c c c c", "all", axis=0),
        n("ConstantOfShape", "all", "big")
    ),
    "endless products": lambda: model(
        [
            n("ConstantOfShape", "k", "c"), n("ReduceMax", "x", "m", keepdims=0), n("Add", "c m", "p0"),
            *(n("MatMul", f"p{i} c", f"p{i + 1}") for i in range(10)), n("ReduceSum", "p10"),
        ],
        {"k": ints(8000, 8000)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb(bomb: str) -> None:
    data = BOMBS[bomb]().SerializeToString()
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeGraphError, match=r"^x\.onnx: (up to node .* (MiB|products)|.* is not known)"):
            check_graph(data, "x.onnx", IMAGE)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # the guard never makes the tensors that it refuses
    finally:
        tracemalloc.stop()


def test_endless_products_fit_into_memory() -> None:
    """2^42 multiplications are allowed: eight products of 8000 x 8000 x 8000."""
    with pytest.raises(
        UnsafeGraphError, match=r"up to node 'p9' \('MatMul'\) it computes 5e\+12 products for a batch of 1"
    ):
        check_graph(BOMBS["endless products"]().SerializeToString(), "x.onnx", IMAGE)


def test_a_message_says_what_and_why() -> None:
    data = BOMBS["ConstantOfShape"]().SerializeToString()
    with pytest.raises(UnsafeGraphError) as refused:
        check_graph(data, "x.onnx", IMAGE)
    assert str(refused.value) == (
        "x.onnx: up to node 'big' ('ConstantOfShape'), which gives [1048576, 4096], its constants take 16384 MiB, more than "
        "the 512 MiB that its file and its input explain"
    )


def test_a_batch_that_explodes() -> None:
    """Harmless for one image: N^30 bytes."""
    graph = summed(
        n("Shape", "x", "n", start=0, end=1), n("Pow", "n p", "d"), n("ConstantOfShape", "d", "big"), p=np.int64(30)
    )
    guarded = check_graph(graph.SerializeToString(), "x.onnx", IMAGE)
    guarded.check_batch(1)
    with pytest.raises(UnsafeGraphError, match="up to node 'big'"):
        guarded.check_batch(3)


def test_freed_memory_counts_no_more() -> None:
    """Thirty resized images one after the other, never two at once."""
    nodes: list[onnx.NodeProto] = []
    last = "x"
    for i in range(30):
        nodes += [
            n("Resize", f"{last} _ up", f"u{i}", **_RESIZE),
            n("MaxPool", f"u{i}", f"d{i}", kernel_shape=[900, 900], strides=[900, 900]),
        ]
        last = f"d{i}"
    check_graph(model([*nodes, n("Identity", last)], {"up": floats(1, 1, 900, 900)}).SerializeToString(), "x", IMAGE)


@pytest.mark.parametrize("times", [10, 20])
def test_little_growth_is_allowed(times: int) -> None:
    """Up to 512 MiB: 2^20 x 16 floats are 64 MiB."""
    check_graph(doubling(times).SerializeToString(), "x", IMAGE)
