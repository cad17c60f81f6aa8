"""PaddlePaddle as a source: `paddle_file.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xai_exporters import Request
from xai_exporters.errors import RequestError, UnknownSourceError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir.unread import why_unread

from .written import NET, agree, images, paddle, refusal


def test_computes_the_network(tmp_path: Path) -> None:
    """A file is known by its content, not by its name."""
    path = paddle.save(NET, tmp_path / "net").rename(tmp_path / "inference.model")
    (tmp_path / "net.pdiparams").rename(path.with_suffix(".pdiparams"))
    network = load_source(Request(path))
    assert network.kind == "PaddlePaddle"
    assert network.files == (path.with_suffix(".pdiparams"),)
    x = images(3)
    agree(network, x.transpose(0, 3, 1, 2).copy(), NET.scores(x))


def test_weights_missing_or_short(tmp_path: Path) -> None:
    path = paddle.save(NET, tmp_path / "net")
    weights = path.with_suffix(".pdiparams")
    assert "the weights of a PaddlePaddle network; name its program, net.pdmodel" in refusal(
        weights, UnknownSourceError
    )
    os.truncate(weights, weights.stat().st_size // 2)
    assert "OpenVINO can't read it (File containing constant with name" in refusal(path)
    weights.unlink()
    assert "its weights, net.pdiparams, are missing; put the file beside it" in refusal(path)


def test_truncated(tmp_path: Path) -> None:
    path = paddle.save(NET, tmp_path / "net")
    os.truncate(path, path.stat().st_size // 2)
    assert "OpenVINO can't read it (Model can't be parsed" in refusal(path)


def test_an_operator_that_openvino_does_not_know(tmp_path: Path) -> None:
    path = paddle.save(NET, tmp_path / "net")
    path.write_bytes(paddle.program(NET, activation="mine"))
    assert "the node 'active' (mine): OpenVINO's reader knows no operator of this type" in refusal(path)


def test_arch_is_refused(tmp_path: Path) -> None:
    assert "a PaddlePaddle model holds its own network" in refusal(
        paddle.save(NET, tmp_path / "net"), RequestError, arch="resnet50"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX's limits")
def test_under_a_limit_of_its_user(tmp_path: Path) -> None:
    """`ulimit -v` below the reader's own bound."""
    path = paddle.save(NET, tmp_path / "net")
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10 << 30, 10 << 30)); from xai_exporters.cli import main"
    command = [sys.executable, "-c", f"{script}; raise SystemExit(main([{str(path)!r}, '--list-layers']))"]
    paths = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_condition() -> None:
    """What OpenVINO 2026.4 raises for a branch that reads the outer block's tensors (Paddle 3.3, `static.nn.cond`)."""
    error = RuntimeError(
        "[condtionalblock_if] END: node: internal::ConditionalBlock _generated_var_0 CALLBACK HAS THROWN"
    )
    assert why_unread(error, "paddle", "net.pdmodel").startswith(
        "OpenVINO can't read its condition (conditional_block): "
    )
