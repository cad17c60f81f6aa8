"""The repository in a real Triton; see docs/servers.md for how to have one. Loopback only."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from xai_exporters.deliver.repositories.repository import write_repository
from xai_exporters.deliver.repositories.served import Served

from . import tritonserver

MISSING = "unable to find backend library for backend 'onnxruntime', try specifying runtime on the model configuration."


@pytest.fixture(scope="module")
def server() -> Path:
    return tritonserver.binary()


def ask(address: str, model: str, inputs: dict[str, np.ndarray[Any, Any]], **further: Any) -> dict[str, Any]:
    """One request in JSON, as curl would send it."""
    types = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}
    told = [
        {"name": name, "shape": list(value.shape), "datatype": types[value.dtype.name], "data": value.ravel().tolist()}
        for name, value in inputs.items()
    ]
    body = json.dumps({"inputs": told, **further}).encode()
    request = urllib.request.Request(f"{address}/v2/models/{model}/infer", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.loads(response.read())
    return {output["name"]: (output["shape"], output["data"]) for output in answer["outputs"]}


def test_ours_is_read_and_only_the_backend_is_missing(server: Path, models: dict[str, Served], tmp_path: Path) -> None:
    write_repository("triton", tmp_path / "repo", list(models.values()), overwrite=False)
    (tmp_path / "backends").mkdir()
    log = tritonserver.log_of(server, tmp_path / "repo", tmp_path / "backends")
    for served in models.values():
        assert f"failed to load '{served.name}' version 1: Invalid argument: {MISSING}" in log
    errors = [line for line in log.splitlines() if line.startswith("E") and "CudaDriverHelper" not in line]
    assert all(MISSING in line for line in errors)
    assert len(errors) == len(models)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("max_batch_size: 8", "max_batch_sizes: 8", 'has no field named "max_batch_sizes"'),
        ("TYPE_FP32", "TYPE_F32", 'Unknown enumeration value of "TYPE_F32" for field "data_type"'),
        ('name: "digits-grad-cam"', 'name: "digits"', "unexpected directory name 'digits-grad-cam'"),
    ],
)
def test_it_reports_what_is_malformed(
    server: Path, models: dict[str, Served], right: str, wrong: str, message: str, tmp_path: Path
) -> None:
    """So that its silence on ours says something."""
    write_repository("triton", tmp_path / "repo", [models["grad-cam"]], overwrite=False)
    config = tmp_path / "repo" / "digits-grad-cam" / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    assert right in text
    config.write_text(text.replace(right, wrong), encoding="utf-8")
    (tmp_path / "backends").mkdir()
    assert message in tritonserver.log_of(server, tmp_path / "repo", tmp_path / "backends")


def test_it_answers_requests_of_the_shapes_that_the_config_tells(
    server: Path, models: dict[str, Served], as_ir: Callable[[Served], Served], tmp_path: Path
) -> None:
    """The config's line `backend` and nothing else is exchanged: a stand-in in Python runs the same model.onnx."""
    models = {**models, "ir": replace(as_ir(models["grad-cam"]), name="digits-ir")}
    (tmp_path / "backends").mkdir()
    backends, environment = tritonserver.python_backend(server, tmp_path / "backends")
    write_repository("triton", tmp_path / "repo", list(models.values()), overwrite=False)
    for served in models.values():
        folder = tmp_path / "repo" / served.name
        text = (folder / "config.pbtxt").read_text(encoding="utf-8")
        changed = re.sub(r'^backend: "(onnxruntime|openvino)"$', 'backend: "python"', text, flags=re.MULTILINE)
        assert changed != text
        (folder / "config.pbtxt").write_text(changed, encoding="utf-8")
        (folder / "1" / "model.onnx").write_bytes(served.model)
        shutil.copy(Path(__file__).parent / "standin.py", folder / "1" / "model.py")
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    photos = np.random.default_rng(0).integers(0, 256, (2, 70, 50, 3), np.uint8)
    target = np.array([[3], [-1]])
    with tritonserver.running(server, tmp_path / "repo", backends, environment) as address:
        for form, inputs in {
            "digits": {"image": images},
            "grad-cam": {"image": images, "target": target},
            "bytes": {"image": images},
            "any-size": {"image": photos, "target": target},
            "ir": {"image": images, "target": target[:, 0]},  # with max_batch_size 0 the dims are the model's own
        }.items():
            answer = ask(address, models[form].name, inputs)
            session = onnxruntime.InferenceSession(models[form].model)
            names = [value.name for value in session.get_outputs()]
            given = {name: value.ravel() if name == "target" else value for name, value in inputs.items()}
            assert set(answer) == set(names)
            for name, expected in zip(names, session.run(None, given), strict=True):
                shape, data = answer[name]
                assert tuple(shape) == expected.shape
                np.testing.assert_allclose(np.reshape(data, shape), expected, rtol=1e-5, atol=1e-5)
        wanted = [{"name": "logits", "parameters": {"classification": 2}}]
        shape, data = ask(address, "digits", {"image": images}, outputs=wanted)["logits"]
        assert shape == [2, 2]
        logits = onnxruntime.InferenceSession(models["digits"].model).run(["logits"], {"image": images})[0]
        labels = models["digits"].labels
        ranked = [int(index) for row in logits for index in np.argsort(-row)[:2]]
        assert [line.split(":")[1:] for line in data] == [[str(index), labels[index]] for index in ranked]
