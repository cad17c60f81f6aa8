"""Class names and preprocessing that an ONNX file carries: `onnx_metadata.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Export, Request, export
from xai_exporters.errors import RequestError
from xai_exporters.sources import load_source
from xai_exporters.sources.onnx_metadata import ultralytics_line
from xai_exporters.sources.stated import Stated
from xai_exporters.sources.stated_size import at_stated_size

from xai_deploy import Explainer

from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, export_onnx

NAMES = ("cat", "dog", "it's", 'a "b"', "ant, red")  # as many as `o.classifier` has classes
ULTRALYTICS = {
    "description": "Ultralytics YOLO11n-cls model", "author": "Ultralytics", "stride": "1", "task": "classify", "batch": "1",
    "imgsz": "[16, 20]", "names": str(dict(enumerate(NAMES))), "args": "{'batch': 1, 'half': False}",
}  # fmt: skip


def with_metadata(metadata: dict[str, str], model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    model = model or o.classifier()
    onnx.helper.set_model_props(model, metadata)
    return model


def exported(folder: Path, metadata: dict[str, str], **options: Any) -> Export:
    return export_onnx(folder, with_metadata(metadata), **options, roles=HEAD_AND_TAIL)


def labels_of(done: Export) -> tuple[str, ...]:
    path = done.path / "labels.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", str(dict(enumerate(NAMES)))),
        ("names", str(list(NAMES))),
        ("classes", str(NAMES)),
        ("labels", json.dumps(NAMES)),
        ("id2label", json.dumps(dict(enumerate(NAMES)))),
        ("label2id", json.dumps({name: i for i, name in enumerate(NAMES)})),
        ("class_to_idx", str({name: i for i, name in reversed(list(enumerate(NAMES)))})),
        ("names", "{0: 'cat',\n 1: 'dog', 2: \"it's\", 3: 'a \"b\"', 4: 'ant, red',}"),
        ("class_names", "\n".join(NAMES)),
        ("character", "\n".join(NAMES) + "\n"),
    ],
)
def test_class_names(tmp_path: Path, key: str, text: str) -> None:
    done = exported(tmp_path, {key: text})
    assert labels_of(done) == NAMES
    assert f"Class names are those of the file's metadata {key!r}." in done.notes
    assert Explainer(done.path).bundle.labels == NAMES


def test_commas(tmp_path: Path) -> None:
    assert labels_of(exported(tmp_path, {"labels": "a, b,c ,d,e"})) == ("a", "b", "c", "d", "e")


def test_a_text_recogniser_adds_a_blank_and_a_space(tmp_path: Path) -> None:
    """PaddleOCR's CTC decoder: index 0 is the blank, the last one is a space."""
    assert labels_of(exported(tmp_path, {"character": "x\ny\nz"})) == ("(blank)", "x", "y", "z", "(space)")


def test_given_labels_win(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("1\n2\n3\n4\n5\n")
    done = exported(tmp_path, {"names": str(list(NAMES))}, labels=tmp_path / "mine.txt")
    assert (labels_of(done), done.notes) == (("1", "2", "3", "4", "5"), ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("['a', 'b']", "The file's metadata 'names' has 2 names for 5 classes; they are not used. Give --labels."),
        ("{0: 'a', 2: 'b'}", "it is no list of names"),
        ("{0: 'a', 1: ['b']}", "it is no list of names"),
        ("[1, 2, 3, 4, 5]", "it is no list of names"),
        ("__import__('os').system('true')", "1 names for 5 classes"),
        ("{0: __import__('os').system('true')}", "it is no list of names"),
        ("{'a': 0, 'b': 0}", "it is no list of names"),
        ("['a', '\\x', 'c', 'd', 'e']", "it is no list of names"),
        ("[007]", "it is no list of names"),
        ("['a', '', 'c', 'd', 'e']", "a name in it is empty"),
        ("[" * 100_000, "it is no list of names"),
        ("{" + "0: '" * 50_000, "it is no list of names"),
        ("['" + "a" * 2000 + "']", "one of more than 1000 characters"),
        ("a" * (1 << 21), "it has more than 1048576 characters"),
    ],
)
def test_what_does_not_fit_is_said_and_not_used(tmp_path: Path, text: str, why: str) -> None:
    done = exported(tmp_path, {"names": text})
    assert labels_of(done) == ()
    [note] = done.notes
    assert why in note


