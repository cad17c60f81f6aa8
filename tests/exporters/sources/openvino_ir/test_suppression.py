"""NonMaxSuppression in an IR: `openvino_ir/rules/choosing.py`, `openvino_ir/suppression.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters import Request, export
from xai_exporters.errors import SourceError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import suppression
from xai_exporters.sources.openvino_ir.translate import translate

from xai_deploy import Explainer
from xai_deploy.foundation import runtimes

from ...running import HEAD_AND_TAIL
from .running import agree, c, f32, ints, o, of_version, ov, saved

RNG = np.random.default_rng(4)


def chosen(x: Any, output: int, encoding: str, ordered: bool, classes: int, **options: Any) -> Any:
    """One output of a suppression among 15 boxes of up to three classes, from x [N,3,5,7]."""
    flat = o.reshape(x, ints(0, -1), True)
    boxes = o.reshape(o.slice(flat, ints(0), ints(60), ints(1), ints(1)), ints(0, 15, 4), True)
    boxes = o.abs(boxes) if encoding == "center" else boxes  # an extent is not negative
    scores = o.reshape(o.slice(flat, ints(60), ints(60 + 15 * classes), ints(1), ints(1)), ints(0, classes, 15), True)
    limits = {"max_output_boxes_per_class": c(np.int64(6)), "iou_threshold": f32(0.3), "score_threshold": f32(-0.5)}
    node = o.non_max_suppression(
        boxes, scores, **{**limits, **options}, box_encoding=encoding, sort_result_descending=ordered
    )
    return o.convert(node.output(output), "f32")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("encoding", ["corner", "center"])
@pytest.mark.parametrize("output", [0, 1, 2], ids=["places", "scores", "number"])
def test_chooses_as_openvino_does(
    output: int, encoding: str, ordered: bool, classes: int, batch: int, tmp_path: Path
) -> None:
    path = saved(tmp_path, lambda x: chosen(x, output, encoding, ordered, classes), batch)
    agree(path, RNG.normal(size=(batch, 3, 5, 7)).astype(np.float32))


def test_the_limits_may_be_left_out(tmp_path: Path) -> None:
    """Then nothing is chosen: the most boxes of a class are 0. (OpenVINO 2026.4 ends the process with a crash.)"""

    def build(x: Any) -> Any:
        flat = o.reshape(x, ints(1, -1), False)
        boxes = o.reshape(o.slice(flat, ints(0), ints(60), ints(1), ints(1)), ints(1, 15, 4), False)
        scores = o.reshape(o.slice(flat, ints(60), ints(75), ints(1), ints(1)), ints(1, 1, 15), False)
        given = {"box_encoding": "corner", "sort_result_descending": True}
        return o.convert(of_version("opset9", "NonMaxSuppression", [boxes, scores], **given).output(0), "f32")

    model = ir.to_proto(translate(ov.Core().read_model(saved(tmp_path, build, 1)), 1 << 30))
    session = runtimes.onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [places] = session.run(None, {session.get_inputs()[0].name: np.ones((1, 3, 5, 7), np.float32)})
    assert places.shape == (0, 3)


def test_soft_suppression_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda x: chosen(x, 1, "corner", False, 1, soft_nms_sigma=f32(0.5)), 1)
    with pytest.raises(SourceError, match=r"\(NonMaxSuppression\): lowers the scores of boxes that overlap"):
        load_source(Request(path))


def test_places_of_numbers(tmp_path: Path) -> None:
    """As detectors choose rows above a threshold: how many there are depends on the image."""
    path = saved(tmp_path, lambda x: o.convert(o.non_zero(o.greater(x, f32(0.2)), "i32"), "f32"), 1)
    agree(path, RNG.normal(size=(1, 3, 5, 7)).astype(np.float32))


def test_filled_up(tmp_path: Path) -> None:
    """A list of as many boxes as there are, and then zeros."""

    def build(x: Any) -> Any:
        found = o.convert(o.non_zero(o.greater(x, f32(0.2)), "i64"), "f32")
        rest = o.subtract(ints(105), o.gather(o.shape_of(found), ints(1), c(0)))
        return o.pad(found, ints(0, 0), o.concat([ints(0), rest], 0), "constant", f32(-1))

    agree(saved(tmp_path, build, 1), RNG.normal(size=(1, 3, 5, 7)).astype(np.float32))


SIZE, CLASSES = 6, 3
WEIGHTS = RNG.normal(size=(8, 3, 3, 3)).astype(np.float32) / 256
HEADS = {n: size * RNG.normal(size=(n, 8, 1, 1)).astype(np.float32) for n, size in ((4, 2.0), (CLASSES, 0.2))}
IMAGE = RNG.uniform(0, 255, (1, 3, 2 * SIZE, 2 * SIZE)).astype(np.float32)


def best(boxes: Any, scores: Any) -> Any:
    """The boxes that a suppression leaves, [n,4]."""
    kept = o.non_max_suppression(boxes, scores, c(np.int64(5)), f32(0.5), f32(0.0), sort_result_descending=False)
    return o.gather(o.squeeze(boxes, ints(0)), o.gather(kept.output(0), c(np.int64(2)), c(np.int64(1))), c(np.int64(0)))


@pytest.mark.parametrize("stages", [1, 2])
def test_proposals_are_no_detections(stages: int, tmp_path: Path) -> None:
    """Of a network of two stages the boxes that its first one proposes are not given: a layer follows their suppression."""

    def build(x: Any) -> Any:
        flat = o.reshape(x, ints(1, -1), False)
        boxes = o.reshape(o.slice(flat, ints(0), ints(60), ints(1), ints(1)), ints(1, 15, 4), False)
        scores = o.reshape(o.slice(flat, ints(60), ints(75), ints(1), ints(1)), ints(1, 1, 15), False)
        left = best(boxes, scores)
        for _ in range(stages - 1):
            moved = o.matmul(left, c(np.eye(4, dtype=np.float32)), False, False)
            left = best(o.unsqueeze(moved, ints(0)), o.unsqueeze(o.reduce_mean(moved, ints(1), False), ints(0, 1)))
        return left

    model = ov.Core().read_model(saved(tmp_path, build, 1))
    suppression.add_what_is_chosen_from(model)
    assert len(model.outputs) == (3 if stages == 1 else 1)


LISTS: dict[str, Any] = {
    "MulticlassNms": lambda boxes, scores, background: o.multiclass_nms(
        boxes, scores, sort_result_type="score", output_type="i32", iou_threshold=0.5, score_threshold=0.01, nms_top_k=30,
        keep_top_k=20, background_class=background,
    ),
    "MatrixNms": lambda boxes, scores, background: o.matrix_nms(
        boxes, scores, sort_result_type="score", output_type="i32", score_threshold=0.01, nms_top_k=30, keep_top_k=20,
        background_class=background,
    ),
}  # fmt: skip


def detector(kind: str, folder: Path, scaled: bool, background: int | None = None, softmax: bool = False) -> Path:
    """Boxes around each cell, and a probability of each class; `scaled`: divided by a further input, as PaddleDetection's are."""
    x = o.parameter(ov.PartialShape([1, 3, 2 * SIZE, 2 * SIZE]), np.float32, name="image")
    x.output(0).get_tensor().set_names({"image"})
    features = o.relu(o.convolution(x, c(WEIGHTS), [2, 2], [1, 1], [1, 1], [1, 1]))

    def head(n: int) -> Any:
        return o.reshape(o.convolution(features, c(HEADS[n]), [1, 1], [0, 0], [0, 0], [1, 1]), ints(1, n, -1), False)

    cells = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(1, -1, 2) * 2.0 + 1
    away = o.multiply(o.sigmoid(o.transpose(head(4), ints(0, 2, 1))), f32(5))
    signs = c(np.array([-1, -1, 1, 1], np.float32))
    boxes = o.add(c(np.tile(cells, 2).astype(np.float32)), o.multiply(away, signs))
    further = []
    if scaled:
        further.append(o.parameter(ov.PartialShape([1, 2]), np.float32, name="scale_factor"))
        further[0].output(0).get_tensor().set_names({"scale_factor"})
        boxes = o.divide(boxes, o.unsqueeze(o.concat([further[0], further[0]], 1), ints(1)))
    shares = o.softmax(head(CLASSES), 1) if softmax else o.sigmoid(head(CLASSES))
    found = LISTS[kind](boxes, shares, -1 if background is None else background)
    ov.save_model(ov.Model([found.output(0), found.output(2)], [x, *further], "net"), folder / "net.xml", False)
    return folder / "net.xml"


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_that_no_rule_writes(kind: str, scaled: bool, tmp_path: Path) -> None:
    """The best box is the first of OpenVINO's own list, and its gradient that of its logit, on both runtimes."""
    path = detector(kind, tmp_path, scaled)
    more: dict[str, Any] = {"input": ("scale_factor=1",)} if scaled else {}
    done = export(
        Request(
            path, output_path=tmp_path / "net.xai", preprocess="none", input_gradient=True, **more, roles=HEAD_AND_TAIL
        )
    )
    assert any(f"suppression ({kind}) is left out" in note for note in done.notes)
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = compiled([IMAGE, np.ones((1, 2), np.float32)] if scaled else [IMAGE])[0]
    raw = []
    for backend in ("onnxruntime", "openvino"):
        result = Explainer(done.path, backend).explain(IMAGE, "gradient")
        first = result.detections[0][0]
        assert first.index == rows[0, 0]
        np.testing.assert_allclose(first.score, rows[0, 1], rtol=1e-4)
        np.testing.assert_allclose(first.box, rows[0, 2:], atol=1e-3)
        raw.append(result.raw)
    np.testing.assert_allclose(raw[0], raw[1], rtol=0, atol=1e-5 * np.abs(raw[0]).max())


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("background", [None, 0, CLASSES - 1])
@pytest.mark.parametrize("kind", LISTS)
def test_the_class_that_it_leaves_out(kind: str, background: int | None, softmax: bool, tmp_path: Path) -> None:
    """A list holds no box of the background, wherever it stands (PaddleDetection's SSD: last); a Softmax does not tell."""
    path = detector(kind, tmp_path, False, background, softmax)
    done = export(Request(path, output_path=tmp_path / "net.xai", preprocess="none", roles=HEAD_AND_TAIL))
    assert done.manifest.scores.rows is not None
    assert done.manifest.scores.rows.background == background
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    label, score, *box = compiled([IMAGE])[0][0]
    for backend in ("onnxruntime", "openvino"):
        first = Explainer(done.path, backend).explain(IMAGE, "reciprocam").detections[0][0]
        assert first.index == label
        np.testing.assert_allclose(first.score, score, rtol=1e-4)
        np.testing.assert_allclose(first.box, box, atol=1e-3)
