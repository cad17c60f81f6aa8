"""Networks that crop what they see: the map of a crop is refused. What only loses or adds less than a cell is no crop.

The truth is read off the network: which pixels of the image change the layer at all, by torch's autograd.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from xai_exporters.cut.costs import candidates, no_cut
from xai_exporters.cut.featuremap import find_grid
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.errors import ExtentError
from xai_exporters.passes.clean import CleanGraph, clean

SIZE, WIDTH = 32, 8
Features: TypeAlias = Callable[["Net", torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Some layer's features, pooled and classified; the features are an output, too, so that their tensor can be told."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.valid = nn.Conv2d(3, WIDTH, 3)
        self.even = nn.Conv2d(3, WIDTH, 4, padding=2)
        self.strided = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.same = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.deep = nn.Conv2d(WIDTH, WIDTH, 3)
        self.back = nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.features(self, x)
        logits: torch.Tensor = self.head(a.mean((2, 3)))
        return logits, a


def _residual(n: Net, x: torch.Tensor) -> torch.Tensor:
    y = F.relu(n.valid(x))
    return F.relu(n.deep(y) + y[:, :, 1:-1, 1:-1])


def _factorised(n: Net, x: torch.Tensor) -> torch.Tensor:
    y = F.relu(n.strided(x))
    return F.relu(F.avg_pool2d(y, 1, 2) + F.avg_pool2d(F.pad(y, (0, 1, 0, 1))[:, :, 1:, 1:], 1, 2))


def _coarse_branches(n: Net, x: torch.Tensor) -> torch.Tensor:
    """LowFormer: each branch goes to half the size and back, half a cell too far."""
    y = n.patch(x)
    for _ in range(3):
        half = F.conv2d(F.relu(y), n.same.weight, stride=2, padding=1)
        y = F.conv_transpose2d(half, n.back.weight, stride=2, padding=1) + y
    return F.relu(y)


def _rolled(n: Net, x: torch.Tensor) -> torch.Tensor:
    return torch.roll(F.relu(torch.roll(n.patch(x), (2, 3), (2, 3))), (-2, -3), (2, 3))


# the features, and the rows and columns of the image that they cover
CROPS: dict[str, tuple[Features, tuple[int, int], tuple[int, int]]] = {
    "corner": (lambda n, x: F.relu(n.patch(x[:, :, 16:, :16])), (16, 32), (0, 16)),
    "centre": (lambda n, x: F.relu(n.same(n.patch(x[:, :, 8:-8, 8:-8]))), (8, 24), (8, 24)),
    "of features": (lambda n, x: F.relu(n.patch(x)[:, :, 4:]), (16, 32), (0, 32)),
    "narrow": (lambda n, x: F.relu(n.patch(x.narrow(3, 0, 16))), (0, 32), (0, 16)),
    "half": (lambda n, x: F.relu(n.patch(torch.chunk(x, 2, 2)[1])), (16, 32), (0, 32)),
    "indices": (lambda n, x: F.relu(n.patch(x.index_select(2, torch.arange(8, 32)))), (8, 32), (0, 32)),
    "negative border": (lambda n, x: F.relu(n.patch(F.pad(x, (-8, -8, -8, -8)))), (8, 24), (8, 24)),
    "enlarged": (
        lambda n, x: F.relu(n.patch(F.interpolate(x[:, :, :16, 16:], size=(32, 32), mode="nearest"))),
        (0, 16),
        (16, 32),
    ),
    "strided": (lambda n, x: F.relu(n.patch(x[:, :, 16:][:, :, ::2])), (16, 32), (0, 32)),
}
BORDERS: dict[str, Features] = {
    "wide": lambda n, x: F.relu(n.patch(F.pad(x, (8, 8, 8, 8)))),
    "one side": lambda n, x: F.relu(n.same(n.patch(F.pad(x, (0, 0, 12, 0))))),
}
WHOLE: dict[str, Features] = {
    "patches": lambda n, x: F.relu(n.patch(x)),
    "windows without a border": lambda n, x: F.relu(n.deep(F.relu(n.valid(x)))),
    "even window, cut back": lambda n, x: F.relu(n.even(x)[:, :, :-1, :-1]),
    "border as TensorFlow pads": lambda n, x: F.relu(F.conv2d(F.pad(x, (0, 1, 0, 1)), n.valid.weight, stride=2)),
    "border and back": lambda n, x: F.relu(n.patch(F.pad(x, (4, 4, 4, 4)))[:, :, 1:-1, 1:-1]),
    "every second": lambda n, x: F.relu(n.valid(x)[:, :, ::2, ::2]),
    "pooled, not dividing": lambda n, x: F.max_pool2d(F.max_pool2d(F.relu(n.valid(x)), 4), 2),
    "residual without a border": _residual,
    "factorised reduction": _factorised,
    "coarse branches": _coarse_branches,
    "rolled and back": _rolled,
    "transposed": lambda n, x: F.relu(F.conv_transpose2d(n.strided(x), n.same.weight, stride=2)[:, :, :32, :32]),
}


def network(features: Features) -> Net:
    torch.manual_seed(0)
    return Net(features).eval()


@cache
def exported(features: Features) -> tuple[CleanGraph, ir.Value]:
    """The clean graph, and the tensor of the features in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network(features), (torch.rand(2, 3, SIZE, SIZE),), dynamo=True, opset_version=18, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("N")},), output_names=["logits", "features"],
        )  # fmt: skip
    assert program is not None
    graph = clean(ir.to_proto(program.model), None)
    tensor = next(v for v in graph.graph.outputs if v.name == "features")
    return graph, tensor


def seen(features: Features) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and columns of the image that the features depend on."""
    x = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    network(features)(x)[1].square().sum().backward()
    assert x.grad is not None
    used = x.grad.abs().sum((0, 1)) > 0
    rows, columns = (np.flatnonzero(used.any(1 - axis).numpy()) for axis in (0, 1))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


@pytest.mark.parametrize("name", CROPS)
def test_a_crop_is_refused(name: str) -> None:
    features, rows, columns = CROPS[name]
    assert np.abs(np.subtract(seen(features), (rows, columns))).max() <= 1  # a stride may pass over the outermost row
    graph, tensor = exported(features)
    what, (low, high) = ("rows", rows) if rows != (0, SIZE) else ("columns", columns)
    with pytest.raises(
        ExtentError, match=rf"covers only the {what} {low} to {high} of the image's {SIZE}: the network crops"
    ):
        find_grid(graph, tensor, "features")
    listed = {c.tensor for c in candidates(graph, find_scores(graph, "logits"))}
    assert tensor.name not in listed
    assert "the network crops its input" in no_cut(graph)


@pytest.mark.parametrize("name", BORDERS)
def test_a_wide_border_is_refused(name: str) -> None:
    graph, tensor = exported(BORDERS[name])
    with pytest.raises(ExtentError, match=r"covers a border around the image, the rows -\d+ to \d+ of 32"):
        find_grid(graph, tensor, "features")


@pytest.mark.parametrize("name", WHOLE)
def test_what_covers_the_image_is_not_refused(name: str) -> None:
    features = WHOLE[name]
    graph, tensor = exported(features)
    _, h, w = find_grid(graph, tensor, "features").shape
    for (low, high), cells in zip(seen(features), (h, w), strict=True):
        assert low < SIZE / cells
        assert SIZE - high < SIZE / cells
