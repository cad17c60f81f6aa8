"""What a manifest states: wrong types and values, keys that are missing or unknown, ports of the graphs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import (
    FormatVersionError,
    ManifestError,
    MissingRoleError,
)

from ..conftest import Bundles
from .test_bundle import rewrite


def set_at(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change of one place in the document."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            document = document[parent]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, r"manifest\.name: expected str, got int"),
        ("classes", "5", r"manifest\.classes: expected int, got str"),
        ("classes", True, r"manifest\.classes: expected int, got bool"),
        ("classes", 5.0, r"manifest\.classes: expected int, got float"),
        ("classes", 0, "sizes must be positive"),
        ("input.height", -16, "sizes must be positive"),
        (
            "input.layout",
            "CHW",
            r"manifest\.input\.layout: expected one of 'NCHW', 'NHWC', 'NCDHW', 'NDHWC', 'NDCHW', got 'CHW'",
        ),
        ("input.layout", "NCDHW", "the input is NCDHW, which does not fit its depth"),
        ("input.depth", 4, "the input is NCHW, which does not fit its depth"),
        ("input", None, r"manifest\.input: expected an object, got nothing"),
        ("input.preprocess.scale", float("nan"), r"manifest\.input\.preprocess\.scale: expected a finite number"),
        ("input.preprocess.scale", float("inf"), "expected a finite number"),
        ("input.preprocess.scale", 10**400, "expected a finite number"),
        ("input.preprocess.mean", [0.0], "mean and std need 3 values each"),
        ("input.preprocess.mean", [0.0, 0.0, "x"], r"manifest\.input\.preprocess\.mean\[2\]: expected float, got str"),
        ("input.preprocess.mean", 0.0, r"expected a list, got float"),
        ("input.preprocess.std", [1.0, 0.0, 1.0], "std none of them zero"),
        ("input.preprocess.resize", 17, "images are resized to 17, smaller than the crop"),
        ("input.preprocess.resize", [99, 17], "images are resized to 99,17, smaller than the crop"),
        ("target.shape", [6, 4], r"manifest\.target\.shape: expected 3 items, got 2"),
        ("surplus", 1, r"manifest: unknown key 'surplus'"),
        ("graphs.head.surplus", 1, r"manifest\.graphs\['head'\]: unknown key 'surplus'"),
        ("graphs", [], r"manifest\.graphs: expected an object, got list"),
        ("graphs.extra", {"file": "none.onnx", "opset": 18}, r"graph 'extra' names 'none\.onnx', but no hash of it"),
        ("files.head.onnx", 1, "expected an object"),
        ("batch", 1, r"manifest\.batch: expected one of 'any', 'one', got 1"),
        ("activation", "tanh", r"manifest\.activation: expected one of 'softmax', .*, got 'tanh'"),
        ("logits_step", float("nan"), r"manifest\.logits_step: expected a finite number"),
        ("logits_step", -0.5, "logits_step can't be negative"),
        ("requires", "x", r"manifest\.requires: expected a list, got str"),
        ("extensions", {"x": 1}, r"manifest\.extensions\['x'\]: expected str, got int"),
        ("labels", 1, r"manifest\.labels: expected str, got int"),
    ],
)
def test_wrong_values(folder: Path, path: str, value: object, message: str) -> None:
    if path == "files.head.onnx":
        rewrite(folder, lambda d: d["files"].update({"head.onnx": value}))
    else:
        rewrite(folder, set_at(path, value))
    with pytest.raises(ManifestError, match=message) as caught:
        Bundle.open(folder)
    assert str(folder / "manifest.json") in str(caught.value)


@pytest.mark.parametrize(
    "key", ["digest", "name", "input", "target", "classes", "outputs", "graphs", "activation", "batch"]
)
def test_missing_key(folder: Path, key: str) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    del document[key]
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ManifestError, match=f"the key '{key}' is missing"):
        Bundle.open(folder)


@pytest.mark.parametrize("role", ["head", "tail"])
def test_missing_graph(folder: Path, role: str) -> None:
    rewrite(folder, lambda d: d["graphs"].pop(role))
    with pytest.raises(ManifestError, match=f"the graph '{role}' is missing"):
        Bundle.open(folder)


@pytest.mark.parametrize("value", [["shared-weights"], ["x", 1]])
def test_required_feature(folder: Path, value: list[Any]) -> None:
    """It is told before the keys and values that come with it."""
    rewrite(folder, lambda d: d.update(requires=value, novelty=1, batch="two"))
    message = f"the bundle requires '{value[0]}', which this version of xai-deploy does not know; update xai-deploy"
    with pytest.raises(FormatVersionError, match=message):
        Bundle.open(folder)


def test_extensions_are_ignored(folder: Path) -> None:
    rewrite(folder, lambda d: d.update(extensions={"signature": "abc"}))
    opened = Bundle.open(folder)
    assert opened.manifest.extensions == {"signature": "abc"}
    Explainer(folder, "onnxruntime")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tail.takes", [], "the graph 'tail' does not say what it takes and gives"),
        ("pixelwise-tail.gives", [], "the graph 'pixelwise-tail' does not say what it takes and gives"),
        (
            "head.takes.0.shape",
            [3, 16, 21],
            "the tensors that the head takes differ from those that the manifest states",
        ),
        ("head.takes.0.name", "picture", "the graph 'head' takes no 'image'"),
        ("head.gives.0.shape", [6, 4, 6], "the tensors that the head gives differ from those that the manifest states"),
        ("tail.takes.0.dtype", "float16", "the tensors that the tail takes differ from those that the manifest states"),
        ("tail.gives.0.shape", [6], "the tail gives no 'logits' of 5 classes"),
        ("tail.gives.1.name", "logits", "the graph 'tail' gives two tensors with the same name"),
        ("tail.gives.1.shape", [-5], r"graphs\['tail'\]: the port 'scores': impossible sizes \[-5\]"),
        ("tail.gives.1.shape", ["N"], r"gives\[1\]\.shape\[0\]: expected int, got str"),
    ],
)
def test_ports(folder: Path, path: str, value: object, message: str) -> None:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = document["graphs"]
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[last] = value

    rewrite(folder, change)
    with pytest.raises(ManifestError, match=message):
        Bundle.open(folder)


def test_missing_role(bundles: Bundles) -> None:
    with pytest.raises(MissingRoleError, match=r"holds no 'gradient' graph \(it holds head, tail, pixelwise-tail\)"):
        Bundle.open(bundles("pooled").path).graph("gradient")
