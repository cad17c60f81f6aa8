"""What can be asked of a detector, what is refused, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xai_exporters import Request, export
from xai_exporters.errors import ExportError

from tests.exporters.running import HEAD_AND_TAIL
from tests.project.desk import detector
from xai_deploy import Box, Contrast, DetectionLimits, Explainer, Not, write_image
from xai_deploy.answer import answer
from xai_deploy.cli import explain
from xai_deploy.detections import Detection
from xai_deploy.errors import InputError, NotApplicableError, NotPredictedError, OptionError, TargetError
from xai_deploy.format.rows import Rows
from xai_deploy.targets import ScoreSpace, Seed, read

from .conftest import Made

Get = Callable[[str], Made]


def test_ways_to_name_a_detection(made: Get) -> None:
    own = made("yolov8")
    explainer, x = own.explainers[0], own.images[:1]
    found = explainer.explain(x, "layer-cam").detections[0]

    def row(target: object) -> int:
        return explainer.explain(x, "layer-cam", target).rows[0][0]  # type: ignore[arg-type]

    assert row("box 3") == row(Box(number=3)) == found[3].row
    second = [one for one in found if one.index == found[0].index][1]
    assert row(f"{found[0].index}#1") == row(Box(found[0].index, 1)) == second.row
    left, top, right, bottom = found[2].box
    near = f"{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f}"
    assert row(f"@{near}") == found[2].row
    assert row(f"{found[2].index}@{near}") == found[2].row
    both = explainer.explain(x, "layer-cam", Contrast(Box(number=0), Box(number=1)))
    assert both.rows[0] == (found[0].row, found[1].row)
    assert both.titles == ("box 0 vs box 1",)
    against = explainer.explain(x, "hires-cam", Not("box 0"))
    assert against.score is not None
    np.testing.assert_allclose(against.score, -explainer.explain(x, "hires-cam").score, rtol=1e-5)  # type: ignore[operator]


def test_the_best_detections(made: Get) -> None:
    """ "topK" stands for "box 0" to "box K-1": the same maps, one line of the sheet's for each."""
    for explainer in made("yolov8").explainers:
        x = made("yolov8").images
        top = explainer.explain_many(x, ["layer-cam"], ["top3"])
        each = explainer.explain_many(x, ["layer-cam"], ["box 0", "box 1", "box 2"])
        assert [e.titles for e in top] == [e.titles for e in each]
        assert [e.rows for e in top] == [e.rows for e in each]
        for one, other in zip(top, each, strict=True):
            np.testing.assert_array_equal(one.heatmap, other.heatmap)
        with pytest.raises(TargetError, match="target 'top2': give one target, not 2"):
            explainer.explain(x, "layer-cam", ["box 0", "top2", "box 1"])
        with pytest.raises(NotPredictedError, match=r"box \d+: this image has \d+, numbers 0"):
            explainer.explain_many(x, ["layer-cam"], ["top300"])


def test_top_with_a_label_of_that_name() -> None:
    space = ScoreSpace(2, ("car", "Top3"), "rows", rows=Rows("yolov8", 2, "centre", "pixels"))
    assert len(read(["top3"], 1, space)) == 1
    assert len(read(["top4"], 1, space)) == 4


@pytest.mark.parametrize("target", ["box 0:left", "box 0:width", "box 0:left vs box 1:left"])
def test_a_side_is_no_class(made: Get, target: str) -> None:
    """It was said to be class 18 of 18, with a probability of 139."""
    own = made("yolov8")
    said = answer(own.explainers[0], own.explainers[0].explain(own.images[:1], "layer-cam", target)).as_json()
    assert (said["label"], said["probability"]) == ("box", None)
    score = answer(own.explainers[0], own.explainers[0].explain(own.images[:1], "layer-cam", "box 0")).as_json()
    assert score["label"] != "box"
    assert score["probability"] == pytest.approx(score["detections"][0]["score"], abs=1e-5)


