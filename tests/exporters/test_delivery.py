"""What is written beside a bundle, from the command line: refused early, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from xai_exporters import cli

from . import onnx_nets as o


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    return tmp_path


def run(*options: str) -> int:
    return cli.main(["net.onnx", "--split", "auto", "-q", *options])


@pytest.mark.parametrize("form", [(), ("--format", "openvino")])
def test_repository_holds_the_plain_network_beside_the_fused(source: Path, form: tuple[str, ...]) -> None:
    assert run("--fuse", "grad-cam,grad-cam++", "--serve-repo", "triton", "repo", *form) == 0
    names = {"net", "net-grad-cam", "net-grad-campp"}
    assert {p.name for p in (source / "repo").iterdir()} == names | {"xai-repository.json"}
    files = {"model.xml", "model.bin"} if form else {"model.onnx"}
    assert {p.name for p in (source / "repo" / "net" / "1").iterdir()} == files
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 20)).astype(np.float32)
    original = onnxruntime.InferenceSession(source / "net.onnx")
    [wanted] = [original.run(None, {original.get_inputs()[0].name: row[None]})[0] for row in x[:1]]
    model = openvino.Core().compile_model(
        source / "repo" / "net" / "1" / sorted(files)[-1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(model(x)[0][:1], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--serve-repo", "triton", "repo"], "--serve-repo is for --fuse, which is not given"),
        (["--web", "page"], "--web is for --fuse, which is not given"),
        (["--fuse", "cam", "--ort-web", "x.tgz"], "--ort-web is for --web, which is not given"),
        (["--fuse", "cam", "--serve-repo", "tritn", "repo"], "no server 'tritn' (did you mean 'triton'?)"),
        (["--fuse", "cam", "--serve-repo", "ovms", "there"], "there: exists already; give --overwrite to replace it"),
        (["--fuse", "cam", "--web", "there"], "there: exists already; give --overwrite to replace it"),
        (["--fuse", "cam", "--web", "net.xai"], "the bundle and --web need folders of their own"),
        (
            ["--fuse", "cam", "--serve-repo", "ovms", "net.xai/repo"],
            "the bundle and --serve-repo need folders of their own",
        ),
        (
            ["--fuse", "cam", "--serve-repo", "ovms", "a", "--web", "a"],
            "--serve-repo and --web need folders of their own",
        ),
        (["--fuse", "cam", "--web", "no/where"], "no: no such folder; create it first"),
        (["--format", "openvino"], "--format is for --fuse, which is not given"),
    ],
)
def test_refusals(source: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    """Before anything is read; nothing is written."""
    (source / "there").mkdir()
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {p.name for p in source.iterdir()} == {"net.onnx", "there"}


def test_a_failed_page_leaves_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle appears after what is made of it."""
    (source / "ort").mkdir()
    assert run("--fuse", "cam", "--web", "page", "--ort-web", "ort") == 2
    assert "ort" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx", "ort"}
