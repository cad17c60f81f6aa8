"""Segmenters and detectors that onnxruntime's `quantize_static` wrote (QDQ): gradients at the image are those that torch's
autograd gives for the same file, straight through its rounding. `scripts/int8/straight_through` shares no code with the exporters.

A quantised Resize has the scale of its input. A twelfth of what it interpolates then lies exactly halfway between two codes, and
rounding in float32 takes either. `test_a_quantised_resize` shows that ONNX Runtime and torch take other codes there alone. Networks
whose maps are compared have it in floats, or with another scale ("resized in codes").
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import quantization
from torch import Tensor, nn
from xai_exporters import Request, export

from xai_deploy import Explainer, Region

from ..exporters.running import both_ways
from .detectors import nets as detectors
from .detectors.conftest import ALL
from .outputs.nets import SIZE, UNet

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from int8.straight_through import Network

BACKENDS = ["onnxruntime", "openvino"]
MASK = np.zeros(SIZE, bool)
MASK[5:12, 7:20] = True
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "bilinear": (lambda: UNet("bilinear"), SIZE),
    "transposed": (lambda: UNet("transposed"), SIZE),
    "softmax": (lambda: UNet("transposed", "softmax"), SIZE),
    "yolov8": (detectors.YoloV8, detectors.SIZE),
    "resized in codes": (lambda: UNet("bilinear"), SIZE),
}
FORMS: dict[str, dict[str, Any]] = {
    "U8S8": {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8},
    "S8S8": {
        "activation_type": quantization.QuantType.QInt8,
        "weight_type": quantization.QuantType.QInt8,
        "per_channel": True,
    },
}


CODED = [
    "Add",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Exp",
    "Mul",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Tanh",
]


class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The images that the ranges are measured on."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.left = iter(images[:, None])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """See the base class."""
        image = next(self.left, None)
        return None if image is None else {"image": image}


def drawn(size: tuple[int, int], count: int = 4) -> NDArray[np.float32]:
    """Images [n,3,h,w]."""
    return np.random.default_rng(5).standard_normal((count, 3, *size)).astype(np.float32)


def own_scale(path: Path) -> None:
    """Make the scale of what Resize gives 1.123 times as large, so that no sixteenth lies halfway between two codes."""
    model = onnx.load(path)
    [resize] = [node for node in model.graph.node if node.op_type == "Resize"]
    [quantise] = [node for node in model.graph.node if resize.output[0] in node.input]
    [dequantise] = [node for node in model.graph.node if quantise.output[0] in node.input]
    [scale] = [weight for weight in model.graph.initializer if weight.name == quantise.input[1]]
    own = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(1.1234567), "own_scale")
    model.graph.initializer.append(own)
    quantise.input[1] = dequantise.input[1] = own.name
    onnx.save(model, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The bundle of a network in a form; its file in codes lies beside it. Each is made once."""
    folder, known = tmp_path_factory.mktemp("codes"), set[Path]()

    def bundle(name: str, form: str) -> Path:
        path = folder / f"{name}-{form}.xai"
        if path not in known:
            make, size = NETWORKS[name]
            torch.manual_seed(3)
            onnx.save(both_ways(make().eval(), False, (3, *size)), folder / "float.onnx")
            resize = ["Resize"] if name == "resized in codes" else []
            logging.disable(logging.WARNING)  # it advises to simplify the graph first
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    quantization.quantize_static(
                        folder / "float.onnx", path.with_suffix(".onnx"), Images(drawn(size)),
                        quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=[*CODED, *resize],
                        **FORMS[form],
                    )  # fmt: skip
            finally:
                logging.disable(logging.NOTSET)
            if resize:
                own_scale(path.with_suffix(".onnx"))
            export(Request(path.with_suffix(".onnx"), output_path=path, preprocess="none", input_gradient=True))
            known.add(path)
        return path

    return bundle


