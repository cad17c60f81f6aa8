"""Networks with several outputs: what is kept, what is left out, and what that means for the cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from xai_exporters import Request, list_layers
from xai_exporters.cli import main

from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle

from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, export_onnx


def several() -> onnx.ModelProto:
    """Logits, a constant, a number over the whole batch, and a second head beside the last activation."""
    b = o.Build()
    early = b("Relu", b.conv("image", 3, 4, strides=[2, 2]), name="early")
    x = b("Relu", b.conv(early, 4, o.CHANNELS), name="layer")
    b.linear(b.pooled(x), out="scores")
    b("Identity", b.weight(np.ones((1, 3), np.float32)), out="constant")
    b("ReduceMean", "scores", out="batch_mean", keepdims=0)
    b("Flatten", b("GlobalAveragePool", early), out="beside")
    return b.model("scores", "constant", "batch_mean", "beside", ranks={"batch_mean": (o.FLOAT, ())})


def test_outputs_that_are_not_one_result_per_image_are_left_out(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, several(), output="scores", roles=HEAD_AND_TAIL)
    assert set(done.dropped_outputs) == {"constant", "batch_mean"}
    assert [output.name for output in done.manifest.outputs] == ["scores", "beside"]
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 20)).astype(np.float32)
    want = o_run(several(), x)
    explainer = Explainer(done.path)
    e = explainer.explain(x, target=1)
    np.testing.assert_allclose(e.outputs["beside"], want["beside"], atol=1e-5)
    np.testing.assert_allclose(e.logits, want["scores"], atol=1e-5)


def test_a_head_beside_the_cut_costs_no_pixelwise_tail(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, several(), output="scores")
    assert Bundle.open(done.path).has("pixelwise-tail")
    assert done.manifest.side  # the second head's tensor passes beside


def test_listed_cuts_have_the_sides_that_an_export_has(tmp_path: Path) -> None:
    onnx.save(several(), tmp_path / "net.onnx")
    listed = {cut.names[0]: cut for cut in list_layers(Request(tmp_path / "net.onnx", output="scores"))}
    done = export_onnx(tmp_path, several(), output="scores", split="layer", roles=HEAD_AND_TAIL)
    assert listed["layer"].sides == tuple(side.shape for side in done.manifest.side)


def test_the_summary_names_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(several(), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert main(["net.onnx", "--output", "scores", "--preprocess", "none", "--roles", "head,tail"]) == 0
    assert "Left out, because they do not hold one result per image: constant, batch_mean." in capsys.readouterr().out


@pytest.mark.parametrize(("end", "activation"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid"), ("", "none")])
def test_manifest_says_what_stands_before_the_output(tmp_path: Path, end: str, activation: str) -> None:
    b = o.Build()
    x = b.linear(b.pooled(b.features()), out="" if end else "result")
    if end:
        b(end, x, out="result")
    assert export_onnx(tmp_path, b.model("result"), roles=HEAD_AND_TAIL).manifest.activation == activation


def test_no_doc_string_survives(tmp_path: Path) -> None:
    model = o.classifier()
    for noted in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input):
        noted.doc_string = "/home/someone/secret"
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.doc_string = "/home/someone/secret"
    done = export_onnx(tmp_path, model)
    for file in done.path.iterdir():
        assert b"secret" not in file.read_bytes()


def test_the_command_lines_preset_wins_over_the_files_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    (tmp_path / "net.toml").write_text("[preprocess]\nscale = 0.5\nmean = [1, 2, 3]\n")
    monkeypatch.chdir(tmp_path)
    assert main(["net.onnx", "--config", "net.toml", "--preprocess", "tf", "--json", "-"]) == 0
    how = json.loads(capsys.readouterr().out)["manifest"]["input"]["preprocess"]
    assert (how["scale"], how["mean"], how["assumed"]) == (1 / 127.5, [1.0, 1.0, 1.0], False)


def test_a_name_that_is_no_text_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert main(["net.onnx", "--name", "w\udcff"]) == 2
    assert capsys.readouterr().err.startswith("xai-export: error: --name takes printable text")


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    data = bytearray(o.classifier().SerializeToString())
    rng = np.random.default_rng(seed)
    data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    (tmp_path / "net.onnx").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    status = main(["net.onnx", "-q", "--preprocess", "none"])
    error = capsys.readouterr().err
    assert (status, error.count("\n")) in {(0, 0), (2, 1)}
    assert "unexpected" not in error


def o_run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """The source on ONNX Runtime, image by image (one of its outputs is a mean over the batch)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = [dict(zip(names, session.run(names, {"image": x[i : i + 1]}), strict=True)) for i in range(len(x))]
    return {name: np.concatenate([run[name] for run in runs]) for name in ("scores", "beside")}
