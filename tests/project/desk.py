"""A folder in which the documents' code blocks run: it holds a small file under each name that they use.

`model.onnx` is the network of `models/`, which takes 64 x 64 pixels, with ImageNet's number of classes and the module names of a
ResNet; `weights.pth` and `mynets.py` are the network itself. `resnet50.xai`, `float32.xai` and the like are its bundle, with every
graph, under several names.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import torch
import xai_exporters
from onnx import numpy_helper

from xai_deploy import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ROOT / "models" / "clutter_digits"
CLASSES = 1000
LABELS = ("cat", "dog", "zebra", "car", "ship", "bird", "horse", "truck", "deer", "frog")
SOURCES = ("resnet50.onnx", "net.onnx")
ROADS = ("background", "road", "car", "person", "sky")
BUNDLES = ("resnet50.xai", "float32.xai", "int8.xai", "net.xai")


def lay(desk: Path) -> None:
    """Fill an empty folder."""
    shutil.copytree(NETWORK, desk / "models" / "clutter_digits")
    (desk / "model.onnx").write_bytes(network())
    weights = torch.load(NETWORK / "clutter_digits.pt", weights_only=True)
    torch.save({named_as_resnet(key): value for key, value in weights.items()}, desk / "weights.pth")
    code = named_as_resnet((NETWORK / "network.py").read_text(encoding="utf-8"))
    (desk / "mynets.py").write_text(f"{code}\n\nbuild = ClutterNet\n", encoding="utf-8")
    for name in SOURCES:
        shutil.copy(desk / "model.onnx", desk / name)
    labels = [*LABELS, *(f"class {index}" for index in range(len(LABELS), CLASSES))]
    (desk / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    request = xai_exporters.Request(
        desk / "model.onnx",
        output_path=desk / BUNDLES[0],
        labels=desk / "labels.txt",
        preprocess="imagenet",
        composite=("epsilon-plus",),
        input_gradient=True,
        guided=True,
        pixel_relevance=True,
    )
    xai_exporters.export(request)
    for name in BUNDLES[1:]:
        shutil.copytree(desk / BUNDLES[0], desk / name)
    samples = sorted((NETWORK / "samples").glob("*.png"))[:3]
    for folder in ("photos", "val", "masks"):
        (desk / folder).mkdir()
    boxes = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in enumerate(LABELS)]}
    for number, sample in enumerate(samples):
        pixels = read_image(sample)
        write_image(desk / "photos" / f"{number}.jpg", pixels)
        write_image(desk / "val" / f"{number}.jpg", pixels)
        mask = pixels * 0
        mask[20:44, 20:44] = 255
        write_image(desk / "masks" / f"{number}.png", mask)
        height, width = pixels.shape[:2]
        boxes["images"].append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        boxes["annotations"].append(
            {"id": number, "image_id": number, "category_id": number, "bbox": [20, 20, 24, 24], "iscrowd": 0}
        )
    (desk / "instances.json").write_text(json.dumps(boxes), encoding="utf-8")
    for name in ("photo.jpg", "cat.jpg", "street.jpg"):
        shutil.copy(desk / "photos" / "0.jpg", desk / name)
    for name in ("other.jpg", "a.jpg", "b.jpg"):
        shutil.copy(desk / "photos" / ("2.jpg" if name == "b.jpg" else "1.jpg"), desk / name)
    shutil.copy(desk / "masks" / "0.png", desk / "mask.png")
    shutil.copy(desk / "model.onnx", desk / "encoder.onnx")
    onnx.save(segmenter(), desk / "segmenter.onnx")
    (desk / "roads.txt").write_text("\n".join(ROADS) + "\n", encoding="utf-8")
    (desk / "names.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    vectors = np.random.default_rng(1).standard_normal((len(LABELS), CLASSES)).astype(np.float32)
    np.save(desk / "vectors.npy", vectors)
    np.save(desk / "prototype.npy", vectors[0])
    onnx.save(detector(), desk / "detector.onnx")
    onnx.save(bands(), desk / "bands.onnx")
    onnx.save(siamese(), desk / "siamese.onnx")
    onnx.save(video(), desk / "video.onnx")
    np.save(desk / "clip.npy", np.random.default_rng(3).integers(0, 256, (6, 30, 40, 3), dtype=np.uint8))
    np.save(desk / "scene.npy", np.random.default_rng(2).integers(0, 10_000, (80, 90, 11)).astype(np.uint16))


def segmenter() -> onnx.ModelProto:
    """The network of `models/` up to its pooling, and a convolution to scores at each position, of random weights."""
    model = onnx.load(NETWORK / "clutter_digits.onnx")
    graph = model.graph
    [pooling] = [node for node in graph.node if node.op_type in ("GlobalAveragePool", "ReduceMean")]
    [linear] = [tensor for tensor in graph.initializer if tensor.name == "fc.weight"]
    weights = np.random.default_rng(0).standard_normal((len(ROADS), linear.dims[1], 1, 1)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, "scores.weight"))
    after = list(graph.node)[list(graph.node).index(pooling) :]
    for node in after:
        graph.node.remove(node)
    graph.node.append(onnx.helper.make_node("Conv", [pooling.input[0], "scores.weight"], ["scores"], name="scores"))
    del graph.output[:], graph.value_info[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", len(ROADS), None, None])
    )
    return model


def detector() -> onnx.ModelProto:
    """A detector of one level in YOLOv8's layout, of random weights: a box of 40 x 30 at each of 8 x 8 cells, and two classes."""
    rng, make, size, cells = np.random.default_rng(0), onnx.helper.make_node, 64, 8
    y, x = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
    constants = {
        "conv.weight": rng.normal(0, 0.3, (8, 3, 8, 8)),
        "box.weight": rng.normal(0, 0.3, (4, 8, 1, 1)),
        "score.weight": rng.normal(0, 0.3, (2, 8, 1, 1)),
        "centres": (np.stack([x, y, 0 * x, 0 * x]).reshape(1, 4, -1) + 0.5) * 8,
        "sizes": np.array([4, 4, 40, 30]).reshape(1, 4, 1),
    }
    nodes = [
        make("Conv", ["images", "conv.weight"], ["conv"], name="conv", strides=[8, 8]),
        make("Relu", ["conv"], ["relu"], name="relu"),
        make("Conv", ["relu", "box.weight"], ["offsets"], name="box"),
        make("Conv", ["relu", "score.weight"], ["logits"], name="score"),
        make("Reshape", ["offsets", "four"], ["flat"], name="flat"),
        make("Reshape", ["logits", "two"], ["scores"], name="scores"),
        make("Sigmoid", ["flat"], ["bounded"], name="bounded"),
        make("Mul", ["bounded", "sizes"], ["scaled"], name="scaled"),
        make("Add", ["scaled", "centres"], ["boxes"], name="boxes"),
        make("Sigmoid", ["scores"], ["shares"], name="shares"),
        make("Concat", ["boxes", "shares"], ["output0"], name="together", axis=1),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors += [numpy_helper.from_array(np.array([0, n, -1]), name) for n, name in ((4, "four"), (2, "two"))]
    ends = [("images", [3, size, size]), ("output0", [6, cells * cells])]
    image, output = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *s]) for name, s in ends)
    graph = onnx.helper.make_graph(nodes, "detector", [image], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    said = {"task": "detect", "imgsz": f"[{size}, {size}]", "stride": "8", "names": "{0: 'car', 1: 'person'}"}
    onnx.helper.set_model_props(model, said)
    return model


def bands() -> onnx.ModelProto:
    """The network of `models/` for images of 11 channels: its first convolution repeats its weights."""
    model = onnx.load(NETWORK / "clutter_digits.onnx")
    image = model.graph.input[0]
    [first] = [node for node in model.graph.node if image.name in node.input]
    [weights] = [tensor for tensor in model.graph.initializer if tensor.name == first.input[1]]
    wide = np.resize(numpy_helper.to_array(weights).swapaxes(0, 1), (11, weights.dims[0], *weights.dims[2:]))
    weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(wide.swapaxes(0, 1)), weights.name))
    image.type.tensor_type.shape.dim[1].dim_value = 11
    return model


