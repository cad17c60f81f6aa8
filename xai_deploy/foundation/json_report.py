"""The option `--json FILE|-` of every command: where its report goes as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import XaiError
from .whole_files import write_whole

PRINTED = "-"
_BARE = ""
BARE_IS_OLD = "--json without a value is the old spelling; write --json -"


def add_json(parser: argparse.ArgumentParser, what: str = "the report") -> None:
    """Add the option."""
    parser.add_argument(
        "--json",
        type=_place,
        nargs="?",  # without a value it printed the report in earlier versions
        const=_BARE,
        metavar="FILE.json|-",
        help=f"write {what} as JSON to a file; - prints it instead of the summary",
    )


def settle(arguments: argparse.Namespace) -> bool:
    """Replace the old spelling by the present one; returns whether it was used."""
    bare = getattr(arguments, "json", None) == _BARE
    if bare:
        arguments.json = PRINTED
    return bare


def _place(text: str) -> str:
    # "--json photo.jpg" is the old spelling before an image, which must not be written over. A pipe or a device may have any name.
    if text != PRINTED and Path(text).suffix.lower() != ".json" and (Path(text).is_file() or not Path(text).exists()):
        raise argparse.ArgumentTypeError(f"{text!r} is no file for JSON; give FILE.json, or - to print")
    return text


def require_place(path: str | None) -> None:
    """Refuse a path at which no file can be written, before the work is done; None and "-" mean no file.

    Raises:
        XaiError: The path's folder does not exist, or the path is itself a folder.
    """
    if path not in (None, PRINTED) and not Path(path).parent.is_dir():
        raise XaiError(f"{path}: its folder does not exist")
    if path not in (None, PRINTED) and Path(path).is_dir():
        raise XaiError(f"{path}: is a folder; give the name of a file")


def write_json(report: Any, path: str) -> None:
    """Write a report as JSON to a file, or print it if the path is "-".

    Raises:
        OSError: It can't be written.
    """
    if path == PRINTED:
        print(json.dumps(report, indent=1, allow_nan=False))  # noqa: T201 -- ASCII: right in every encoding of a terminal
    else:
        write_whole(Path(path), as_json(report))


def as_json(report: Any) -> bytes:
    """A report as the content of a JSON file, UTF-8."""
    # A file name that is not UTF-8 holds lone surrogates; backslashreplace writes them as \udcXX, which is JSON's escape.
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")
