"""A manifest's numbers are bounded before anything is made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import IntegrityError, ManifestError, RuntimeFailure, UnsafeGraphError
from xai_deploy.format.bounds import number_fault, text_fault
from xai_deploy.format.bundle import MANIFEST
from xai_deploy.format.graphs import Graph, Port
from xai_deploy.format.manifest import Manifest
from xai_deploy.foundation import schema
from xai_deploy.guarded_session import GuardedSession

from .. import tiny
from ..conftest import Bundles
from .test_bundle import rewrite


@pytest.fixture
def folder(bundles: Bundles, tmp_path: Path) -> Path:
    """A copy of a bundle with gradients."""
    return Path(shutil.copytree(bundles("pooled", gradients=True).path, tmp_path / "net.xai"))


def at(document: Any, path: str, value: object) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for parent in parents:
        document = document[parent]
    document[last] = value


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classes", 2**40, r"manifest\.classes: 1099511627776 is more than the 1048576"),
        ("input.height", 2**31 - 1, r"manifest\.input\.height: 2147483647 is more than the 65535"),
        ("input.height", HUGE, r"manifest\.input\.height: 9223372036854775807 is more than the 65535"),
        ("input.width", 70_000, r"manifest\.input\.width: 70000"),
        ("input.channels", 70_000, r"manifest\.input\.channels: 70000"),
        ("input.preprocess.resize", [99, 70_000], r"preprocess\.resize: 70000"),
        ("input.preprocess.resize", HUGE, r"preprocess\.resize: 9223372036854775807"),
        ("target.shape", [6, 4, 2**40], r"manifest\.target\.shape: 1099511627776"),
        ("target.shape", [60_000, 60_000, 5], r"manifest\.target\.shape: .* is more than the 67108864 numbers"),
        ("target.prefix_tokens", HUGE, r"manifest\.target\.prefix_tokens: 9223372036854775807"),
        ("target.prefix_tokens", -1, "a negative number of tokens"),
        ("classes", 2**20, r"manifest: classes x positions of the target: 20971520|the tail gives no"),
        ("side", [{"name": "s", "shape": [2**33], "dtype": "float32"}], r"manifest\.side\[0\]: impossible sizes"),
        ("side", [{"name": "s", "shape": [-1], "dtype": "float32"}], r"manifest\.side\[0\]: impossible sizes \[-1\]"),
        ("side", [{"name": "s", "shape": [1] * 9, "dtype": "float32"}], r"manifest\.side\[0\]: impossible sizes"),
        ("side", [{"name": "s", "shape": [1], "dtype": "object"}], "'object' is no type of numbers"),
        ("side", [{"name": "s", "shape": [1], "dtype": "O"}], "'O' is no type of numbers"),
        ("side", [{"name": "s", "shape": [1], "dtype": "0917049"}], "'0917049' is no type of numbers"),
        ("graphs.gradient.gives.2.name", "other", "the graph 'gradient' takes no 'seed', or gives neither"),
        ("graphs.gradient.takes.2.name", "other", "the graph 'gradient' takes no 'seed', or gives neither"),
        ("side", [{"name": f"s{i}", "shape": [1], "dtype": "float32"} for i in range(1025)], "side: entries: 1025"),
        ("outputs.0.shape", [2**40], r"manifest\.outputs\[0\]\.shape: impossible sizes"),
        ("left_out", {str(i): "" for i in range(1025)}, r"manifest\.left_out: entries: 1025"),
        ("composites", {str(i): "" for i in range(1025)}, r"manifest\.composites: entries: 1025"),
        ("graphs.head.opset", HUGE, r"graphs\['head'\]\.opset: 9223372036854775807"),
        ("graphs.head.opset", 0, "an opset below 1"),
        ("name", "x" * 5000, r"manifest\.name: a text of 5000 characters; 4096 are allowed"),
        ("extensions", {"signature": "x" * (2**20 + 1)}, "a text of 1048577 characters"),
        ("name", "\x1b[2J", r"manifest\.name: a text with control characters"),
        ("name", "a\nb", r"manifest\.name: a text with control characters"),
        ("left_out", {"a\nb": ""}, "manifest.left_out: a key: a text with control characters"),
        ("graphs.gradient.gives.0.shape", [7], r"the graph 'gradient' has 'logits' of shape \[7\], but .* says \[5\]"),
        (
            "outputs.0.shape",
            [6],
            r"the graph 'tail' has 'scores' of shape \[5\], but the rest of the manifest says \[6\]",
        ),
    ],
)
def test_out_of_bounds(folder: Path, path: str, value: object, message: str) -> None:
    def change(document: dict[str, Any]) -> None:
        at(document, path, value)

    rewrite(folder, change)
    with pytest.raises(ManifestError, match=message) as caught:
        Bundle.open(folder)
    assert str(caught.value).startswith(str(folder / MANIFEST))
    assert "\n" not in str(caught.value)


def test_halves_of_characters_are_refused() -> None:
    assert text_fault(json.loads(r'{"name": "\ud83d\ude00"}')) is None
    told = "manifest.name: a text with control characters or halves of characters"
    assert text_fault(json.loads(r'{"name": "\ud83d"}')) == told


def test_a_type_that_is_half_a_character(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    document["graphs"]["tail"]["gives"][1]["dtype"] = "\ud800"
    manifest = schema.load(Manifest, document, "manifest")
    assert "is no type of numbers" in str(number_fault(manifest))


def test_extensions_may_be_long(folder: Path) -> None:
    rewrite(folder, lambda d: d.update(extensions={"signature": "x" * 2**20}))
    assert len(Bundle.open(folder).manifest.extensions["signature"]) == 2**20


def sizes_hidden(folder: Path, file: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change a graph, and declare its outputs without sizes: nothing is to be seen before it runs."""
    from xai_deploy.format.bundle import file_records

    proto = onnx.load(folder / file)
    change(proto)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    (folder / file).write_bytes(proto.SerializeToString())
    record = file_records({file: proto.SerializeToString()})[file]
    rewrite(folder, lambda d: d["files"].update({file: {"sha256": record.sha256, "size": record.size}}))


