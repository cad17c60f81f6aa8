"""Networks that could take any memory are not run: `bounded.py`."""

import re
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional
from xai_exporters.errors import GraphError
from xai_exporters.passes.bounded import require_bounded
from xai_exporters.passes.clean import clean

from .. import onnx_nets as o
from ..running import both_ways

RULED = "the network is not run, since it could take any memory or time: "


def added(grow: Callable[[o.Build, str], str]) -> onnx.ModelProto:
    """A classifier, to whose scores the largest number of what `grow` makes is added."""
    b = o.Build()
    x = b.features()
    most = b("ReduceMax", grow(b, x), keepdims=0)
    return b.model(b("Add", b.linear(b.pooled(x)), most, out="scores"))


def by_content(b: o.Build, x: str) -> str:
    """Of as many elements as the map has positive numbers, times 10^7."""
    count = b("ReduceSum", b("Cast", b("Greater", x, b.weight(np.float32(0))), to=7), keepdims=0)
    size = b("Reshape", b("Mul", count, b.weight(10**7)), b.weight([1]))
    return b("Expand", b.weight(np.float32(1)), size)


def by_sizes(b: o.Build, x: str) -> str:
    """Of (3 x 16 x 20)^3 elements: sizes to a power, which ONNX's inference does not follow."""
    size = b("ReduceProd", b("Slice", b("Shape", "image"), b.weight([1]), b.weight([4])), keepdims=1)
    return b("Expand", b.weight(np.float32(1)), b("Mul", b("Mul", size, size), size))


def by_batch(b: o.Build, x: str) -> str:
    """Of N^21 elements: one at a batch of 1, 10^10 at a batch of 3."""
    n = b("Slice", b("Shape", "image"), b.weight([0]), b.weight([1]))
    power = n
    for _ in range(20):
        power = b("Mul", power, n)
    return b("Expand", b.weight(np.float32(1)), power)


@pytest.mark.parametrize(
    ("grow", "why"),
    [
        (by_content, "node 'expand_.*' .*depends on values that are not known before it runs"),
        (by_sizes, r"node 'expand_.*' .*, which gives \[884736000\], its constants take 3.* MiB, more than the"),
    ],
)
def test_it_is_refused(grow: Callable[[o.Build, str], str], why: str) -> None:
    with pytest.raises(GraphError, match=RULED + f".*{why}"):
        clean(added(grow), None)


def test_what_crashes_is_not_called_large() -> None:
    b = o.Build()
    x = b("RoiAlign", b.features(), b.weight(np.array([[0, 0, 99, 1]], np.float32)), b.weight([0]))
    with pytest.raises(
        GraphError, match=r"^the network is not run: node 'roialign_.* takes 99 samples; .*; runtimes crash on that$"
    ):
        clean(b.model(b.linear(b.pooled(x), out="scores")), None)


def test_a_power_of_the_batch_is_not_tried() -> None:
    done = clean(added(by_batch), None)
    assert done.reason is not None
    assert RULED in done.reason
    assert "MiB" in done.reason


def test_an_operator_of_unknown_size() -> None:
    b = o.Build()
    b("SequenceAt", b("SplitToSequence", "image", name="parts"), b.weight(0), out="y")
    with pytest.raises(GraphError, match="node 'parts' is SplitToSequence: how large its result becomes is not known"):
        require_bounded(ir.from_proto(b.model("y")), 3 * 16 * 20, 64)


GROWTH: dict[str, Callable[[o.Build, str], str]] = {
    "Resize": lambda b, x: b("Resize", x, "", b.weight(np.array([1, 1, 60000, 1], np.float32)), mode="nearest"),
    "Pad": lambda b, x: b("Pad", x, b.weight([0, 0, 0, 0, 0, 0, 360000, 0])),
    "Tile": lambda b, x: b("Tile", x, b.weight([1, 1, 60000, 1])),
    "Expand": lambda b, x: b("Expand", b("ReduceMean", x, b.weight([2, 3])), b.weight([1, 1, 60000, 320])),
    "ConvTranspose": lambda b, x: b("ConvTranspose", x, b.weight(np.ones((6, 6, 2, 1), np.float32)), strides=[60000, 1]),
    "MatMul": lambda b, x: b("MatMul", b("Reshape", x, b.weight([0, 6, 80, 1])), b.weight(np.ones((6, 1, 60000), np.float32))),
    "Einsum": lambda b, x: b("Einsum", x, b.weight(np.ones(60000, np.float32)), equation="nchw,k->nchwk"),
    "Mul": lambda b, x: b("Mul", b("Reshape", x, b.weight([0, 6, 80, 1])), b.weight(np.ones((1, 1, 1, 60000), np.float32))),
    "Gather": lambda b, x: b("Gather", x, b.weight(np.zeros(1000000, np.int64)), axis=2),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROWTH)
def test_what_grows_is_bounded_as_a_whole(kind: str) -> None:
    """Each result alone is within what a runtime takes; an export would keep it 60 times."""
    model = added(GROWTH[kind])
    says = rf"its tensors take (\d+) MiB at once for one image, the largest that of node '{kind.lower()}_.*--memory \1 allows it"
    with pytest.raises(GraphError, match="the network is not run: .*" + says) as refused:
        clean(model, None)
    needed = re.findall(r"--memory (\d+) ", str(refused.value))[0]
    require_bounded(ir.from_proto(model), 3 * 16 * 20, int(needed))


def test_a_large_image_explains_large_tensors() -> None:
    b = o.Build()
    model = b.model(b.linear(b.pooled(b.features()), out="scores"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2160
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 3840
    require_bounded(ir.from_proto(model), 3 * 2160 * 3840, 0)


class Same(torch.nn.Module):
    """TensorFlow's padding "same", computed from the sizes as timm does; torch's older exporter writes arithmetic on shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 6, 3, 2), torch.nn.Conv2d(6, 8, 5, 2)
        self.last = torch.nn.Linear(8, 4)

    @staticmethod
    def padded(x: torch.Tensor, kernel: int) -> torch.Tensor:
        """What a convolution of stride 2 reads."""
        sizes = [torch.as_tensor(n) for n in x.shape[-2:]]
        high, wide = (torch.clamp((torch.ceil(n / 2) - 1) * 2 + kernel - n, min=0).long() for n in sizes)
        before = [wide // 2, high // 2]
        return functional.pad(x, [before[0], wide - before[0], before[1], high - before[1]])  # type: ignore[list-item]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        x = torch.relu(self.first(self.padded(x, 3)))
        return torch.Tensor(self.last(torch.relu(self.second(self.padded(x, 5))).mean((2, 3))))


def test_padding_computed_from_sizes_is_known() -> None:
    model = both_ways(Same(), False, (3, 19, 23))
    assert "Clip" in {node.op_type for node in model.graph.node}
    clean(model, None)
