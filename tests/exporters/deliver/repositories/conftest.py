"""Real graphs to serve: the reference network, plain and fused in each form that changes what a client sends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openvino as ov
import pytest
from xai_exporters import Request, export
from xai_exporters.config import load_config
from xai_exporters.deliver.repositories.served import Served

_FORMS: dict[str, dict[str, object]] = {
    "grad-cam": {},
    "bytes": {"fixed_target": True, "uint8": True},
    "any-size": {"embed_preprocess": True, "map_size": "input"},
}


@pytest.fixture(scope="session")
def models(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """The plain network and Grad-CAM in three forms, by name."""
    folder = tmp_path_factory.mktemp("served")
    source = root / "models" / "clutter_digits" / "clutter_digits.onnx"
    config = load_config(source.parent / "export.toml")
    labels = (source.parent / "labels.txt").read_text(encoding="utf-8").splitlines()
    served = {"digits": Served("digits", source.read_bytes(), labels, None, "logits")}
    for name, form in _FORMS.items():
        path = folder / f"{name}.xai"
        options = {**config, "roles": ("head", "tail"), "fuse": ("grad-cam",), **form}
        export(Request(source, "stage3", path, **options))
        model = (path / "fused-grad-cam.onnx").read_bytes()
        served[name] = Served(f"digits-{name}", model, labels, None, "logits")
    return served


@pytest.fixture(scope="session")
def as_ir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Served], Served]:
    """Gives a model its OpenVINO IR."""
    folder = tmp_path_factory.mktemp("ir")

    def convert(served: Served) -> Served:
        source, xml = folder / f"{served.name}.onnx", folder / f"{served.name}.xml"
        source.write_bytes(served.model)
        ov.save_model(ov.convert_model(source), xml, compress_to_fp16=False)
        ir = xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
        return Served(served.name, served.model, served.labels, ir, served.logits_output)

    return convert
