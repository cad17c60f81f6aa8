"""DetectionOutput at the end of an IR: `openvino_ir/detection_output.py`. OpenVINO's own list of boxes is the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters import Export, Request, export
from xai_exporters.errors import SourceError
from xai_exporters.sources import load_source

from xai_deploy import Explainer

from ...running import HEAD_AND_TAIL
from .running import c, ints, o, of_version, ov

SIZE, CLASSES = 6, 3
RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(8, 3, 3, 3)).astype(np.float32) / 256
HEADS = {n: RNG.normal(size=(n, 8, 1, 1)).astype(np.float32) for n in (8, 2 * CLASSES, 8 * CLASSES)}
IMAGE = RNG.uniform(0, 255, (1, 3, 2 * SIZE, 2 * SIZE)).astype(np.float32)
OPTIONS: dict[str, Any] = {
    "background_label_id": 0, "top_k": -1, "keep_top_k": [2 * SIZE * SIZE * CLASSES], "nms_threshold": 1.0,
    "confidence_threshold": 0.0, "share_location": True, "normalized": True,
    "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "centre": {},
    "corners": {"code_type": "caffe.PriorBoxParameter.CORNER"},
    "without variances": {"variance_encoded_in_target": True},
    "clipped": {"clip_before_nms": True},
    "no background": {"background_label_id": -1},
    "background last": {"background_label_id": CLASSES - 1},
}


def saved(
    folder: Path, peeled: bool = True, after: bool = False, half: bool = False, codes: int = 8, **options: Any
) -> Path:
    """An SSD of one level, two priors for each cell, as `folder/ssd.xml`.

    Args:
        peeled: The Softmax is over the classes of each row; else the probabilities are a Sigmoid's, laid out in one row already.
        after: A Convert follows the list.
        half: Weights in float16.
        codes: Channels of the codes.
        options: Of DetectionOutput.
    """
    x = o.parameter(ov.PartialShape([1, 3, 2 * SIZE, 2 * SIZE]), np.float32, name="data")
    x.output(0).get_tensor().set_names({"data"})
    features = o.relu(o.convolution(x, c(WEIGHTS), [2, 2], [1, 1], [1, 1], [1, 1]))

    def head(channels: int) -> Any:
        y = o.convolution(features, c(HEADS[channels]), [1, 1], [0, 0], [0, 0], [1, 1])
        return o.transpose(y, ints(0, 2, 3, 1))

    offsets = o.reshape(head(codes), ints(1, -1), False)
    scores = head(2 * CLASSES)
    if peeled:
        scores = o.softmax(o.reshape(scores, ints(1, -1, CLASSES), False), 2)
    else:
        scores = o.sigmoid(o.reshape(scores, ints(1, -1), False))
    sides = [o.slice(o.shape_of(value), ints(2), ints(4), ints(1), ints(0)) for value in (features, x)]
    given = {"min_size": [4.0], "aspect_ratio": [2.0], "step": 2.0, "offset": 0.5, "variance": [0.1, 0.1, 0.2, 0.2]}
    priors = o.unsqueeze(of_version("opset1", "PriorBox", sides, **given), ints(0))
    if options.get("variance_encoded_in_target"):
        priors = o.slice(priors, ints(0), ints(1), ints(1), ints(1))
    chosen = o.detection_output(offsets, o.reshape(scores, ints(1, -1), False), priors, {**OPTIONS, **options})
    result = o.convert(chosen, "f32") if after else chosen
    result.output(0).get_tensor().set_names({"detection_out"})
    ov.save_model(ov.Model([result], [x], "ssd"), folder / "ssd.xml", compress_to_fp16=half)
    return folder / "ssd.xml"


def listed(path: Path, image: Any) -> dict[int, Any]:
    """OpenVINO's own list: class -> rows of score, left, top, right, bottom, sorted."""
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = compiled(image)[0].reshape(-1, 7)
    rows = rows[: np.argmax(np.append(rows[:, 0], -1) < 0)]  # a row of -1 ends the list
    return {kind: _ordered(rows[rows[:, 1] == kind][:, 2:]) for kind in range(CLASSES)}


