"""An activation function is one however it is written; products with constants, gates and normalisations are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from xai_exporters.cut.activated import is_activated

from xai_deploy.format.bundle import ACTIVATION, Bundle

from .. import onnx_nets as o
from ..checks import onnxruntime
from ..running import HEAD_AND_TAIL, both_ways, export_onnx
from .test_tokens import WrittenOut

Form = Callable[[o.Build, str], str]


def number(b: o.Build, value: float) -> str:
    return b.weight(np.float32(value))


def gelu(b: o.Build, x: str) -> str:
    factor = b("Add", b("Erf", b("Div", x, number(b, 2**0.5))), number(b, 1))
    return b("Mul", b("Mul", x, factor), number(b, 0.5))


def elu(b: o.Build, x: str) -> str:
    return b("Where", b("Greater", x, number(b, 0)), x, b("Sub", b("Exp", x), number(b, 1)))


def normalised(b: o.Build, x: str) -> str:
    centred = b("Sub", x, b("ReduceMean", x, b.weight([1])))
    spread = b("ReduceMean", b("Mul", centred, centred), b.weight([1]))
    return b("Mul", centred, b("Reciprocal", b("Sqrt", b("Add", spread, number(b, 1e-5)))))


NONLINEAR: dict[str, Form] = {
    "Relu": lambda b, x: b("Relu", x),
    "tanh": lambda b, x: b("Tanh", x),
    "leaky": lambda b, x: b("Max", b("Mul", x, number(b, 0.1)), x),
    "bound": lambda b, x: b("Min", b("Max", x, number(b, 0)), number(b, 6)),
    "silu": lambda b, x: b("Mul", x, b("Sigmoid", x)),
    "silu by exp": lambda b, x: b("Div", x, b("Add", b("Exp", b("Neg", x)), number(b, 1))),
    "hardswish": lambda b, x: b("Mul", b("Clip", b("Add", x, number(b, 3)), number(b, 0), number(b, 6)), x),
    "gelu": gelu,
    "elu": elu,
}
LINEAR: dict[str, Form] = {
    "factor": lambda b, x: b("Mul", x, number(b, 0.1)),
    "gains": lambda b, x: b("Mul", x, b.draw(1, o.CHANNELS, 1, 1)),
    "square": lambda b, x: b("Mul", x, x),
    "gate": lambda b, x: b("Mul", x, b("Sigmoid", b("GlobalAveragePool", x))),
    "two maps": lambda b, x: b("Mul", x, b.conv(x, o.CHANNELS, o.CHANNELS)),
    "sum": lambda b, x: b("Add", x, b("Relu", x)),
    "normalised": normalised,
}


@pytest.mark.parametrize("after", ["conv", "Relu"])
@pytest.mark.parametrize("form", [*NONLINEAR, *LINEAR])
def test_forms(form: str, after: str) -> None:
    b = o.Build()
    x = b.conv("image", 3, o.CHANNELS)
    x = x if after == "conv" else b("Relu", x)
    made = (NONLINEAR | LINEAR)[form](b, x)
    model = ir.serde.deserialize_model(b.model(b.linear(b.pooled(b("Identity", made)))))
    [value] = [value for node in model.graph for value in node.outputs if value.name == made]
    assert is_activated(value) == (form in NONLINEAR)


class Dense(nn.Module):
    """A segmenter on tokens: a normalisation follows the last activation function."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.patch, self.one, self.two = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm, self.head = norm, nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.two(nn.functional.gelu(self.one(tokens)))
        maps = self.head(self.norm(tokens)).transpose(1, 2).reshape(-1, 5, 6, 8)
        return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")


@pytest.mark.parametrize("kind", ["centred", "shifted"])
def test_a_norm_in_a_segmenter(tmp_path: Path, kind: str) -> None:
    """Its inner products counted as activations, so the layer was another one than with one operator."""
    torch.manual_seed(0)
    written = WrittenOut(kind)
    norm = nn.LayerNorm(8)
    norm.weight.data, norm.bias.data = written.w.data, written.b.data
    one, other = Dense(norm).eval(), Dense(written).eval()
    other.load_state_dict({**one.state_dict(), "norm.w": written.w, "norm.b": written.b}, strict=False)
    x, found = np.random.default_rng(0).standard_normal((1, 3, 24, 32)).astype(np.float32), []
    for name, network in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        done = export_onnx(tmp_path / name, both_ways(network, False, (3, 24, 32)), roles=HEAD_AND_TAIL)
        found.append(onnxruntime(Bundle.open(done.path).graph("head"), {"image": x})[ACTIVATION])
    assert found[0].shape == (1, 16, 6, 8)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
