"""FullGrad: the authors' code (idiap/fullgrad-saliency) written again for the live torch network, with half-pixel resizing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.errors import RuleError
from xai_exporters.vjp.full_gradient import _third

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError

from ..exporters.running import both_ways
from .outputs.nets import Embedding, UNet, images, saved

SIZE = (37, 45)


class Plain(nn.Module):
    """Convolutions with and without a bias and a BatchNorm, a residual sum, a depthwise one, a classifier with a bias."""

    def __init__(self, biased: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(6) if biased else nn.Identity()
        self.second = nn.Conv2d(6, 6, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(6) if biased else nn.Identity()
        self.depthwise = nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=biased)
        self.classifier = nn.Linear(6, 4)
        for norm in (self.norm1, self.norm2):
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean = torch.randn(6) * 0.3
                norm.running_var = torch.rand(6) + 0.5
                nn.init.normal_(norm.weight, 1, 0.3)
                nn.init.normal_(norm.bias, 0, 0.3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.norm1(self.first(x)).relu(), 2)
        x = (x + self.norm2(self.second(x))).relu()
        y: Tensor = self.classifier(self.depthwise(x).relu().mean((2, 3)))
        return y


class ChannelsLast(nn.Module):
    """A bias per channel that is added to, and another subtracted from, a tensor whose channels are last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Conv2d(3, 5, 3, 2, bias=False)
        self.added, self.less = nn.Parameter(torch.randn(5)), nn.Parameter(torch.rand(5) + 1)
        self.classifier = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.first(x).permute(0, 2, 3, 1) + self.added).relu() * 2
        y: Tensor = self.classifier((self.less - x).relu().mean((1, 2)))
        return y


def psi(values: Tensor, axis: int = 1) -> Tensor:
    """[1,K,h,w] -> [H,W]: rescaled over all channels together, as the authors' _postProcess."""
    size = values.abs().movedim(axis, 1)
    size = (size - size.min()) / (size.max() - size.min())
    return functional.interpolate(size, size=SIZE, mode="bilinear").sum(1)[0]


