"""Outputs that join numbers of several kinds, and inner tensors that are named in their place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.utils import Extractor
from xai_exporters.errors import GraphError, RequestError

from xai_deploy import Explainer, Like

from ... import nets
from ... import onnx_nets as o
from ...running import HEAD_AND_TAIL, export_onnx

BACKENDS = ("onnxruntime", "openvino")
IMAGE = np.random.default_rng(3).integers(0, 256, (*nets.SIZE, 3), np.uint8)

Parts = list[tuple[str | None, int]]
OBJECT: Parts = [("Sigmoid", 1), (None, 4), ("Softmax", 3)]
"""Objectness, distances and classes of a detector of one stage."""


def network(parts: Parts, dense: bool, after: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A part for each function, of so many numbers, at each position or for each image; joined in "result"."""
    b = o.Build()
    features = b.features()
    values = []
    for i, (function, size) in enumerate(parts):
        own = b.conv(features, o.CHANNELS, size, 1)
        own = own if dense else b.pooled(own)
        along: dict[str, Any] = {"axis": 1} if function == "Softmax" else {}
        out = f"part_{i}"
        values.append(b(function, own, out=out, **along) if function else b("Identity", own, out=out))
    joined = b("Concat", *values, axis=1, out="" if after else "result")
    for op in after:
        along = {"perm": [0, 2, 3, 1]} if op == "Transpose" else {}
        joined = b(op, joined, out="result" if op == after[-1] else "", **along)
    count = sum(size for _, size in parts)
    shape = ("N", "a", "b", "c") if dense else ("N", count)
    return b.model("result", ranks={"result": (o.FLOAT, shape)})


@pytest.mark.parametrize("after", [(), ("Transpose",)])
@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        (OBJECT, "1 of Sigmoid ('part_0'), 4 of no function (.*), 3 of Softmax"),
        ([("Tanh", 4), ("Sigmoid", 2)], "4 of Tanh ('part_0'), 2 of Sigmoid ('part_1')"),
        ([("Softmax", 3), ("Exp", 2)], "3 of Softmax ('part_0'), 2 of Exp ('part_1')"),
    ],
    ids=["detector", "Tanh", "Exp"],
)
def test_a_map_of_several_kinds(tmp_path: Path, parts: Parts, kinds: str, after: tuple[str, ...]) -> None:
    """It was explained as one class for each channel, which argmax chose among objectness, distances and classes."""
    said = kinds.replace("(", r"\(").replace(")", r"\)")
    count = sum(size for _, size in parts)
    expected = rf"'result' joins numbers of several kinds: {said}.*not the scores of {count} classes.*--output$"
    with pytest.raises(GraphError, match=expected):
        export_onnx(tmp_path, network(parts, True, after))
    assert not (tmp_path / "net.xai").exists()


def test_numbers_of_several_kinds(tmp_path: Path) -> None:
    """For an image they can be taken as they are."""
    model = network([("Softmax", 3), (None, 2)], False)
    with pytest.raises(GraphError, match=r"joins numbers of several kinds.*--task numbers$"):
        export_onnx(tmp_path, model)
    done = export_onnx(tmp_path, model, task="numbers", roles=HEAD_AND_TAIL)
    assert done.manifest.scores.kind == "vector"


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    "parts", [[("Softmax", 3), ("Softmax", 4)], [("Sigmoid", 1), ("Sigmoid", 4)], [(None, 2), (None, 3)]]
)
def test_parts_of_one_kind(tmp_path: Path, parts: Parts, dense: bool) -> None:
    """Two groups of classes, or weights that were split, are classes, and the parts are told."""
    done = export_onnx(tmp_path, network(parts, dense), roles=HEAD_AND_TAIL)
    count = sum(size for _, size in parts)
    assert done.manifest.scores.shape[0] == count
    [note] = [note for note in done.notes if "joins" in note]
    sizes = ", ".join(rf"{size} of '\w+'" for _, size in parts)
    advice = r"If they are not all scores of classes, name the part to explain with --output\."
    assert re.fullmatch(rf"The output 'result' joins 2 parts to {count} classes: {sizes}\. {advice}", note)


def test_a_part_for_each_class(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, network([(None, 1)] * 8, False), roles=HEAD_AND_TAIL)
    assert any(re.search(r"joins 8 parts to 8 classes: (1 of '\w+'(, )?){6} and 2 more\.", note) for note in done.notes)


def test_nothing_is_joined(tmp_path: Path) -> None:
    """Neither channels that a layer follows, nor scores of several images, are parts of an output."""
    assert not any("joins" in note for note in export_onnx(tmp_path, o.classifier(), roles=HEAD_AND_TAIL).notes)


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ([("Softmax", 5), ("Sigmoid", 1)], "5 of Softmax .*, 1 of Sigmoid"),
        ([("Softmax", 2), ("Softmax", 8), ("Sigmoid", 1)], "2 of Softmax .*, 8 of Softmax .*, 1 of Sigmoid"),
    ],
)
def test_probabilities_of_several_kinds(tmp_path: Path, parts: Parts, kinds: str) -> None:
    """All lie in [0,1], so they were taken for as many classes."""
    with pytest.raises(GraphError, match=rf"joins numbers of several kinds: {kinds}.*--task numbers$"):
        export_onnx(tmp_path, network(parts, False))