def test_the_only_detection(made: Get) -> None:
    own = made("yolov8")
    only = DetectionLimits(own.explainers[0].explain(own.images[:1], "layer-cam").detections[0][0].score - 1e-4)
    with (
        Explainer(own.bundle, detections=only) as explainer,
        pytest.raises(NotPredictedError, match=r"^box 1: this image has one, number 0$"),
    ):
        explainer.explain(own.images[:1], "layer-cam", "box 1")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("top301", r"target 'top301': at most 300 detections of an image are explained"),
        pytest.param("top" + "9" * 5000, r"label 'top9{93}\.\.\.: this bundle .* is written 'box 0'", id="long number"),
        pytest.param("\u202e<b>" + "x" * 5000, r"label '\\u202e<b>x{87}\.\.\.: this bundle has no", id="long text"),
        ("top0", r"label 'top0': .* a detection is written 'box 0', .*'top3'"),
        ("box 99", r"box 99: this image has \d+, numbers 0 to \d+"),
        ("@5000,5000,3,3", r"@5000,5000,3,3: no detection overlaps this box"),
        (
            Box(near=(1, 2, 0, 4)),
            r"a box is x, y, width, height in pixels, .*, the last two above 0, not \(1, 2, 0, 4\)",
        ),
        (Box(near="here"), r"a box is x, y, width, height in pixels, .* not 'here'"),  # type: ignore[arg-type]
        (Box(near=(1, 2, float("nan"), 4)), r"a box is x, y, .* not \(1, 2, nan, 4\)"),
        ("@0,0,1," + "9" * 45, r"a box is x, y, width, height in pixels, up to 1000000000, the last two above 0, not "),
        ("", r"label '': this bundle has no labels; give a class index \(0 to 2\)"),
        (":left", r"label ':left': .* a detection is written 'box 0'"),
        ("box 0:left:top", r"label 'box 0:left': .* a detection is written 'box 0'"),
        ("box -1", r"label 'box -1': .* a detection is written 'box 0'"),
        ("box \u0663", r"label 'box \u0663': .* a detection is written 'box 0'"),
        ("@\u0660,0,9,9", r"label '@\u0660,0,9,9': .* a detection is written 'box 0'"),
        ("\u0661", r"label '\u0661': this bundle has no labels"),
        (Box(part="middle"), r"a detection's part is one of score, left, .*, not 'middle'"),  # type: ignore[arg-type]
        (Box(number=-1), r"a detection's number is 0 or more, not -1"),
        ("box 0 vs box 0", r"box 0 is contrasted with itself"),
        ("car", r"label 'car': this bundle has no labels; give a class index \(0 to 2\)"),
        (
            "@1,2,3",
            r"give a class index \(0 to 2\); a detection is written 'box 0', 'CLASS#1', '@x,y,width,height', 'box 0:left'",
        ),
        ("box 0:middle", r"label 'box 0:middle': .* \(0 to 2\); a detection is written 'box 0'"),
        ("box", r"label 'box': .* \(0 to 2\); a detection is written 'box 0'"),
        (7, r"class 7 does not exist; the network has classes 0 to 2"),
    ],
)
def test_targets_that_are_refused(target: object, said: str, made: Get) -> None:
    with pytest.raises(InputError, match=said):
        made("yolov8").explainers[0].explain(made("yolov8").images[:1], "layer-cam", target)  # type: ignore[arg-type]


def test_the_background_is_no_object(made: Get) -> None:
    with pytest.raises(InputError, match="class 0 means that there is no object"):
        made("boxes-scores").explainers[0].explain(made("boxes-scores").images[:1], "layer-cam", 0)


def test_a_level_that_the_row_is_not_made_of(made: Get) -> None:
    """Its map is zeros, and the reason says where the detection is made."""
    own = made("yolov8")
    shape = own.explainers[0].bundle.manifest.scores.shape
    found = own.explainers[0].explain(own.images, "layer-cam").detections
    fine = [next(k for k, one in enumerate(image) if one.row < 96) for image in found]  # 8 x 12 cells come first
    assert shape[1] == 96 + 24
    for explainer in own.explainers:
        for i, number in enumerate(fine):
            e = explainer.explain(own.images[i : i + 1], "layer-cam", f"box {number}")
            first, second = e.layers
            assert first.constant == (None,)
            assert not second.raw.any()
            assert second.constant[0] is not None
            assert second.constant[0].startswith("elsewhere: nothing passes back to this layer")
            assert e.constant == (None,)


