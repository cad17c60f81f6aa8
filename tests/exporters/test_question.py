"""Preprocessing that nobody states: the question at a terminal, the refusal elsewhere, and what counts as stated."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from xai_exporters import Request, export, list_layers
from xai_exporters.bundle.preprocess import unstated
from xai_exporters.bundle.recipes import Unstated
from xai_exporters.cli import main
from xai_exporters.errors import PreprocessingError
from xai_exporters.question import ask, refuse
from xai_exporters.sources.stated import Stated

from xai_deploy.format.bundle import Bundle

from . import nets
from . import onnx_nets as o

MESSAGE = (
    "net.onnx: how pixels become this network's input is not stated{}, and a wrong guess makes every map wrong; give --preprocess "
    "imagenet|unit|tf|caffe|none|assume, or --scale, --mean and --std (from Python: Request.preprocess)"
)
STATED = Stated((16, 20), {"mean": (0.0,) * 3, "std": (1.0,) * 3, "resize": "stretch"}, "a test", sure=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    return tmp_path


@pytest.mark.parametrize(
    "given", [[], ["--mean", "0.5"], ["--mean", "1", "--std", "2"], ["--resize", "stretch"], ["-q"]]
)
def test_refused_in_a_pipe(here: Path, given: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    alone = {"--mean": " (--mean alone leave it open)", "--std": " (--mean and --std alone leave it open)"}
    part = next((alone[option] for option in ("--std", "--mean") if option in given), "")
    assert main(["net.onnx", *given]) == 2
    assert capfd.readouterr() == ("", f"xai-export: error: {MESSAGE.format(part)}\n")
    assert sorted(p.name for p in here.iterdir()) == ["net.onnx"]


def test_refused_from_python(here: Path) -> None:
    with pytest.raises(PreprocessingError) as error:
        export(Request(Path("net.onnx")))
    assert str(error.value) == MESSAGE.format("")
    torch.save(nets.randomise(nets.Plain()), "net.pt")
    with pytest.raises(PreprocessingError, match=r"^net\.pt: how pixels"):
        export(Request(Path("net.pt"), trust_code=True, input_shape=nets.SHAPE))


def test_listing_layers_never_asks(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert list_layers(Request(Path("net.onnx")))
    assert main(["net.onnx", "--list-layers"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("dtype", "channels", "default", "request_", "missing"),
    [
        ("float32", 3, None, {}, True),
        ("float16", 3, None, {}, True),
        ("float32", 1, "imagenet", {}, True),
        ("uint8", 3, None, {}, False),
        ("float32", 3, None, {"preprocess": "assume"}, False),
        ("float32", 3, None, {"preprocess_fields": {"scale": 1, "mean": [0], "std": [1]}}, False),
        ("float32", 3, None, {"preprocess_fields": {"scale": 1}}, True),
        ("float32", 3, STATED, {}, False),
        ("float32", 1, STATED, {}, True),  # stated for three channels
        ("float32", 4, None, {}, True),
    ],
)
def test_what_counts_as_stated(
    dtype: str, channels: int, default: Any, request_: dict[str, Any], missing: bool
) -> None:
    request = Request(Path("net"), **request_)
    assert (unstated(request, dtype, (channels, 16, 20), "NCHW", default) is not None) == missing
    assert (unstated(request, dtype, (16, 20, channels), "NHWC", default) is not None) == missing


@pytest.mark.parametrize(
    ("typed", "recipe"),
    [
        ("\n", "imagenet"),
        ("2\n", "unit"),
        (" TF \n", "tf"),
        ("9\n0\nx\n5\n", "none"),
        ("caffe\n", "caffe"),
        ("6\n", "assume"),
    ],
)
def test_answers(typed: str, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert ask(Unstated(Path("net.onnx"), 3)) == recipe
    shown = capsys.readouterr().err
    assert shown.count("is none of them") == typed.count("\n") - 1
    assert "1-6 [1 = imagenet]: " in shown


def test_a_grey_network_is_not_offered_what_is_for_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("caffe\n4\n"))
    assert ask(Unstated(Path("net.onnx"), 1)) == "none"
    assert "mean pixel" not in capsys.readouterr().err


def test_input_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(PreprocessingError):
        ask(Unstated(Path("net.onnx"), 3))


def at_a_terminal(typed: bytes | None, *options: str) -> tuple[int, str, str]:
    """Run the command with standard input and standard error at a terminal; `typed` None interrupts it at the question."""
    terminal, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "dumb"}
    command = [sys.executable, "-m", "xai_exporters.cli", "net.onnx", *options]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while b"]: " not in shown:
            shown += os.read(terminal, 4096)
        if typed is None:
            process.send_signal(signal.SIGINT)
        else:
            os.write(terminal, typed)
        out, _ = process.communicate(timeout=120)
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # Linux says so when the other side is closed
            pass
    os.close(terminal)
    return process.returncode, out.decode(), shown.decode()


def test_asked_at_a_terminal(here: Path) -> None:
    status, out, shown = at_a_terminal(b"8\nunit\n", "--json")
    assert (status, out[:1]) == (0, "{")
    assert "net.onnx does not state how pixels become its input" in shown
    assert "'8' is none of them" in shown
    how = Bundle.open("net.xai").manifest.input.preprocess
    assert (how.scale, how.resize, how.assumed) == (1 / 255, "stretch", False)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_at_the_question(here: Path) -> None:
    status, out, shown = at_a_terminal(None)
    assert (status, out) == (130, "")
    assert shown.rstrip().endswith("xai-export: interrupted; nothing was written")
    assert sorted(p.name for p in here.iterdir()) == ["net.onnx"]


def test_assume_is_marked(here: Path) -> None:
    done = export(Request(Path("net.onnx"), preprocess="assume"))
    how = done.manifest.input.preprocess
    assert how.assumed
    np.testing.assert_allclose(how.mean, (0.485, 0.456, 0.406))


def test_the_reason_why_what_is_stated_is_not_used() -> None:
    unstated = Unstated(Path("net.xml"), 3, why="The IR's scale_values is '0'")
    with pytest.raises(PreprocessingError, match=r"^net\.xml: the IR's scale_values is '0'; so how pixels become"):
        refuse(unstated)