def renamed(proto: onnx.ModelProto, name: str) -> None:
    for node in proto.graph.node:
        for i, output in enumerate(node.output):
            if output == name:
                node.output[i] = "before"
    for node in proto.graph.node:
        for i, given in enumerate(node.input):
            if given == name and node.op_type != "Concat":
                node.input[i] = "before"


@pytest.mark.parametrize(
    ("file", "name", "told"),
    [
        ("head.onnx", "activation", r"the graph 'head' gave 'activation' of shape \[4, 6, 4, 5\] for a batch of 2"),
        ("tail.onnx", "logits", r"the graph 'tail' gave 'logits' of shape \[4, 5\] for a batch of 2; .* \[2, 5\]"),
        ("tail.onnx", "scores", r"the graph 'tail' gave 'scores' of shape \[4, 5\] for a batch of 2"),
        ("gradient.onnx", "gradient", r"the graph 'gradient' gave 'gradient' of shape \[4, 6, 4, 5\] for a batch of 2"),
        ("gradient.onnx", "logits", r"the graph 'gradient' gave 'logits' of shape \[4, 5\] for a batch of 2"),
        ("input-gradient.onnx", "gradient", r"gave 'gradient' of shape \[4, 3, 16, 20\] for a batch of 2"),
        ("pixelwise-tail.onnx", "pixel_logits", r"gave 'pixel_logits' of shape \[2, 20, 5\] for a batch of 1"),
    ],
)
def test_more_rows_than_images(folder: Path, backend: str, file: str, name: str, told: str) -> None:
    """Twice as many rows as images, in each of the engine's tensors."""

    def twice(proto: onnx.ModelProto) -> None:
        renamed(proto, name)
        proto.graph.node.add(
            op_type="Concat", name="twice", input=["before", "before"], output=[name]
        ).attribute.append(onnx.helper.make_attribute("axis", 0))

    sizes_hidden(folder, file, twice)
    methods = {"gradient": "grad-cam", "input-gradient": "gradient", "pixelwise-tail": "reciprocam"}
    explainer = Explainer(folder, backend)
    with pytest.raises(RuntimeFailure, match=told):
        explainer.explain(tiny.inputs("pooled", 2), methods.get(file.removesuffix(".onnx"), "reciprocam"))


def test_sides_too(tmp_path: Path, backend: str) -> None:
    folder = tiny.write(tmp_path / "net.xai", "residual").path

    def half(proto: onnx.ModelProto) -> None:
        renamed(proto, "side/0")
        proto.graph.node.add(op_type="ReduceMean", input=["before"], output=["side/0"])

    sizes_hidden(folder, "head.onnx", half)
    with pytest.raises(RuntimeFailure, match=r"the graph 'head' gave 'side/0' of shape \[1, 1, 1, 1\]"):
        Explainer(folder, backend).explain(tiny.inputs("residual", 2), "reciprocam")


def test_graph_of_another_role(folder: Path) -> None:
    rewrite(folder, lambda d: d["graphs"]["gradient"].update(file="tail.onnx"))
    with pytest.raises(
        UnsafeGraphError, match=r"tail\.onnx: the manifest says that it takes '(seed|target)'; it does not"
    ):
        Explainer(folder, "onnxruntime").explain(tiny.inputs("pooled", 1), "grad-cam")


def test_tensors_on_a_device_are_compared_too() -> None:
    class OnDevice:
        shape = (3, 5)

        def numpy(self) -> Any:
            raise AssertionError("copied")

    class Runtime:
        def run(self, feeds: Any, fetch: Any) -> dict[str, Any]:
            return {"logits": OnDevice()}

    class Anything:
        def check_batch(self, batch: int) -> None: ...

    graph = Graph("tail.onnx", 18, gives=(Port("logits", (5,), None),))
    session = GuardedSession(Runtime(), Anything(), graph, "tail")  # type: ignore[arg-type]
    session.run({"x": np.zeros((3, 1))}, ["logits"])
    with pytest.raises(RuntimeFailure, match=r"shape \[3, 5\] for a batch of 2"):
        session.run({"x": np.zeros((2, 1))}, ["logits"])


def test_a_batch_is_checked_before_it_runs() -> None:
    ran: list[int] = []

    class Runtime:
        def run(self, feeds: Any, fetch: Any) -> dict[str, Any]:
            ran.append(len(feeds["x"]))
            return {}

    class Guarded:
        def check_batch(self, batch: int) -> None:
            if batch > 2:
                raise UnsafeGraphError(f"{batch}")

    session = GuardedSession(Runtime(), Guarded(), Graph("tail.onnx", 18), "tail")  # type: ignore[arg-type]
    session.run({"x": np.zeros((2, 1))}, [])
    with pytest.raises(UnsafeGraphError, match="3"):
        session.run({"x": np.zeros((3, 1)), "scale": np.array(1)}, [])
    assert ran == [2]


def test_manifest_of_many_brackets(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 200_000)
    with pytest.raises(ManifestError, match="not valid JSON"):
        Bundle.open(folder)
    (folder / MANIFEST).write_text(json.dumps({"format": 2, "x": 1}) + " " * (17 << 20))
    with pytest.raises(IntegrityError, match="larger than the 16777216 bytes"):
        Bundle.open(folder)