def test_nothing_is_found(made: Get) -> None:
    explainer = Explainer(made("yolov8").bundle, detections=DetectionLimits(score=1.0))
    with pytest.raises(NotPredictedError, match="the network finds nothing in this image; lower the score"):
        explainer.explain(made("yolov8").images[:1])


@pytest.mark.parametrize(("name", "value"), [("score", 2), ("overlap", -0.1), ("score", "high"), ("most", 0)])
def test_limits_have_a_range(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"detections: {name} is "):
        DetectionLimits(**{name: value})  # type: ignore[arg-type]


def test_outputs_that_fit_two_layouts(made: Get, tmp_path: Path) -> None:
    source = made("detr").source

    def refused(said: str, **options: object) -> None:
        with pytest.raises(ExportError, match=said):
            export(Request(source, output_path=tmp_path / "x.xai", preprocess="none", **options))  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())

    refused("the outputs may be read in 2 ways: detr, detr-sigmoid; choose one with --decoder")
    refused(r"--decoder yolov5: the outputs are not of this form: .* \['N', 5, 4\]", decoder="yolov5")
    refused("--decoder: no 'yolo'; there are auto, boxes-scores, detr, ", decoder="yolo")


@pytest.mark.parametrize("method", ["rise", "score-cam", "occlusion"])
def test_a_softmax_over_a_row_is_refused(method: str, made: Get) -> None:
    """A row holds coordinates beside classes; D-RISE's score took the place of the softmax without a word."""
    with pytest.raises(NotApplicableError, match=f"{method}: score 'softmax' is for classes; a detection is matched"):
        made("yolov8").explainers[0].explain(made("yolov8").images[:1], method, score="softmax")


def test_suppression_inside_the_graph(made: Get, tmp_path: Path) -> None:
    """Both as the only output and behind a Gather of the chosen boxes."""
    for gathered in (False, True):
        model = onnx.load(made("boxes-scores").source)
        scores, boxes = (value.name for value in model.graph.output)
        node = onnx.helper.make_node
        model.graph.node.append(node("Transpose", [scores], ["turned"], perm=[0, 2, 1]))
        model.graph.node.append(node("NonMaxSuppression", [boxes, "turned"], ["chosen"]))
        last = "chosen"
        if gathered:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "row"))
            model.graph.node.append(node("Gather", ["chosen", "row"], ["rows"], axis=1))
            last = "rows"
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.INT64, [None, None]))
        onnx.save(model, tmp_path / "net.onnx")
        with pytest.raises(
            ExportError, match="holds a list of boxes that NonMaxSuppression chose: no gradient passes it"
        ):
            export(Request(tmp_path / "net.onnx", output_path=tmp_path / "x.xai", preprocess="none"))


def test_commands(made: Get, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """xai-explain draws and reports detections; it says which image has none, or skips it."""
    bundle = str(made("yolov8").bundle)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", rng.integers(0, 255, (50, 70, 3)).astype(np.uint8))
    photos = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    done = [bundle, *photos, "--detect-score", "0", "-t", "box 1", "-o", str(tmp_path / "out"), "-q", "--no-report"]
    assert explain.main(done) == 0
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    for image in report["images"]:
        [entry] = image["explanations"]
        assert entry["method"] == "layer-cam"
        assert entry["rows"] == [entry["detections"][1]["row"]]
        assert image["prediction"][0]["box"] == entry["detections"][0]["box"]
    lost = [bundle, photos[0], "--detect-score", "1", "-o", str(tmp_path / "none"), "-q"]
    assert explain.main(lost) == 2
    assert f"{photos[0]}: the network finds nothing in this image" in capsys.readouterr().err
    assert explain.main([*lost, "--skip-bad"]) == 2  # no image is left
    assert not (tmp_path / "none").exists()


def test_a_detector_whose_file_says_that_it_classifies(tmp_path: Path) -> None:
    """Its photos are cropped, as the file says; the export says what that means, unless the resize is given."""
    model = detector()
    next(one for one in model.metadata_props if one.key == "task").value = "classify"
    onnx.save(model, tmp_path / "net.onnx")

    def said(name: str, **fields: object) -> str:
        done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / name, preprocess_fields=fields))
        return next(note for note in done.notes if note.startswith("Preprocessing is that of"))

    assert said("a.xai").endswith(
        "(Ultralytics, classify), which crops photos: this detector finds nothing outside the crop; "
        "--resize letterbox takes in the whole photo."
    )
    assert said("b.xai", resize="letterbox").endswith("(Ultralytics, classify) but for resize.")