def _ordered(rows: Any) -> Any:
    return rows[np.lexsort(np.round(rows, 4).T)]


@pytest.mark.parametrize("peeled", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_chosen_from(form: str, peeled: bool, tmp_path: Path) -> None:
    """A DetectionOutput that leaves nothing out lists all boxes of all classes but the background."""
    path = saved(tmp_path, peeled, after=peeled, **FORMS[form])
    network = load_source(Request(path))
    assert network.reference is not None
    want, got = listed(path, IMAGE), network.reference(IMAGE)
    assert got["scores"].shape == (1, 2 * SIZE * SIZE, CLASSES)
    background = FORMS[form].get("background_label_id", 0)
    for kind in {*range(CLASSES)} - {background}:
        rows = np.concatenate([got["scores"][0, :, kind : kind + 1], got["boxes"][0]], axis=1)
        np.testing.assert_allclose(_ordered(rows), want[kind], rtol=1e-6, atol=2e-5)
    assert background < 0 or not len(want[background])
    assert network.proto.metadata_props[0].value == str(background)


def test_the_background_of_sigmoids(tmp_path: Path) -> None:
    """TensorFlow's SSDs have a Sigmoid for each class, and class 0 means "no object" all the same: none of its boxes is listed."""
    path = saved(tmp_path, peeled=False, nms_threshold=0.45, confidence_threshold=0.01)
    done = export(Request(path, output_path=tmp_path / "ssd.xai", preprocess="none", roles=HEAD_AND_TAIL))
    assert done.manifest.scores.rows is not None
    assert done.manifest.scores.rows.background == 0
    want = listed(path, IMAGE)
    score, kind = max((rows[:, 0].max(), kind) for kind, rows in want.items() if len(rows))
    for backend in ("onnxruntime", "openvino"):
        first = Explainer(done.path, backend).explain(IMAGE, "reciprocam").detections[0][0]
        assert first.index == kind
        np.testing.assert_allclose(first.score, score, rtol=1e-4)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "float16"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("ssd")
    path = saved(folder, half=request.param, nms_threshold=0.45, confidence_threshold=0.5)
    return export(
        Request(path, output_path=folder / "ssd.xai", preprocess="none", input_gradient=True, roles=HEAD_AND_TAIL)
    )


def test_says_what_it_leaves_out(bundle: Export) -> None:
    assert any("suppression (DetectionOutput) is left out" in note for note in bundle.notes)
    assert bundle.manifest.scores.rows is not None
    assert bundle.manifest.scores.rows.background == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_finds_what_openvino_finds(backend: str, bundle: Export) -> None:
    """The list of the file itself, after its own suppression, and a gradient of the best box's logit by differences."""
    explainer = Explainer(bundle.path, backend)
    result = explainer.explain(IMAGE, "gradient")
    want = listed(bundle.path.parent / "ssd.xml", IMAGE)
    best = max(rows[:, 0].max() for rows in want.values() if len(rows))
    [kind] = [kind for kind, rows in want.items() if len(rows) and rows[:, 0].max() == best]
    first = result.detections[0][0]
    assert first.index == kind
    assert first.score == pytest.approx(best, abs=2e-3)
    own = want[kind][want[kind][:, 0].argmax()][1:] * 2 * SIZE
    np.testing.assert_allclose(first.box, own, atol=2e-2)


@pytest.mark.parametrize(
    "options",
    [{"share_location": False}, {"decrease_label_id": True}],
)
def test_other_forms_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    """Boxes of each class would be other rows; without the background the classes would have other numbers."""
    path = saved(tmp_path, codes=8 * (1 if options.get("share_location", True) else CLASSES), **options)
    with pytest.raises(
        SourceError,
        match=r"\(DetectionOutput\): chooses boxes inside the graph in a form that .* \(boxes for each class",
    ):
        load_source(Request(path))
