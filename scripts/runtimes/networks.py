"""The networks whose fused graphs are run, small ones first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.config import load_config

from xai_deploy import read_image

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "models" / "clutter_digits"
IMAGES = 3


@dataclass(frozen=True)
class Network:
    """A network cut at a layer.

    Attributes:
        title: Heading of its table.
        source: The ONNX file.
        layer: Where to cut.
        images: uint8 [h,w,3], as many as `IMAGES`.
        request: Further fields of `xai_exporters.Request`.
        without: Methods left out, and why.
    """

    title: str
    source: Path
    layer: str
    images: Sequence[NDArray[np.uint8]]
    request: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)


def networks(folder: Path) -> list[Network]:
    """The networks.

    Args:
        folder: The folder for the networks that are made here.
    """
    pictures = [read_image(path) for path in sorted((DIGITS / "samples").glob("*.png"))[:IMAGES]]
    config = load_config(DIGITS / "export.toml")
    digits = DIGITS / "clutter_digits.onnx"
    undefined = {"cam": "it is defined only before global average pooling and one linear layer"}
    nets = [
        Network("clutter_digits at its last stage (`stage3`)", digits, "stage3", pictures, config),
        Network("clutter_digits at the stage before (`stage2`)", digits, "stage2", pictures, config, undefined),
        Network(
            "Pooling and two linear layers (a drawn network, 64 x 64)",
            _two_linear(folder / "two_linear.onnx"),
            "features",
            pictures,
            {"preprocess_fields": config["preprocess_fields"]},
            undefined,
        ),
    ]
    shared = Path(os.environ.get("XAI_TEST_DATA", ROOT.parent / "shared" / "data"))
    mobile = shared / "weights" / "mobilenet_v2_1.0_224_fp32_nchw_logits.onnx"
    if mobile.exists():
        photographs = [read_image(shared / "images" / "demo" / name) for name in ("both.png", "dogs.png", "zebra.jpg")]
        nets.append(
            Network(
                "MobileNetV2 at its last layer (224 x 224)",
                mobile,
                "auto",
                photographs,
                {"preprocess": "tf"},
                {
                    "score-cam": "it has 1280 channels, one graph holds at most 64",
                    "integrated-gradients": "it takes minutes per image on the slower runtimes",
                },
            )
        )
    return nets


def _two_linear(path: Path) -> Path:
    """Two convolutions, global average pooling, two linear layers: weights drawn from a seed."""
    rng = np.random.default_rng(6)
    shapes = {"w1": (16, 3, 3, 3), "w2": (24, 16, 3, 3), "w3": (32, 24), "w4": (10, 32)}
    weights = {name: rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])) for name, shape in shapes.items()}
    weights |= {f"b{name[1]}": rng.standard_normal(shape[0]) / 8 for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["features"], name="features"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two_linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path