@pytest.mark.parametrize("fields", [{}, {"resize": "letterbox"}])
def test_a_recipe_in_place_of_a_stated_letterbox(tmp_path: Path, fields: dict[str, object]) -> None:
    """The file states its letterbox; a recipe that stretches is said to replace it, unless the resize is given."""
    onnx.save(detector(), tmp_path / "net.onnx")
    asked = Request(
        tmp_path / "net.onnx",
        output_path=tmp_path / "net.xai",
        preprocess="unit",
        preprocess_fields=fields,
        roles=HEAD_AND_TAIL,
    )
    done = export(asked)
    told = [note for note in done.notes if "--resize letterbox" in note]
    where = "the file's metadata (Ultralytics, detect)"
    line = f"--preprocess unit replaces the resize that {where} states: add --resize letterbox for that one."
    assert told == ([] if fields else [line])
    assert done.manifest.input.preprocess.resize == fields.get("resize", "stretch")


def test_long_names_in_messages_and_titles() -> None:
    """A name of thousands of characters is cut where a person reads it; the text that a target is asked by is not."""
    names = ("<b>" + "x" * 5000, "car")
    space = ScoreSpace(2, names, "rows", rows=Rows("yolov8", 2, "centre", "pixels"))
    [asked] = read([names[0]], 1, space)
    with pytest.raises(NotPredictedError) as refused:
        asked.sides[0].choose([Detection(0, 1, 0.9, (0, 0, 9, 9))])  # type: ignore[attr-defined]
    assert str(refused.value) == f"<b>{'x' * 94}...: none is among the 1 detections of this image"
    [best] = read(["box 0"], 1, space)
    assert best.titles(Seed.of_class(np.zeros(1, np.int64)), names.__getitem__, 6) == (f"box 0 (<b>{'x' * 94}...)",)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(
                [
                    "box ",
                    "car",
                    "@",
                    "#",
                    ":",
                    "left",
                    "score",
                    ",",
                    "-",
                    "1",
                    "0",
                    "9" * 30,
                    ".5",
                    " vs ",
                    "not ",
                    "nan",
                    "\u0663",
                    "\x00",
                ]
            )
        ).map("".join),
    )
)
def test_any_text_is_a_target_or_refused(text: str) -> None:
    """A reader of targets raises TargetError and nothing else; what it takes is finite, and says again what it means."""
    space = ScoreSpace(2, ("car", "person"), "rows", rows=Rows("yolov8", 2, "centre", "pixels"))
    found = [Detection(3, 1, 0.9, (0.0, 0.0, 9.0, 9.0)), Detection(5, 0, 0.8, (1.0, 2.0, 30.0, 40.0))]
    seen: Any = SimpleNamespace(scores=np.zeros((1, 64, 1)), detections=lambda: [found])
    try:
        [target] = read([text], 1, space)
        rows = {*np.flatnonzero(target.regions(seen).sum(axis=(0, 1)))}
        assert rows
        assert rows <= {3, 5}
    except TargetError as error:  # NotPredictedError is one
        said = str(error)
    else:
        said = "fine"
    assert len(said.splitlines()) == 1


def test_outputs_without_numbers(tmp_path: Path) -> None:
    """A file whose boxes are NaN was taken for a classifier of a wrong shape."""
    model = detector()
    [centres] = [tensor for tensor in model.graph.initializer if tensor.name == "centres"]
    centres.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(centres) * np.float32(np.nan), "centres"))
    onnx.save(model, tmp_path / "net.onnx")
    for decoder in ("auto", "yolov8"):
        with pytest.raises(ExportError, match="'output0' holds NaN or infinity for nearly every image that was tried"):
            export(Request(tmp_path / "net.onnx", output_path=tmp_path / "x.xai", decoder=decoder))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["net.onnx"]
