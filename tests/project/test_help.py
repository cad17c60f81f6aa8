"""`--help` teaches: its examples parse, it says what is written, and it leads to the project's address once there is one."""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import shlex
from email.message import Message
from importlib import metadata

import pytest
from xai_exporters.arguments import make_parser

from xai_deploy.__main__ import COMMANDS
from xai_deploy.foundation.address import address


def parser(command: str) -> argparse.ArgumentParser:
    if command == "export":
        return make_parser()
    made: argparse.ArgumentParser = importlib.import_module(f"xai_deploy.cli.{command}")._parser()
    return made


def examples(help_: str, command: str) -> list[str]:
    """The command lines: up to two spaces, a pipe or what follows it."""
    lines = re.findall(rf"^  (xai-{command} .*)$", help_, re.MULTILINE)
    return [re.split(r"  +| \|\| | \| ", line)[0] for line in lines]


@pytest.mark.parametrize("command", [*COMMANDS, "export"])
def test_examples(command: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    help_ = parser(command).format_help()
    lines = examples(help_, command)
    assert len(lines) >= 5
    for line in lines:
        made = parser(command)
        parse = made.parse_args if command == "export" else made.parse_intermixed_args
        parse(shlex.split(line)[1:])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "an old spelling"
    assert re.search(r"^written\b", help_, re.MULTILINE)
    assert max(map(len, parser(command).epilog.splitlines())) <= 120  # type: ignore[union-attr]


def stated(*urls: str) -> Message:
    message = Message()
    for url in urls:
        message["Project-URL"] = url
    return message


@pytest.mark.parametrize(
    ("urls", "wanted"),
    [
        ((), None),
        (("Source, https://s.example",), "https://s.example"),
        (("Source, https://s.example", "Documentation, https://d.example/x,y"), "https://d.example/x,y"),
        (("Tracker, https://t.example",), "https://t.example"),
    ],
)
def test_address(urls: tuple[str, ...], wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "metadata", lambda _: stated(*urls))
    assert address() == wanted
    for command in [*COMMANDS, "export"]:
        last = parser(command).format_help().splitlines()[-1]
        assert (last == f"more: {wanted}") == (wanted is not None)


def test_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Message:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert address() is None
