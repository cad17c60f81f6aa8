"""A small network, and the bundle of it with every kind of graph, made once per campaign."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from xai_exporters import Request, export

from xai_deploy.format.bundle import MANIFEST, file_records, parse_manifest

SIZE = 16  # pixels


def folder() -> Path:
    """The campaign's folder."""
    named = os.environ.get("XAI_FUZZ_FOLDER")
    if named is None:
        named = os.environ["XAI_FUZZ_FOLDER"] = tempfile.mkdtemp(prefix="xai-fuzz-")
    return Path(named)


def bundle() -> Path:
    """The bundle's folder; not to be changed."""
    made = folder() / "net.xai"
    if not made.exists():
        source = folder() / "net.onnx"
        source.write_bytes(network().SerializeToString())
        labels = folder() / "labels.txt"
        labels.write_text("cat\ndog\nhen\nowl\nfox\n", encoding="utf-8")
        fuse = ("grad-cam", "reciprocam", "score-cam", "lrp")
        request = Request(
            source,
            output_path=made,
            preprocess="imagenet",
            labels=labels,
            input_gradient=True,
            guided=True,
            pixel_relevance=True,
            fuse=fuse,
        )
        export(request)
    return made


def copied_bundle(name: str) -> Path:
    """A copy of the bundle in a folder of this process, which is used again under the same name."""
    place = folder() / f"{name}-{os.getpid()}.xai"
    if not place.exists():
        shutil.copytree(bundle(), place)
    return place


def changed_bundle(files: Mapping[str, bytes]) -> Path:
    """A copy of the bundle, in a folder that is used again, with other contents of some files, whose hashes fit."""
    place = copied_bundle("changed")
    manifest = parse_manifest((bundle() / MANIFEST).read_bytes())
    for file in manifest.files:
        (place / file).write_bytes(files.get(file) or (bundle() / file).read_bytes())
    manifest = replace(manifest, files=manifest.files | file_records(files))
    (place / MANIFEST).write_bytes(manifest.to_bytes())
    return place


def network() -> onnx.ModelProto:
    """Convolutions, a BatchNorm, a residual, a max pooling, global average pooling, a linear layer, a softmax: 5 classes."""
    rng = np.random.default_rng(3)
    shapes = {
        "w1": (8, 3, 3, 3),
        "scale": (8,),
        "shift": (8,),
        "mean": (8,),
        "w2": (8, 8, 3, 3),
        "w3": (8, 8, 3, 3),
        "w4": (8, 5),
        "b4": (5,),
    }
    weights = {name: rng.standard_normal(shape).astype(np.float32) * 0.3 for name, shape in shapes.items()}
    weights["var"] = np.ones(8, np.float32)
    one = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=one),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], pads=one),
        helper.make_node("Sigmoid", ["c2"], ["s2"]),
        helper.make_node("Mul", ["c2", "s2"], ["silu"]),
        helper.make_node("Add", ["silu", "p1"], ["sum"]),
        helper.make_node("Conv", ["sum", "w3"], ["c3"], pads=one),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["linear"]),
        helper.make_node("Softmax", ["linear"], ["scores"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [image], [scores], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
