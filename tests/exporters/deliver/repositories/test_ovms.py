"""A repository of OpenVINO Model Server: its config against the server's schema, its models in the server's runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import openvino as ov
import pytest
from xai_exporters.deliver.repositories.repository import write_repository
from xai_exporters.deliver.repositories.served import Served

from ... import onnx_nets as o
from ...running import export_onnx

SCHEMA = json.loads((Path(__file__).parent / "ovms_config.schema.json").read_text(encoding="utf-8"))


def test_the_config_keeps_to_the_schema(models: dict[str, Served], tmp_path: Path) -> None:
    write_repository("ovms", tmp_path / "repo", list(models.values()), overwrite=False)
    config = json.loads((tmp_path / "repo" / "config.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, SCHEMA)
    assert [entry["config"]["name"] for entry in config["model_config_list"]] == [m.name for m in models.values()]
    for entry in config["model_config_list"]:
        folder = tmp_path / "repo" / entry["config"]["base_path"]  # relative to the config, wherever it is mounted
        assert sorted(p.name for p in folder.iterdir()) == ["1", "labels.txt"]
        assert [p.name for p in (folder / "1").iterdir()] == ["model.onnx"]


def test_what_changes_numbers_is_off_for_networks_of_integers(tmp_path: Path) -> None:
    export_onnx(tmp_path, o.quantised(), fuse=("grad-cam",), serve_repo=("ovms", tmp_path / "repo"))
    config = json.loads((tmp_path / "repo" / "config.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, SCHEMA)
    for entry in config["model_config_list"]:
        assert entry["config"]["plugin_config"]["LP_TRANSFORMS_MODE"] == "NO"
        [file] = (tmp_path / "repo" / entry["config"]["name"] / "1").iterdir()
        ov.compile_model(file, "CPU", entry["config"]["plugin_config"])


def test_the_schema_is_one_that_refuses() -> None:
    wrong_ones: list[dict[str, Any]] = [
        {"model_config_list": [{"config": {"base_path": "net"}}]},
        {"model_config_list": [{"config": {"name": "net", "path": "net"}}]},
        {"model_config_list": [{"name": "net", "base_path": "net"}]},
        {"models": []},
    ]
    for wrong in wrong_ones:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


@pytest.mark.parametrize("form", ["digits", "grad-cam", "bytes", "any-size"])
@pytest.mark.parametrize("kind", ["onnx", "ir"])
def test_openvino_reads_the_models(
    models: dict[str, Served], as_ir: Callable[[Served], Served], form: str, kind: str, tmp_path: Path
) -> None:
    """Names as the server tells them to clients, a batch of 1 and of 3 though no shape is stated, values as onnxruntime's."""
    served = models[form] if kind == "onnx" else as_ir(models[form])
    write_repository("ovms", tmp_path / "repo", [served], overwrite=False)
    folder = tmp_path / "repo" / served.name / "1"
    file = folder / ("model.onnx" if kind == "onnx" else "model.xml")
    assert len(list(folder.iterdir())) == (1 if kind == "onnx" else 2)
    [entry] = json.loads((tmp_path / "repo" / "config.json").read_text(encoding="utf-8"))["model_config_list"]
    model = ov.compile_model(file, "CPU", entry["config"]["plugin_config"])
    wanted = {"image"} if form in ("digits", "bytes") else {"image", "target"}
    assert {value.any_name for value in model.inputs} == wanted
    for batch in (1, 3):
        size = [70, 50, 3] if form == "any-size" else [3, 64, 64]
        random = np.random.default_rng(0).integers(0, 256, [batch, *size])
        image = random.astype(np.uint8) if form == "any-size" else (random / 64 - 2).astype(np.float32)
        feeds = {"image": image, "target": np.full([batch], -1, np.int64)}
        given = {name: feeds[name] for name in wanted}
        results = model(given)
        expected = onnxruntime.InferenceSession(served.model).run(None, given)
        for value, other in zip(model.outputs, expected, strict=True):
            ours = results[value]
            assert (ours.shape, ours.dtype) == (other.shape, other.dtype)
            assert ours.shape[0] == batch
            rounded = form == "any-size"  # the resized image, to whole numbers: a pixel may go the other way
            tolerance = 1 if ours.dtype == np.uint8 else 1e-3 if rounded else 1e-4
            np.testing.assert_allclose(ours.astype(float), other.astype(float), rtol=0, atol=tolerance)
