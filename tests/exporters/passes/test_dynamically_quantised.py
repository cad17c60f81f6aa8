"""Networks as `quantize_dynamic` writes them: the range of each image gives the scales.

For one image, such a network is a network in QDQ form whose scales are the ranges at hand. Its graphs are the oracle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from xai_exporters.errors import BatchError, GraphError

from xai_deploy import Explainer
from xai_deploy.format.bundle import GRADIENT, PREDICTED, RELEVANCE, SEED, TARGET, Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, Array, Runner, close, onnxruntime, reference
from ..running import export_onnx

IMAGES = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float32)
PROPAGATING = ("gradient", "input-gradient", "guided-gradient", "relevance", "pixel-relevance")


class Layers(o.Build):
    """Layers on integers, or with `ranges` (scale and zero point of each layer's input) the same in QDQ form.

    Args:
        ranges: Layer -> scale and zero point.
        end: How the integers become floats: by a Cast and a product, by DequantizeLinear, or bounded and by DequantizeLinear.
    """

    def __init__(self, ranges: dict[str, tuple[Array, Array]] | None = None, end: str = "cast") -> None:
        super().__init__()
        self.ranges, self.end = ranges, end

    def layer(
        self, name: str, op: str, x: str, shape: tuple[int, ...], kind: Any, columns: bool, **further: Any
    ) -> str:
        """y = W x + b; with `columns` the weight has a scale and a zero point for each output."""
        conv = op == "Conv"
        outputs = shape[0] if conv else shape[1]
        limits = np.iinfo(kind)
        w = self.weight(self.rng.integers(limits.min, limits.max + 1, shape).astype(kind))
        many = (outputs,) if columns else ()
        factor = (self.rng.uniform(0.5, 1.5, many) * 0.02 / np.sqrt(np.prod(shape) / outputs)).astype(np.float32)
        zero = (self.rng.integers(-9, 9, many) + (128 if kind == np.uint8 else 0)).astype(kind)
        bias = (self.rng.standard_normal(outputs) * 0.1).astype(np.float32)
        ws, wz = self.weight(factor), self.weight(zero)
        if self.ranges is None:
            q, s, z = (f"{name}/{part}" for part in ("codes", "scale", "zero"))
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [q, s, z]))
            y = self(f"{op}Integer", q, w, z, wz, name=name, **further)
            if self.end == "cast":
                y = self("Mul", self("Cast", y, to=o.FLOAT), self("Mul", s, ws))
            else:
                if self.end == "clipped":
                    y = self(
                        "Clip", y, *(self("Cast", self.weight(n), to=onnx.TensorProto.INT32) for n in (-(2**23), 2**23))
                    )
                along: dict[str, Any] = {"axis": 1} if columns else {}
                y = self("DequantizeLinear", y, self("Mul", s, ws), **along)
            return self("Add", y, self.weight(bias.reshape(-1, 1, 1) if conv else bias), out=f"{name}/out")
        s, z = (self.weight(np.asarray(part)) for part in self.ranges[name])
        axis: dict[str, Any] = {"axis": 0 if conv else 1} if columns else {}
        floats = self("DequantizeLinear", self("QuantizeLinear", x, s, z), s, z)
        weights = self("DequantizeLinear", w, ws, wz, **axis)
        if conv:
            return self("Conv", floats, weights, self.weight(bias), out=f"{name}/out", **further)
        return self("Add", self("MatMul", floats, weights), self.weight(bias), out=f"{name}/out")


def network(ranges: dict[str, tuple[Array, Array]] | None = None, end: str = "cast") -> onnx.ModelProto:
    b = Layers(ranges, end)
    x = b("Relu", b.layer("first", "Conv", "image", (4, 3, 3, 3), np.uint8, False, pads=[1] * 4, strides=[2, 2]))
    # the ConvInteger of ONNX Runtime takes one zero point for all outputs
    x = b(
        "Relu", b.layer("second", "Conv", x, (o.CHANNELS, 2, 3, 3), np.int8, False, pads=[1] * 4, group=2), name="layer"
    )
    x = b.layer("last", "MatMul", b.pooled(x), (o.CHANNELS, nets.CLASSES), np.int8, True)
    return b.model(b("Identity", x, out="scores"), shape=(1, *nets.SHAPE) if ranges else ("N", *nets.SHAPE))


def ranges_of(image: Array) -> dict[str, tuple[Array, Array]]:
    model, names = network(), ("first", "second", "last")
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=f"{n}/{part}") for n in names for part in ("scale", "zero"))
    values = onnxruntime(model.SerializeToString(), {"image": image})
    return {name: (values[f"{name}/scale"], values[f"{name}/zero"]) for name in names}


def run_role(run: Runner, bundle: Bundle, role: str, image: Array, target: int) -> dict[str, Array]:
    between = run(bundle.graph("head"), {"image": image})
    start = {TARGET: np.array([target]), SEED: np.zeros((1, nets.CLASSES), np.float32), "image": image}
    values = {**between, **start}
    return run(bundle.graph(role), {port.name: values[port.name] for port in bundle.manifest.graphs[role].takes})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    done = export_onnx(tmp_path_factory.mktemp("dynamic"), network(), split="layer_out", all_graphs=True)
    assert done.one_because is not None
    assert "quantised by the range of its input at hand" in done.one_because
    return Bundle.open(done.path)


def test_the_integers_stay(bundle: Bundle) -> None:
    """Head and tail hold the source's operators and give its numbers, each image by itself."""
    assert bundle.manifest.batch == "one"
    graphs = [onnx.load_from_string(bundle.graph(role)).graph for role in ("head", "tail")]
    kinds = [node.op_type for graph in graphs for node in graph.node]
    assert (kinds.count("ConvInteger"), kinds.count("MatMulInteger"), kinds.count("Conv")) == (2, 1, 0)
    for image in IMAGES[:, None]:
        want = reference(network(), {"image": image})["scores"]
        for run in RUNNERS:
            close(run(bundle.graph("tail"), run(bundle.graph("head"), {"image": image}))["logits"], want, 1e-6)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The network with the ranges of the second image."""
    model = network(ranges_of(IMAGES[1:2]))
    done = export_onnx(tmp_path_factory.mktemp("fixed"), model, split="layer_out", all_graphs=True)
    return Bundle.open(done.path)


@pytest.mark.parametrize("role", PROPAGATING)
def test_as_with_fixed_scales(role: str, bundle: Bundle, twin: Bundle) -> None:
    [image] = IMAGES[1:2, None]
    name = RELEVANCE if "relevance" in role else GRADIENT
    for target in (PREDICTED, 0, 3):
        # a range's end is a border between saturated and not, on which OpenVINO's rounding puts the twin on the other side
        want = run_role(onnxruntime, twin, role, image, target)
        for run in RUNNERS:
            got = run_role(run, bundle, role, image, target)
            close(got[name], want[name], 1e-4)
            close(got["logits"], want["logits"], 1e-4)


@pytest.mark.parametrize("end", ["dequantised", "clipped"])
def test_integers_that_leave_by_dequantize_linear(end: str, bundle: Bundle, tmp_path: Path) -> None:
    """One scale for a convolution, one for each output of the last layer: all that propagates is as with a Cast and a product."""
    own = Bundle.open(export_onnx(tmp_path, network(end=end), split="layer_out", all_graphs=True).path)
    for role in PROPAGATING:
        name = RELEVANCE if "relevance" in role else GRADIENT
        want = run_role(onnxruntime, bundle, role, IMAGES[:1], 3)
        for run in RUNNERS:
            got = run_role(run, own, role, IMAGES[:1], 3)
            close(got["logits"], want["logits"], 1e-4)
            close(got[name], want[name], 1e-4)


def test_straight_through(bundle: Bundle) -> None:
    """Rounding counts as the identity, and the range as a constant: torch's gradient of the layers between the roundings."""
    image = IMAGES[:1]
    ranges, seen = ranges_of(image), network().graph.initializer
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in seen}
    layers = [weights[f"w{4 * i}"].astype(np.float64) for i in range(3)]
    factors, zeros, biases = ([weights[f"w{4 * i + j}"] for i in range(3)] for j in (1, 2, 3))

    def rounded(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, zero = (float(part) for part in ranges[name])
        return x + (scale * (torch.round(x.detach() / scale + zero) - zero) - x.detach())

    w1, w2, w3 = (
        torch.from_numpy((w - z.astype(np.float64)) * f) for w, z, f in zip(layers, zeros, factors, strict=True)
    )
    b1, b2, b3 = (torch.from_numpy(b.reshape(-1).astype(np.float64)) for b in biases)
    x = torch.from_numpy(image.astype(np.float64)).requires_grad_()
    y = torch.relu(torch.conv2d(rounded(x, "first"), w1, b1, 2, 1))
    y = torch.relu(torch.conv2d(rounded(y, "second"), w2, b2, 1, 1, groups=2))
    scores = rounded(y.mean((2, 3)), "last") @ w3 + b3
    scores[0, 2].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    for backend in ("onnxruntime", "openvino"):
        result = Explainer(bundle.path, backend).explain(image, "gradient", 2, channels="sum")
        close(result.raw[0], x.grad.numpy()[0].sum(axis=0), 1e-4)


def test_an_image_without_a_range(bundle: Bundle) -> None:
    """All zeros: OpenVINO's DynamicQuantizeLinear gives the scale 0, by which nothing may be divided."""
    for role in PROPAGATING:
        for run in RUNNERS:
            assert all(np.isfinite(value).all() for value in run_role(run, bundle, role, IMAGES[:1] * 0, 1).values())


def test_integers_without_scales(tmp_path: Path) -> None:
    """Integers that are scaled in another way than by a Cast and a product, a zero point for each row and column."""
    b = o.Build()
    flat = b.pooled(b("Relu", b.conv("image", 3, 4), name="layer"))
    q, s, z = "q", "s", "z"
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [flat], [q, s, z]))
    w = b.weight(b.rng.integers(-128, 128, (4, 5)).astype(np.int8))
    wz = b.weight(np.array([1, 2, -3, 4, 0], np.int8))
    total = b("Abs", b("MatMulInteger", q, w, z, wz))  # on integers
    y = b("Div", b("Cast", total, to=o.FLOAT), b.weight(np.float32(1000)))
    other = b("Cast", b("MatMulInteger", q, w), to=o.FLOAT)
    model = b.model(b("Add", y, b("Div", other, b.weight(np.float32(700))), out="scores"))
    bundle = Bundle.open(export_onnx(tmp_path, model, split="layer_out", roles=("gradient",)).path)
    for run in RUNNERS:
        activation = run(bundle.graph("head"), {"image": IMAGES[:1]})["activation"]
        got = run_role(run, bundle, "gradient", IMAGES[:1], 0)
        close(got["logits"], reference(model, {"image": IMAGES[:1]})["scores"])
        weights = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == w))[:, 0].astype(
            float
        )
        pooled = activation.mean((2, 3))[0]
        scale = np.maximum(pooled.max(), 0) / 255
        sign = np.sign((np.rint(pooled / scale) * (weights - 1)).sum())
        column = (sign * (weights - 1) / 1000 + weights / 700) / scale / activation[0, 0].size
        close(got[GRADIENT], np.broadcast_to(column[:, None, None], activation[0].shape)[None])