def terms(network: nn.Module, x: Tensor, seed: Tensor) -> tuple[list[tuple[Tensor, int]], Tensor]:
    """x * gradient and each spatial bias * gradient, with the axis of their channels; and the sum of all terms less the score."""
    places: list[tuple[Tensor, Tensor, int]] = []

    def keep(module: nn.Module, _given: Any, y: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            scale = module.weight / (module.running_var + module.eps).sqrt()  # type: ignore[operator, union-attr]
            places.append((y, (module.bias - module.running_mean * scale)[:, None, None], 1))  # type: ignore[operator]
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            places.append((y, module.bias[:, None, None], 1))

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    x = x.clone().requires_grad_()
    if isinstance(network, ChannelsLast):
        before = network.first(x).permute(0, 2, 3, 1) + network.added
        after = network.less - before.relu() * 2
        places = [(before, network.added, 3), (after, network.less, 3)]
        y = network.classifier(after.relu().mean((1, 2)))
    else:
        y = network(x)
    for handle in handles:
        handle.remove()
    score = (y[0] * seed).sum()
    own, *back = torch.autograd.grad(score, [x, *(y for y, _, _ in places)])
    products = [(own * x, 1), *((g * b, axis) for g, (_, b, axis) in zip(back, places, strict=True))]
    classifier = (network.classifier.bias * seed).sum()  # type: ignore[operator, union-attr]
    gap = sum((p.sum() for p, _ in products), classifier) - score
    return [(p.detach(), axis) for p, axis in products], gap.detach()


def finer(y: Tensor) -> list[float]:
    """Finer-CAM's seed of class 2: less 0.6 times the mean of the two classes whose scores are nearest (Zhang et al. 2025)."""
    nearest = sorted((0, 1, 3), key=lambda i: float((y[i] - y[2]).abs()))[:2]
    return [1.0 if i == 2 else -0.3 if i in nearest else 0.0 for i in range(4)]


@pytest.mark.parametrize("network", [Plain(), ChannelsLast()], ids=["plain", "channels last"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_map_is_the_authors(network: Any, tmp_path: Path, backend: str) -> None:
    onnx.save(both_ways(network, False, (3, *SIZE)), tmp_path / "net.onnx")
    done = export(
        Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none", full_gradient=True)
    )
    explainer = Explainer(done.path, backend, batch_size=2)
    reference = copy.deepcopy(network).double()
    x = np.random.default_rng(0).standard_normal((3, 3, *SIZE)).astype(np.float32)
    cases: list[tuple[int | str, Callable[[Tensor], list[float]]]] = [
        (1, lambda y: [0, 1, 0, 0]),
        ("2 vs 0", lambda y: [-1, 0, 1, 0]),
        ("2 vs 0.6*top2", finer),
    ]
    for target, seed in cases:
        for count in (1, 3):
            got = explainer.explain(x[:count], "full-grad", target)
            for i in range(count):
                one = torch.from_numpy(x[i : i + 1]).double()
                kept, gap = terms(reference, one, torch.tensor(seed(reference(one)[0].detach())).double())
                assert abs(float(gap)) < 1e-9  # completeness: no bias is forgotten
                want = sum(psi(values, axis) for values, axis in kept)
                assert isinstance(want, Tensor)
                np.testing.assert_allclose(got.raw[i], want.numpy(), rtol=2e-4, atol=2e-4 * float(want.max()))


@pytest.mark.parametrize("network", [UNet("bilinear"), Embedding()], ids=["regions", "embedding"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_other_outputs(network: Any, tmp_path: Path, backend: str) -> None:
    """A region's map is that of its mean score, a number's that of the number: the seed alone differs."""
    source = saved(network, tmp_path / "net.onnx")
    roles = ("network", "full-gradient", "input-gradient") if isinstance(network, Embedding) else ()
    done = export(Request(source, output_path=tmp_path / "net.xai", preprocess="none", roles=roles, full_gradient=True))
    got = Explainer(done.path, backend).explain(
        images(2), "full-grad", "2@3,4,10,9" if isinstance(network, UNet) else 1
    )
    assert got.raw.shape == (2, *images(1).shape[2:])
    assert (got.raw >= 0).all()
    assert (got.raw.std(axis=(1, 2)) > 0.01).all()


def test_refusals(tmp_path: Path) -> None:
    bare = Plain(biased=False)
    onnx.save(both_ways(bare, False, (3, *SIZE)), tmp_path / "net.onnx")
    with pytest.raises(RuleError, match="FullGrad adds up the gradients at biases, and no layer of this network with"):
        export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", full_gradient=True, preprocess="none"))
    done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none"))
    with pytest.raises(NotApplicableError, match=r"^full-grad: .* export the network again with --full-gradient$"):
        Explainer(done.path).explain(np.zeros((1, 3, *SIZE), np.float32), "full-grad")


def test_quantised_biases(tmp_path: Path) -> None:
    """A bias of int8 networks is int32 codes times a scale; one that is computed otherwise is refused, for it would be missing."""
    maps = []
    for kind in ("float", "codes"):
        model = both_ways(Plain(), False, (3, *SIZE))
        graph = model.graph
        for i, node in enumerate([node for node in graph.node if node.op_type == "Conv" and len(node.input) > 2]):
            [bias] = [one for one in graph.initializer if one.name == node.input[2]]
            codes = np.rint(onnx.numpy_helper.to_array(bias) / 0.01).astype(np.int32)
            values = (codes * 0.01).astype(np.float32)
            if kind == "float":
                bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
                continue
            graph.initializer.append(onnx.numpy_helper.from_array(codes, f"codes{i}"))
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.01, np.float32), f"scale{i}"))
            graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", [f"codes{i}", f"scale{i}"], [f"bias{i}"]))
            node.input[2] = f"bias{i}"
        onnx.save(model, tmp_path / f"{kind}.onnx")
        request = Request(
            tmp_path / f"{kind}.onnx", output_path=tmp_path / f"{kind}.xai", preprocess="none", full_gradient=True
        )
        maps.append(Explainer(export(request).path).explain(np.ones((1, 3, *SIZE), np.float32), "full-grad", 1).raw)
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-4, atol=1e-4)
    image = ir.Value(name="x")
    of_image = ir.node("ReduceMean", [image]).outputs[0]
    with pytest.raises(RuleError, match=r"FullGrad needs the numbers of each bias, and that of 'there' is computed"):
        _third(ir.node("Conv", [image, image, of_image], name="there"))