def test_names_are_one_line_each(tmp_path: Path) -> None:
    done = exported(tmp_path, {"names": json.dumps(["a\nb", "c\u001b[31m", "\ud800d", " e ", "f\tg"])})
    assert labels_of(done) == ("a b", "c [31m", "d", "e", "f g")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    data = with_metadata({"names": "QQQQ"}).SerializeToString().replace(b"QQQQ", b"\xff\xfe\xff\xfe")
    (tmp_path / "net.onnx").write_bytes(data)
    done = export(
        Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none", roles=HEAD_AND_TAIL)
    )
    assert labels_of(done) == ()


def test_ultralytics_classifier(tmp_path: Path) -> None:
    done = exported(tmp_path, ULTRALYTICS, preprocess=None)
    how = done.manifest.input.preprocess
    assert (how.scale, how.mean, how.std, how.color, how.assumed) == (1 / 255, (0.0,) * 3, (1.0,) * 3, "RGB", False)
    assert labels_of(done) == NAMES
    assert "Preprocessing is that of the file's metadata (Ultralytics, classify)." in done.notes


def test_ultralytics_geometry(tmp_path: Path) -> None:
    """Ultralytics' classify_transforms: Resize(224), CenterCrop(224)."""
    onnx.save(with_metadata({**ULTRALYTICS, "imgsz": "[224, 224]"}), tmp_path / "net.onnx")
    stated = load_source(Request(tmp_path / "net.onnx")).preprocess
    assert isinstance(stated, Stated)
    assert (stated.size, stated.fields["resize"], stated.sure) == ((224, 224), 224, True)
    onnx.save(with_metadata({**ULTRALYTICS, "imgsz": "[640, 640]", "task": "detect"}), tmp_path / "net.onnx")
    stated = load_source(Request(tmp_path / "net.onnx")).preprocess
    assert isinstance(stated, Stated)
    assert (stated.fields["resize"], stated.fields["antialias"], stated.sure) == ("letterbox", False, True)


@pytest.mark.parametrize("own", [{"head": "RTDETRDecoder"}, {"description": "Ultralytics rt-detr model"}])
def test_ultralytics_rt_detr_stretches(tmp_path: Path, own: dict[str, str]) -> None:
    """RTDETRPredictor.pre_transform is a letterbox with scale_fill; others' images keep their sides' proportions."""
    texts = {**ULTRALYTICS, "imgsz": "[640, 640]", "task": "detect", **own}
    onnx.save(with_metadata(texts), tmp_path / "net.onnx")
    stated = load_source(Request(tmp_path / "net.onnx")).preprocess
    assert isinstance(stated, Stated)
    assert (stated.fields["resize"], stated.sure) == ("stretch", True)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "cat",
        "{'names': 3}",
        "{'names': {0: 'cat'",
        "{" * 100,
        "{'names': {0: ''}}",
        "{'names': [" + "[" * 60 + "]" * 61 + "}",
    ],
)
def test_a_line_that_is_no_metadata_of_ultralytics(line: str) -> None:
    assert ultralytics_line(line) == ((), None)


@pytest.mark.parametrize(("imgsz", "size"), [("[16, 20]", (16, 20)), ("16", (16, 16))])
def test_the_size_that_a_file_leaves_open(tmp_path: Path, imgsz: str, size: tuple[int, int]) -> None:
    """Ultralytics with dynamic=True: the size is in the metadata alone."""
    model = o.classifier()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    onnx.save(with_metadata({**ULTRALYTICS, "imgsz": imgsz}, model), tmp_path / "net.onnx")
    done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", roles=HEAD_AND_TAIL))
    assert done.manifest.input.size == size
    said = f"The image's size is {size[0]} x {size[1]}, as the file's metadata (Ultralytics, classify) states"
    assert any(note.startswith(said) for note in done.notes)
    asked = Request(tmp_path / "net.onnx", input_shape=(3, 24, 24))
    assert at_stated_size(load_source(asked), asked)[1] == asked


