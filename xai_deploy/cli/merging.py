"""`xai-evaluate --shard I/N` and `xai-evaluate merge`: an evaluation in parts, on several machines that share a folder or not."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError, OptionError, XaiError
from ..evaluation.session import Results
from ..evaluation.shards import Shard
from ..foundation.json_report import PRINTED
from ..foundation.printable import printable
from ..foundation.whole_files import write_whole
from . import examples
from .console import Parser

COMMAND = "command.json"
"""Beside the journals of shards: the command that made them, so that a merge needs nothing but their folder."""

_OWN = {"shard", "out", "json", "overwrite", "quiet", "verbose", "command"}
"""What may differ from shard to shard, and is the merge's own."""


def shard(text: str) -> Shard:
    """The type of an argument: "I/N"."""
    try:
        return Shard.parse(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def keep_command(arguments: argparse.Namespace) -> None:
    """Write what a merge has to know into the folder for the results.

    Raises:
        InputError: There is no such folder, which all shards share.
        OSError: It can't be written.
    """
    if arguments.out is None:
        raise InputError("--shard: give -o OUT, the folder that all shards write to")
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    document = {"folder": os.getcwd(), "command": arguments.command}
    write_whole(out / COMMAND, (json.dumps(document, indent=1) + "\n").encode("ascii"))


def show(results: Results, arguments: argparse.Namespace) -> None:
    """Print what a shard has measured, and what comes next."""
    if arguments.json == PRINTED or arguments.quiet:
        return
    skipped = f", {len(results.skipped)} skipped" if results.skipped else ""
    print(
        printable(
            f"shard {arguments.shard}: {results.images} images{skipped}; when all are measured: xai-evaluate merge {arguments.out}"
        )
    )


def merge(
    arguments: argparse.Namespace, evaluating: Parser, evaluate: Callable[[argparse.Namespace, Sequence[str]], None]
) -> None:
    """Put the shards in these folders together: run their command again with what they measured.

    Args:
        arguments: What was given after "merge".
        evaluating: The parser of the shards' command.
        evaluate: The command's work: its arguments, and the folders of the shards.

    Raises:
        XaiError: A folder holds no shards, or shards of another command; the folder where the command ran is not there.
    """
    shards = [_kept(Path(folder), evaluating) for folder in arguments.folders]
    place, again = shards[0]
    for folder, other in zip(arguments.folders, shards, strict=True):
        if other != shards[0]:
            raise XaiError(f"{folder}: holds shards of another command than {arguments.folders[0]}")
    if not place.is_dir():
        raise XaiError(f"{place}: the shards were measured in this folder, which is not here; merge where it is")
    again.__dict__.update({name: None if name == "shard" else getattr(arguments, name) for name in _OWN})
    again.out = os.path.abspath(arguments.out or arguments.folders[0])
    if again.json not in (None, PRINTED):
        again.json = os.path.abspath(again.json)
    folders = [os.path.abspath(folder) for folder in arguments.folders]
    with contextlib.chdir(place):
        evaluate(again, folders)


def _kept(folder: Path, parser: Parser) -> tuple[Path, argparse.Namespace]:
    """Where the command of a folder's shards ran, and its arguments without those of a single shard.

    Raises:
        XaiError: The folder holds no such command.
    """
    path = folder / COMMAND
    try:
        document = json.loads(path.read_bytes())
        words = shlex.split(document["command"])[1:]
        place = Path(document["folder"])
    except OSError:
        raise XaiError(
            f"{folder}: holds no shards ({COMMAND} is missing); xai-evaluate --shard I/N -o OUT writes them"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise XaiError(f"{path}: is damaged; give the command of a shard again") from None
    found = parser.parse_intermixed_args(words)
    for name in _OWN:
        setattr(found, name, None)
    return place, found


def parser() -> Parser:
    """The parser of `xai-evaluate merge`."""
    made = Parser(
        prog="xai-evaluate merge",
        usage="%(prog)s [-o OUT] OUT [OUT ...]",
        description="Put the shards of an evaluation together, and write its results.",
        epilog=examples.MERGE,
    )
    made.add_argument(
        "folders", metavar="OUT", nargs="+", help="a folder that 'xai-evaluate --shard I/N -o OUT' wrote to"
    )
    made.add_argument("-o", "--out", metavar="OUT", help="folder for the results (default: the first)")
    made.add_argument("--overwrite", action="store_true", help="begin again if OUT holds an evaluation")
    made.add_json()
    made.add_common()
    return made