def video() -> onnx.ModelProto:
    """A convolution over six frames, pooling and a linear layer, of random weights."""
    rng, make = np.random.default_rng(0), onnx.helper.make_node
    weights = {"conv.weight": (8, 3, 3, 3, 3), "fc.weight": (8, len(LABELS))}
    nodes = [
        make("Conv", ["clip", "conv.weight"], ["conv"], name="conv", strides=[1, 2, 2], pads=[1] * 6),
        make("Relu", ["conv"], ["relu"], name="relu"),
        make("GlobalAveragePool", ["relu"], ["pooled"], name="pool"),
        make("Flatten", ["pooled"], ["flat"], name="flatten"),
        make("Gemm", ["flat", "fc.weight"], ["logits"], name="fc"),
    ]
    drawn = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    ends = [("clip", [3, 6, 16, 20]), ("logits", [len(LABELS)])]
    clip, logits = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *s]) for name, s in ends)
    graph = onnx.helper.make_graph(nodes, "video", [clip], [logits], drawn)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def siamese() -> onnx.ModelProto:
    """The network of `models/` twice, for images `left` and `right`, and the sum of the squares of their difference."""
    ends = []
    parts = []
    for side in ("left", "right"):
        one = onnx.compose.add_prefix(onnx.load(NETWORK / "clutter_digits.onnx"), f"{side}/")
        for node in one.graph.node:
            node.input[:] = [side if name == one.graph.input[0].name else name for name in node.input]
        one.graph.input[0].name = side
        del one.graph.value_info[:], one.metadata_props[:]
        ends.append(one.graph.output[0].name)
        parts.append(one)
    model = onnx.compose.merge_models(parts[0], parts[1], io_map=[])
    score = onnx.helper.make_tensor_value_info("distance", onnx.TensorProto.FLOAT, ["N", 1])
    axes = numpy_helper.from_array(np.array([1]), "axes")
    model.graph.initializer.append(axes)
    model.graph.node.append(onnx.helper.make_node("Sub", ends, ["difference"]))
    model.graph.node.append(onnx.helper.make_node("ReduceSumSquare", ["difference", "axes"], ["distance"]))
    del model.graph.output[:]
    model.graph.output.append(score)
    return model