def products(path: Path, image: NDArray[np.float32], score: Callable[[dict[str, Tensor], Network], Tensor]) -> Any:
    """Input times gradient [h,w] of a score of the file's tensors, by autograd, and the score."""
    network, x = Network(onnx.load(path.with_suffix(".onnx"))), torch.tensor(image[None], requires_grad=True)
    value = score(network(x), network)
    [gradient] = torch.autograd.grad(value, x)
    return (x * gradient)[0].sum(0).detach().numpy(), float(value.detach())


def close(got: NDArray[Any], want: NDArray[Any]) -> None:
    """Equal but for float32."""
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["bilinear", "transposed", "softmax", "resized in codes"])
def test_a_region(name: str, form: str, backend: str, made: Callable[[str, str], Path]) -> None:
    """The mean of a class's scores over a mask; of probabilities, that of what the softmax reads."""
    path, images = made(name, form), drawn(SIZE, 2)
    got = Explainer(path, backend).explain(images, "input-x-gradient", Region(2, MASK))
    assert got.score is not None
    for raw, score, image in zip(got.raw, got.score, images, strict=True):
        want, value = products(path, image, lambda all_, net: all_[net.scores][0, 2][torch.from_numpy(MASK)].mean())
        close(raw, want)
        np.testing.assert_allclose(score, value, rtol=1e-4)


def logits(values: dict[str, Tensor], network: Network) -> Tensor:
    """What the sigmoid of the scores reads."""
    [end] = [node for node in network.nodes if node.op_type == "Sigmoid" and values[node.input[0]].dim() == 3]
    return values[end.input[0]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_row(form: str, backend: str, made: Callable[[str, str], Path]) -> None:
    """The score of the best row of YOLOv8, before its sigmoid."""
    path, images = made("yolov8", form), drawn(detectors.SIZE, 2)
    got = Explainer(path, backend, detections=ALL).explain(images, "input-x-gradient", "box 0")
    for i, image in enumerate(images):
        first = got.detections[i][0]

        def score(
            values: dict[str, Tensor], network: Network, index: int = first.index, row: int = first.row
        ) -> Tensor:
            return logits(values, network)[0, index, row]

        close(got.raw[i], products(path, image, score)[0])


def test_a_quantised_resize() -> None:
    """Of codes 0 to 255 resized to twice their size, ONNX Runtime and torch round those differently that lie exactly halfway.

    Exactly: sixteenths of integers, which float64 holds.
    """
    codes = np.random.default_rng(0).integers(0, 256, (1, 6, 12, 16)).astype(np.uint8)
    scale, zero = np.float32(0.0030614733), np.uint8(115)
    given = [onnx.numpy_helper.from_array(np.array(value), name) for value, name in ((scale, "s"), (zero, "z"))]
    given.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "by"))
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["x"]),
        onnx.helper.make_node("Resize", ["x", "", "by"], ["y"], mode="linear"),
        onnx.helper.make_node("QuantizeLinear", ["y", "s", "z"], ["out"]),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape)
        for name, shape in (("codes", codes.shape), ("out", (1, 6, 24, 32)))
    ]
    graph = onnx.helper.make_graph(nodes, "resize", ends[:1], ends[1:], given)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    [here] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"codes": codes})
    there = Network(model)(torch.from_numpy(codes.astype(np.float32)))["out"].numpy()
    given_codes = torch.from_numpy(codes.astype(np.float64))
    exact = nn.functional.interpolate(given_codes, scale_factor=2, mode="bilinear").numpy()
    halfway = (exact * 2) % 2 == 1
    assert 0.05 < halfway.mean() < 0.12
    np.testing.assert_array_equal(here[~halfway], there[~halfway])
    np.testing.assert_array_equal(here[~halfway], np.rint(exact)[~halfway])
    assert (here[halfway] != there[halfway]).any()
    assert np.abs(here.astype(int) - there).max() == 1
