"""xai-check as a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xai_deploy.cli.check import main

Capture = pytest.CaptureFixture[str]


def figures(*arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """The report's figures by name."""
    assert main(["-q", "--json", "report.json", *arguments]) == status
    report = json.loads(Path("report.json").read_text())
    assert report["passed"] is (status == 0)
    return {figure["name"]: figure for figure in report["figures"]}


def bad(arguments: list[str], capsys: Capture) -> str:
    """Run what must fail with one line; return that line."""
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line: str = captured.err
    assert line.startswith("xai-check: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("xai-check: error: ").rstrip("\n")


def record(*arguments: str) -> None:
    assert main(["--record", "ref.npz", *arguments, "-q"]) == 0