def test_a_fixed_batch_of_several(tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(BatchError, match=r"takes exactly 2 images at once.*the range of its input"):
        export_onnx(tmp_path, model)


def test_fused(tmp_path: Path, bundle: Bundle) -> None:
    methods = ("grad-cam", "relevance-cam")
    done = export_onnx(tmp_path, network(), split="layer_out", fuse=methods, map_size="input")
    fused = Bundle.open(done.path)
    for method in methods:
        want = Explainer(bundle.path).explain(IMAGES[:1], method, 1).heatmap
        for run in RUNNERS:
            got = run(fused.graph(f"fused-{method}"), {"image": IMAGES[:1], TARGET: np.array([1])})["saliency_map"]
            close(got.reshape(want.shape), want, 2e-3)
    with pytest.raises(GraphError, match=r"runs them one by one, or fuse another method"):
        export_onnx(tmp_path, network(), split="layer_out", fuse=("reciprocam",), overwrite=True)


def test_the_scales_belong_to_no_position(tmp_path: Path) -> None:
    """A layer that is flattened after the last mixing: the choice of a layer looks at every tensor that leads to the logits."""
    b = Layers()
    x = b("Relu", b.layer("first", "Conv", "image", (4, 3, 3, 3), np.int8, False, pads=[1] * 4, strides=[4, 4]))
    x = b("AveragePool", b("ConvTranspose", x, b.draw(4, 4, 2, 2), strides=[2, 2]), kernel_shape=[2, 2], strides=[2, 2])
    x = b.layer("last", "MatMul", b("Flatten", x), (80, nets.CLASSES), np.int8, True)
    done = export_onnx(tmp_path, b.model(b("Identity", x, out="scores")))
    assert done.manifest.target.shape == (4, 4, 5)