def test_two_sides_of_one_question(tmp_path: Path) -> None:
    """p and 1 - p sum to 1: they are the two classes, and nothing is told."""
    b = o.Build()
    p = b("Sigmoid", b.pooled(b.conv(b.features(), o.CHANNELS, 1, 1)))
    b("Concat", b("Sub", b.weight(np.float32(1)), p), p, axis=1, out="result")
    done = export_onnx(tmp_path, b.model("result"), roles=HEAD_AND_TAIL)
    assert done.manifest.activation == "normalised"
    assert not any("joins" in note for note in done.notes)


@pytest.mark.parametrize("dense", [False, True])
def test_a_background(tmp_path: Path, dense: bool) -> None:
    """1 - max(p) joined with p is a probability, too, though no such function gave it."""
    b = o.Build()
    classes = b.conv(b.features(), o.CHANNELS, 3, 1)
    classes = b("Sigmoid", classes if dense else b.pooled(classes))
    background = b("Sub", b.weight(np.float32(1)), b("ReduceMax", classes, b.weight([1])))
    b("Concat", background, classes, axis=1, out="result")
    sizes = ("N", 4, 8, 10) if dense else ("N", 4)
    done = export_onnx(tmp_path, b.model("result", ranks={"result": (o.FLOAT, sizes)}), roles=HEAD_AND_TAIL)
    assert done.manifest.scores.shape[0] == 4


@pytest.mark.parametrize(("dense", "name"), [(True, "part_2"), (False, "part_2"), (True, "part_0")])
def test_a_part_by_its_name(tmp_path: Path, dense: bool, name: str) -> None:
    """An inner tensor is explained as the output of a file that ends in it: by the runtime's own values, and map for map."""
    model = network(OBJECT, dense)
    done = export_onnx(tmp_path, model, output=name)
    assert [own.name for own in done.manifest.outputs if own.kind != "other"] == [name]
    assert {own.name for own in done.manifest.outputs} == {name, "result"}

    cut = tmp_path / "cut"
    cut.mkdir()
    alone = Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["image"], [name])
    export_onnx(cut, alone)
    pixels = IMAGE.astype(np.float32).transpose(2, 0, 1)[None]
    [expected] = onnxruntime.InferenceSession(alone.SerializeToString()).run([name], {"image": pixels})
    for backend in BACKENDS:
        here, there = (Explainer(folder / "net.xai", backend=backend) for folder in (tmp_path, cut))
        for explainer in (here, there):
            own = explainer.explain(IMAGE, method="grad-cam").outputs
            np.testing.assert_allclose(own[name], expected, rtol=1e-4, atol=1e-6)
        for method in ("grad-cam", "reciprocam", "relevance-cam"):
            got, want = (explainer.explain(IMAGE, method=method).heatmap for explainer in (here, there))
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_no_such_tensor(tmp_path: Path) -> None:
    """Inputs and weights are none that a node gives."""
    model = network(OBJECT, True)
    for name in ("part_9", "image", model.graph.initializer[0].name):
        with pytest.raises(RequestError, match=f"no output or inner tensor {name!r}; it has result$"):
            export_onnx(tmp_path, model, output=name)


def test_an_inner_tensor_as_an_embedding(tmp_path: Path) -> None:
    """The pooled features of a classifier, whose type the file does not state, divided by their length."""
    model = o.classifier()
    [pooled] = (node.output[0] for node in model.graph.node if node.op_type == "Flatten")
    export_onnx(tmp_path, model, output=pooled, task="embedding", roles=HEAD_AND_TAIL)
    alone = Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["image"], [pooled])
    pixels = IMAGE.astype(np.float32).transpose(2, 0, 1)[None]
    [features] = onnxruntime.InferenceSession(alone.SerializeToString()).run([pooled], {"image": pixels})
    ones = Like(np.ones(o.CHANNELS, np.float32))
    for backend in BACKENDS:
        given = Explainer(tmp_path / "net.xai", backend=backend).explain(IMAGE, "reciprocam", ones)
        np.testing.assert_allclose(given.logits, features / np.linalg.norm(features), atol=1e-5)


def test_the_remedy_for_a_decision(tmp_path: Path) -> None:
    """A refused ArgMax names the scores before it; with this name the classes are explained."""
    b = o.Build()
    scores = b.linear(b.pooled(b.features()))
    b("ArgMax", scores, axis=1, out="result")
    model = b.model("result", ranks={"result": (onnx.TensorProto.INT64, ("N", 1))})
    with pytest.raises(GraphError, match=f"which seem to be '{scores}', or name these with --output$"):
        export_onnx(tmp_path, model)
    done = export_onnx(tmp_path, model, output=scores, roles=("gradient",))
    assert done.manifest.scores.shape == (nets.CLASSES,)
    result = Explainer(tmp_path / "net.xai", "onnxruntime").explain(IMAGE, "grad-cam")
    np.testing.assert_array_equal(result.outputs["result"].reshape(-1), result.logits.argmax(axis=1))
