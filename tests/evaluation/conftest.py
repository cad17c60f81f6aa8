"""Small evaluations: bundles, folders of pictures, and the command run in them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import write_image
from xai_deploy.cli import evaluate
from xai_deploy.evaluation import run as running
from xai_deploy.evaluation import session

from . import nets

Run = Callable[..., dict[str, Any]]
Refused = Callable[..., str]


def pictures(folder: Path, count: int, size: tuple[int, int] = (nets.HEIGHT, nets.WIDTH)) -> Path:
    """Write `count` PNG files of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        write_image(folder / f"{number:04}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


def interrupt(patch: pytest.MonkeyPatch) -> None:
    """Interrupt the next evaluation after its first chunk of images."""
    chunk = running.measure_chunk

    def interrupted(*arguments: object) -> object:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return chunk(*arguments)  # type: ignore[arg-type]

    calls: list[int] = []
    patch.setattr(running, "measure_chunk", interrupted)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: `net.xai` and `photos` of six images."""
    monkeypatch.chdir(tmp_path)
    nets.write(tmp_path / "net.xai", labels=("cat", "dog", "owl", "elk", "emu"))
    pictures(tmp_path / "photos", 6)
    yield tmp_path
    for folder, _, _ in os.walk(tmp_path):  # what a test made unreadable
        os.chmod(folder, 0o700)


@pytest.fixture
def run(desk: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on net.xai, photos and reciprocam, or what is given in their place; returns results.json."""

    def call(*more: str, bundles: tuple[str, ...] = ("net.xai",), images: str = "photos", out: str = "out") -> Any:
        methods = [] if "-m" in more else ["-m", "reciprocam"]
        metrics = [] if "--metrics" in more else ["--metrics", "complexity"]
        status = evaluate.main([*bundles, images, "-o", out, *methods, *metrics, *more])
        assert status == 0, capsys.readouterr().err
        return json.loads(Path(out, session.RESULTS).read_bytes())

    return call


@pytest.fixture
def refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run what must fail with one line; returns that line."""

    def call(*arguments: str, images: str = "photos") -> str:
        capsys.readouterr()
        methods = [] if "-m" in arguments else ["-m", "reciprocam"]
        try:
            status: object = evaluate.main([*arguments, images, *methods])
        except SystemExit as error:
            status = error.code
        captured = capsys.readouterr()
        assert status == 2, captured
        assert captured.out == ""
        line: str = captured.err
        assert line.startswith("xai-evaluate: error: ")
        assert line.count("\n") == 1
        return line

    return call
