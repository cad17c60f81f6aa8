"""FullGrad of tensors that are added to the image's: against terms written in torch, whose sum has to be the score."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from xai_exporters import Request, export
from xai_exporters.errors import RuleError
from xai_exporters.graph.measure import Measured
from xai_exporters.vjp.full_gradient import _added

from xai_deploy import Explainer

from .inputs.nets import Fusion, saved
from .test_full_gradient import psi as resized

SIZE = (37, 45)
FACTS = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
DEPTH = np.random.default_rng(2).random((3, 1, *SIZE), dtype=np.float32)
Terms = list[tuple[Tensor, Tensor, int]]
"""(value of the layer, what it added, both [1,K,h,w]; the first channel that is added)."""


class Positions(nn.Module):
    """A number for each position, coordinates as further channels, and what is computed from facts are added. No other bias."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.last = last
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, bias=False), nn.Conv2d(8, 5, 3, bias=False)
        self.places = nn.Parameter(torch.randn(1, 6, 18, 22))
        rows, columns = torch.linspace(-1, 1, 18), torch.linspace(-1, 1, 22)
        self.register_buffer("coordinates", torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None])
        self.facts, self.classifier = nn.Linear(4, 5), nn.Linear(5, 4)

    def steps(self, x: Tensor, facts: Tensor) -> tuple[Tensor, Terms]:
        """The logits, and each layer's value with what it added."""
        a = self.first(x) + self.places
        relu = a.relu()
        coordinates = Tensor(self.coordinates).expand(x.shape[0], -1, -1, -1)
        b = torch.cat([relu, coordinates], 1)
        told = self.facts(facts).relu()[:, :, None, None]
        c = self.second(b) - told
        added = [(a, self.places, 0), (b, torch.cat([relu * 0, coordinates], 1), 6), (c, -told, 0)]
        return self.classifier(c.relu().mean((2, 3))), added

    def forward(self, x: Tensor, facts: Tensor) -> Tensor:
        """The logits."""
        return self.steps(x, facts)[0]


def fused(network: Any, x: Tensor, depth: Tensor) -> tuple[Tensor, Terms]:
    """The steps of `Fusion`: the biases of the image's own layers, and the other image's maps as channels."""

    def bias(layer: Any) -> Tensor:
        return Tensor(layer.bias[:, None, None])

    a = network.rgb.first(x)
    b = network.rgb.second(a.relu())
    own, other = b.relu(), network.depth(depth)
    joined = torch.cat([own, other], 1)
    c = network.joint(joined)
    added = [
        (a, bias(network.rgb.first), 0),
        (b, bias(network.rgb.second), 0),
        (joined, torch.cat([own * 0, other], 1), 5),
        (c, bias(network.joint), 0),
    ]
    return network.scores(c.relu()), added


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["positions", "fusion"])
def test_the_terms_sum_to_the_score(name: str, backend: str, tmp_path: Path) -> None:
    torch.manual_seed(6)
    network: Any = Positions() if name == "positions" else Fusion()
    beside, given = ("facts", FACTS) if name == "positions" else ("depth", DEPTH)
    examples = torch.rand(2, 3, *SIZE), torch.from_numpy(given[:2])
    file = saved(network, tmp_path / "net.onnx", examples, ("image", beside))
    stated = {"input": ("facts=array",)}, {"input_image": ("depth:preprocess=none:color=GRAY",)}
    more: dict[str, Any] = stated[name == "fusion"]
    request = Request(file, output_path=tmp_path / "net.xai", preprocess="none", full_gradient=True, **more)
    explainer = Explainer(export(request).path, backend)
    reference = copy.deepcopy(network).double()
    images = np.random.default_rng(0).random((3, 3, *SIZE), dtype=np.float32)
    for count in (1, 3):
        got = explainer.explain(images[:count], "full-grad", 2, inputs={beside: given[:count]})
        for i in range(count):
            x = torch.from_numpy(images[i : i + 1]).double().requires_grad_()
            z = torch.from_numpy(given[i : i + 1]).double()
            y, added = reference.steps(x, z) if name == "positions" else fused(reference, x, z)
            own, *back = torch.autograd.grad(y[0, 2], [x, *(value for value, _, _ in added)], retain_graph=True)
            products = [own * x, *(g * b for g, (_, b, _) in zip(back, added, strict=True))]
            last = reference.classifier if name == "positions" else reference.last
            products = [p.detach() for p in products]
            gap = sum(float(p.sum()) for p in products) + float(last.bias[2].detach() - y[0, 2].detach())
            assert abs(gap) < 1e-9  # no term is forgotten
            first = [0, *(start for _, _, start in added)]
            want = sum(resized(p[:, start:]) for p, start in zip(products, first, strict=True))
            assert isinstance(want, Tensor)
            np.testing.assert_allclose(got.raw[i], want.numpy(), rtol=3e-4, atol=3e-4 * float(want.max()))


def test_what_has_no_place() -> None:
    """Added to the scores of an attention: refused if another input decides it, for it would be missing; a constant is left out."""
    x, other = (ir.Value(name=name, shape=ir.Shape([1, 2, 4, 4])) for name in ("x", "other"))
    product, twice = ir.node("MatMul", [x, x], name="product"), ir.node("Mul", [other, other], name="twice")
    scores = ir.node("Add", [product.outputs[0], twice.outputs[0]], name="scores")
    for node, name in ((product, "of_image"), (twice, "doubled"), (scores, "y")):
        node.outputs[0].name = name
    graph = ir.Graph([x, other], scores.outputs, nodes=[product, twice, scores], opset_imports={"": 18})
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(("x", "other", "of_image", "doubled", "y"), (1, 2, 4, 4))
    shapes, leading = Measured(sizes, sizes), {x, product.outputs[0]}
    refused = (
        r"FullGrad counts what is added to the image's values, and 'scores' adds 'doubled', which has no channels and"
    )
    with pytest.raises(RuleError, match=refused):
        list(_added(graph, scores, shapes, leading))
    bias = ir.Value(name="c", const_value=ir.tensor(np.ones((1, 2, 4, 4), np.float32)))
    scores.replace_input_with(1, bias)
    assert list(_added(graph, scores, shapes, leading)) == []
    scores.replace_input_with(0, ir.node("MatMul", [x, bias]).outputs[0])  # by weights: the channels are last
    of_weights = scores.inputs[0]
    assert of_weights is not None
    assert [one.axis for one in _added(graph, scores, shapes, {x, of_weights})] == [3]


class Apart(nn.Module):
    """The image's colours are convolved as images of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Conv2d(1, 4, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        y = self.each(x.reshape(-1, 1, *SIZE)).relu().mean((2, 3))
        return Tensor(self.last(y.reshape(-1, 12)))


def test_parts_of_several_images(tmp_path: Path) -> None:
    file = saved(Apart(), tmp_path / "net.onnx", (torch.rand(2, 3, *SIZE),), ("image",))
    request = Request(
        file, output_path=tmp_path / "net.xai", preprocess="none", roles=("full-gradient",), full_gradient=True
    )
    with pytest.raises(RuleError, match=r"FullGrad: the tensor .*, to which a bias is added, holds parts of several"):
        export(request)
    assert not (tmp_path / "net.xai").exists()
