"""A graph beside config.json and preprocessor_config.json, as Optimum writes folders: labels, size and preprocessing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from xai_exporters import Request, export
from xai_exporters.errors import PreprocessingError, RequestError

from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle, Manifest
from xai_deploy.preprocess import prepare

from .. import onnx_nets
from ..nets import SHAPE
from ..running import HEAD_AND_TAIL
from .test_timm_nets import smooth
from .test_transformers_nets import TIMM

NAMES = ("cat", "dog", "owl", "hen", "fox")
OPEN = ("batch_size", "num_channels", "height", "width")
CONFIG = {"model_type": "vit", "id2label": dict(enumerate(NAMES))}
PROCESSORS: dict[str, dict[str, Any]] = {
    "stretched": {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 32},
                  "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    "shorter side": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}, "crop_size": 28},
    "both sides": {"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": 32, "do_center_crop": True},
}  # fmt: skip


def folder_of(
    folder: Path,
    config: Any = CONFIG,
    processor: Any = PROCESSORS["stretched"],
    image: str = "pixel_values",
    size: Any = OPEN,
) -> Path:
    """The folder's graph."""
    b = onnx_nets.Build()
    model = b.model(b.linear(b.pooled(b.features(image)), out="logits"), shape=size, image=image)
    onnx.save(model, folder / "model.onnx")
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "model.onnx"


def exported(source: Path, folder: Path, **options: Any) -> tuple[Manifest, str]:
    """The manifest, and the export's lines."""
    done = export(Request(source, output_path=folder / "net.xai", roles=HEAD_AND_TAIL, **options))
    return Bundle.open(folder / "net.xai").manifest, "\n".join(done.notes)


def as_ir(source: Path) -> Path:
    """The graph as OpenVINO IR with every side open, as Optimum Intel leaves it."""
    model = openvino.convert_model(source)
    model.reshape({model.inputs[0]: openvino.PartialShape([-1, -1, -1, -1])})
    openvino.save_model(model, source.with_name("openvino_model.xml"))
    return source.with_name("openvino_model.xml")


@pytest.mark.parametrize("how", PROCESSORS)
@pytest.mark.parametrize("form", ["onnx", "ir", "below"])
def test_nothing_has_to_be_said(tmp_path: Path, how: str, form: str) -> None:
    """Pixels are those of transformers' own processor; probabilities are those of its run of the graph."""
    import transformers

    source = folder_of(tmp_path, processor=PROCESSORS[how])
    if form == "ir":
        source = as_ir(source)
    if form == "below":
        (tmp_path / "onnx").mkdir()
        source = Path(shutil.move(source, tmp_path / "onnx" / "model.onnx"))
    manifest, notes = exported(source, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(str(tmp_path), local_files_only=True)
    image = np.array(smooth(93, 128))
    want = np.asarray(processor(image, return_tensors="np")["pixel_values"])
    assert (manifest.input.channels, manifest.input.height, manifest.input.width) == want.shape[1:]
    assert not manifest.input.preprocess.assumed
    steps = (
        np.abs(prepare(image, manifest.input) - want[0])
        / (np.ptp(manifest.input.preprocess.ends(), axis=0) / 255)[:, None, None]
    )
    assert steps.max() <= (6 if manifest.input.preprocess.interpolation == "bicubic" else 1.01)  # clipped differently
    assert Explainer(tmp_path / "net.xai").labels == NAMES
    for said in (f"{tmp_path / 'preprocessor_config.json'} states; --input-shape gives another",
                 f"Class names are those of {tmp_path / 'config.json'}, 'id2label'",
                 f"Preprocessing is that of {tmp_path / 'preprocessor_config.json'}"):  # fmt: skip
        assert said in notes


def test_another_s_files(tmp_path: Path) -> None:
    """A graph whose image has another name is not transformers'."""
    source = folder_of(tmp_path, image="image", size=("N", *SHAPE))
    with pytest.raises(PreprocessingError):
        exported(source, tmp_path)
    manifest, notes = exported(source, tmp_path, preprocess="unit")
    assert manifest.labels is None
    assert "config.json" not in notes


def test_what_the_user_says_goes_first(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("\n".join("abcde"))
    source = folder_of(tmp_path)
    own = {"preprocess": "tf", "input_shape": (3, 16, 20), "labels": tmp_path / "mine.txt"}
    manifest, notes = exported(source, tmp_path, **own)
    assert (manifest.input.height, manifest.input.width) == (16, 20)
    assert manifest.input.preprocess.scale == 1 / 127.5
    assert Explainer(tmp_path / "net.xai").labels == tuple("abcde")
    assert "config.json" not in notes


def test_the_graph_s_own_size(tmp_path: Path) -> None:
    """A fixed size that is not the processor's: the statement is scaled, and marked as assumed."""
    manifest, notes = exported(folder_of(tmp_path, size=("N", 3, 48, 64)), tmp_path)
    assert (manifest.input.height, manifest.input.width) == (48, 64)
    assert manifest.input.preprocess.assumed
    assert "which takes 24 x 32, scaled to this input" in notes


def test_labels_of_another_number(tmp_path: Path) -> None:
    config = CONFIG | {"id2label": {"0": "cat", "1": "dog"}}
    manifest, notes = exported(folder_of(tmp_path, config), tmp_path)
    assert manifest.labels is None
    assert "has 2 names for 5 classes; they are not used" in notes


@pytest.mark.parametrize("config", ["{", "[1]", '{"num_hidden_layers": 1e30}'])
def test_a_damaged_description(tmp_path: Path, config: str) -> None:
    source = folder_of(tmp_path, config)
    manifest, notes = exported(source, tmp_path, preprocess="unit", input_shape=SHAPE)
    assert manifest.labels is None
    assert f"{tmp_path / 'config.json'}" in notes
    assert "nothing of it is used" in notes


def test_transformers_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path, size=("N", *SHAPE))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        PreprocessingError, match=r"preprocessor_config\.json states it, and is read by transformers: pip install"
    ):
        exported(source, tmp_path)
    assert exported(source, tmp_path, preprocess="unit")[0].labels is not None


def test_a_processor_that_is_no_resize_and_crop(tmp_path: Path) -> None:
    processor = {"image_processor_type": "ViTImageProcessor", "size": 32, "resample": 1}
    with pytest.raises(PreprocessingError, match="its steps are not those of a resize and a centre crop"):
        exported(folder_of(tmp_path, processor=processor, size=("N", 3, 32, 32)), tmp_path)
    with pytest.raises(RequestError, match="--input-shape"):
        exported(folder_of(tmp_path, processor=processor), tmp_path)


def test_timm_s_configuration(tmp_path: Path) -> None:
    """A repository of timm's with a graph: the transform is timm's own."""
    import timm

    cfg: dict[str, Any] = {**TIMM, "input_size": [3, 32, 32], "interpolation": "bilinear"}
    config = {"model_type": "timm_wrapper", "architecture": "resnet18", "pretrained_cfg": cfg, "label_names": NAMES}
    manifest, _ = exported(folder_of(tmp_path, config, {"image_processor_type": "TimmWrapperImageProcessor"}), tmp_path)
    assert not manifest.input.preprocess.assumed
    image = smooth(93, 128)
    want = timm.data.create_transform(
        (3, 32, 32), interpolation="bilinear", mean=cfg["mean"], std=cfg["std"], crop_pct=0.9
    )(image)
    ours = prepare(np.asarray(image), manifest.input)
    assert np.abs((ours - want.numpy()) * np.array(cfg["std"])[:, None, None] * 255).max() <= 1.01
    assert Explainer(tmp_path / "net.xai").labels == NAMES
