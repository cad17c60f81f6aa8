"""Softmaxes in several operators: the numbers against torch's own softmax, the layer and the scores as with one operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import nn
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime
from ..running import HEAD_AND_TAIL, both_ways, export_onnx

Function = Callable[[torch.Tensor], torch.Tensor]


AXIS = 1
SHAPE = (3, 8, 12)


def powers(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(x - x.amax(AXIS, keepdim=True))


FORMS: dict[str, Function] = {
    "keras": lambda x: powers(x) / powers(x).sum(AXIS, keepdim=True),
    "plain": lambda x: x.exp() / x.exp().sum(AXIS, keepdim=True),
    "by the inverse": lambda x: powers(x) * (1 / powers(x).sum(AXIS, keepdim=True)),
    "from the mean": lambda x: (
        (x - x.mean(AXIS, keepdim=True)).exp() / (x - x.mean(AXIS, keepdim=True)).exp().sum(AXIS, keepdim=True)
    ),
    "log-sum-exp": lambda x: torch.exp(x - x.logsumexp(AXIS, keepdim=True)),
    "log-softmax": lambda x: torch.log_softmax(x, AXIS).exp(),
}
OTHERS: dict[str, Function] = {
    "of all positions": lambda x: x.exp() / x.exp().sum((1, 2), keepdim=True),
    "with something added": lambda x: x.exp() / (x.exp().sum(AXIS, keepdim=True) + 1),
    "of another tensor": lambda x: x.exp() / (2 * x).exp().sum(AXIS, keepdim=True),
    "log-sum-exp along another axis": lambda x: torch.exp(x - (2 * x).logsumexp(AXIS, keepdim=True)),
}


class Dense(nn.Module):
    """A segmenter that ends in a function over its classes."""

    def __init__(self, end: Function) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
        self.end = end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.convs(x))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("kind", [*FORMS, *OTHERS])
def test_the_numbers(kind: str, dynamo: bool) -> None:
    """What is a softmax becomes one Softmax; what only looks like it stays, and both give torch's numbers."""
    torch.manual_seed(0)
    network = Dense((FORMS | OTHERS)[kind]).eval()
    images = torch.randn(2, *SHAPE)
    cleaned = clean(both_ways(network, dynamo, SHAPE), None)
    softmaxes = [node for node in cleaned.graph if node.op_type == "Softmax"]
    assert len(softmaxes) == (kind in FORMS)
    name = str(cleaned.graph.inputs[0].name)
    [got] = onnxruntime(ir.serde.serialize_model(cleaned.model).SerializeToString(), {name: images.numpy()}).values()
    with torch.no_grad():
        want = torch.softmax(network.convs(images), AXIS) if kind in FORMS else network(images)
    close(got, want.numpy(), 1e-5)


def test_a_difference_that_is_larger() -> None:
    """The largest of more numbers than x has is no m: the difference itself is what the softmax is of."""
    torch.manual_seed(0)
    network = Dense(
        lambda x: (t := torch.exp(x[:, :, :1] - x.amax(AXIS, keepdim=True))) / t.sum(AXIS, keepdim=True)
    ).eval()
    images = torch.randn(2, *SHAPE)
    cleaned = clean(both_ways(network, False, SHAPE), None)
    [softmax] = [node for node in cleaned.graph if node.op_type == "Softmax"]
    assert softmax.inputs[0] is not None
    assert softmax.inputs[0].producer().op_type == "Sub"  # type: ignore[union-attr]
    name = str(cleaned.graph.inputs[0].name)
    [got] = onnxruntime(ir.serde.serialize_model(cleaned.model).SerializeToString(), {name: images.numpy()}).values()
    with torch.no_grad():
        close(got, network(images).numpy(), 1e-5)


@pytest.mark.parametrize("kind", FORMS)
def test_a_segmenter(kind: str, tmp_path: Path) -> None:
    """Its scores are the logits, whose softmax is the file's output."""
    torch.manual_seed(0)
    network = Dense(FORMS[kind]).eval()
    done = export_onnx(tmp_path, both_ways(network, False, SHAPE), roles=HEAD_AND_TAIL)
    assert (done.manifest.scores.kind, done.manifest.activation) == ("dense", "softmax")