@pytest.mark.parametrize("imgsz", ["[0, 20]", "[99999, 99999]", "[a", "[-16, 20]", "[16.5, 20]", "[[16, 20]]"])
def test_a_size_that_is_none(tmp_path: Path, imgsz: str) -> None:
    model = o.classifier()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    onnx.save(with_metadata({**ULTRALYTICS, "imgsz": imgsz}, model), tmp_path / "net.onnx")
    with pytest.raises(RequestError, match="give the image's size with --input-shape C,H,W"):
        export(Request(tmp_path / "net.onnx", output_path=tmp_path / "x.xai", preprocess="none"))


def of_rows(count: int) -> onnx.ModelProto:
    """A file whose output has the shape of a detector's rows [N,count,R]."""
    model = o.classifier()
    dims = model.graph.output[0].type.tensor_type.shape.dim
    dims[1].dim_value = count
    dims.add().dim_value = 84
    return model


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            {"task": "obb"},
            r"states an angle \(obb\), but its rows hold four sides and 5 classes: upright boxes are read",
        ),
        ({"task": "pose"}, r"states key points \(pose\), but"),
        ({"task": "segment"}, r"states coefficients of masks \(segment\), but"),
        ({"task": "detect", "end2end": "True"}, r"states rows that the graph chose \(end2end\), but"),
    ],
)
def test_metadata_that_the_outputs_contradict(tmp_path: Path, stated: dict[str, str], said: str) -> None:
    onnx.save(with_metadata({**ULTRALYTICS, **stated}, of_rows(4 + len(NAMES))), tmp_path / "net.onnx")
    network = load_source(Request(tmp_path / "net.onnx"))
    assert len([note for note in network.notes if re.search(said, note)]) == 1
    assert "drawn without their angle" not in " ".join(network.notes)
    onnx.save(
        with_metadata({**ULTRALYTICS, **stated, "task": "detect"}, of_rows(5 + len(NAMES))), tmp_path / "more.onnx"
    )
    assert not any("states" in note for note in load_source(Request(tmp_path / "more.onnx")).notes)


def test_turned_boxes_are_told(tmp_path: Path) -> None:
    onnx.save(with_metadata({**ULTRALYTICS, "task": "obb"}), tmp_path / "net.onnx")
    assert any("drawn without their angle" in note for note in load_source(Request(tmp_path / "net.onnx")).notes)


@pytest.mark.parametrize(
    ("form", "span", "ends"),
    [("Rgb8", "NominalRange_0_255", (0, 255)), ("Bgr8", "Normalized_0_1", (0, 1)), ("Rgb8", "Normalized_1_1", (-1, 1))],
)
def test_onnx_s_own_metadata_of_images(tmp_path: Path, form: str, span: str, ends: tuple[float, float]) -> None:
    metadata = {"Image.BitmapPixelFormat": form, "Image.ColorSpaceGamma": "SRGB", "Image.NominalPixelRange": span}
    done = exported(tmp_path, metadata, preprocess=None)
    how = done.manifest.input.preprocess
    np.testing.assert_allclose(how.ends(), [[end] * 3 for end in ends], atol=1e-9)
    assert (how.color, how.assumed, how.resize) == (form[:3].upper(), True, "stretch")
    [note] = done.notes
    assert note.startswith(
        f"Preprocessing is that of the file's metadata ({form}, {span}); it says nothing of their size"
    )
    assert note.endswith("as --resize SIDE does.")


@pytest.mark.parametrize(
    "change",
    [
        {"Image.ColorSpaceGamma": "Linear"},
        {"Image.NominalPixelRange": "NominalRange_16_235"},
        {"Image.BitmapPixelFormat": "Rgba8"},
    ],
)
def test_metadata_of_images_that_a_bundle_can_not_follow(tmp_path: Path, change: dict[str, str]) -> None:
    metadata = {"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "Normalized_0_1", **change}
    onnx.save(with_metadata(metadata), tmp_path / "net.onnx")
    assert load_source(Request(tmp_path / "net.onnx")).preprocess is None


def test_a_real_file(shared_data: Path) -> None:
    source = load_source(Request(shared_data / "weights" / "picodet_layout_cdla.onnx"))
    assert source.labels[:3] == ("text", "title", "figure")
    assert (len(source.labels), source.labels_from) == (10, "character")