def network() -> bytes:
    """The network of `models/` with more classes, of small random weights; its `stage1` to `stage3` are `layer2` to `layer4`."""
    model = onnx.load(NETWORK / "clutter_digits.onnx")
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.name in ("fc.weight", "fc.bias"):
            known = numpy_helper.to_array(tensor)
            further = rng.standard_normal((CLASSES - len(known), *known.shape[1:])).astype(np.float32) * np.float32(
                0.01
            )
            tensor.CopyFrom(numpy_helper.from_array(np.concatenate([known, further]), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = CLASSES
    del model.graph.value_info[:]
    return named_as_resnet(model.SerializeToString().decode("latin-1")).encode("latin-1")  # the names are equally long


def named_as_resnet(text: str) -> str:
    """Names with `layer2` to `layer4` for `stage1` to `stage3`."""
    return re.sub(r"stage([123])", lambda found: f"layer{int(found[1]) + 1}", text)


def programs(folder: Path) -> None:
    """Write what PATH holds beside our commands: `python`, and a `pip` that installs nothing but checks what it is given."""
    folder.mkdir()
    program(folder / "python", f'exec "{sys.executable}" "$@"')
    program(folder / "pip", f'exec "{sys.executable}" "{Path(__file__).resolve().parent / "checked_pip.py"}" "$@"')


def program(path: Path, line: str) -> None:
    """A program of one line of shell."""
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
