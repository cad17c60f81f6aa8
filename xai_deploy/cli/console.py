"""What the commands share: one-line errors, exit statuses, warnings as lines on standard error, types of arguments."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import Explainer, XaiError, __version__
from ..images import MAX_PIXELS, opencv
from .contact_sheet import printable

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE


log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as every other error is; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")

    def add_resources(self) -> None:
        """What networks and images may take: threads, batches, compiled models, pixels."""
        add = self.add_argument
        add("--threads", type=positive, metavar="N", help="threads within an operator (default: the runtime's choice)")
        add("--batch-size", type=positive, default=16, metavar="N", help="largest batch (default: 16)")
        add("--cache", metavar="DIR", help="folder for compiled models, where the backend has such a cache")
        limit = "the largest image that is decoded (default: %(default)s)"
        add("--max-pixels", type=positive, default=MAX_PIXELS, metavar="N", help=limit)

    def add_common(self) -> None:
        """The options that every command has; `command` obeys them."""
        self.add_argument("-q", "--quiet", action="store_true", help="print errors only")
        self.add_argument("-v", "--verbose", action="store_true", help="print more of what happens")
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def command(parser: Parser, work: Callable[[argparse.Namespace], int | None], argv: Sequence[str] | None) -> int:
    """Run a command: parse, work, and turn what goes wrong into one line on standard error.

    Args:
        parser: The command's arguments, those of `Parser.add_common` among them; its `prog` is the name in messages.
        work: Does what the arguments ask for; returns the exit status, None standing for 0.
        argv: The command line without the program; None takes it from `sys.argv`.

    Returns:
        The exit status: what `work` says, 2 for bad input, 130 when interrupted, 141 when nobody reads the output any more.

    Raises:
        SystemExit: From the parser, for a bad command line (2) and for `--help` and the like (0).
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may hold what the terminal can't show
    try:
        try:
            arguments = parser.parse_intermixed_args(argv)
        finally:
            sys.stdout.flush()  # what --help or a list of methods has printed
    except BrokenPipeError:
        return _unread()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(parser.prog))
    logger = logging.getLogger("xai_deploy")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if arguments.quiet else logging.DEBUG if arguments.verbose else logging.WARNING)
    try:
        status = work(arguments)
        sys.stdout.flush()  # here, where a broken pipe can still be told
    except BrokenPipeError:  # whoever read our output has seen enough; files are on disk
        return _unread()
    except XaiError as error:
        return _fail(parser.prog, str(error))
    except OSError as error:
        return _fail(parser.prog, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)  # whoever calls `main` from Python keeps its own
    return status or 0


def positive(text: str) -> int:
    """The type of an argument: an integer, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {text}")
    return value


def share(text: str) -> float:
    """The type of an argument: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"between 0 and 1, not {text}")
    return value


def require_place(path: str | None) -> None:
    """Refuse where no file can be written, before the work whose result it is for; "-" is no file.

    Raises:
        XaiError: There is no such folder, or a folder of that name.
    """
    if path not in (None, "-") and not Path(path).parent.is_dir():
        raise XaiError(f"{path}: its folder does not exist")
    if path not in (None, "-") and Path(path).is_dir():
        raise XaiError(f"{path}: is a folder; a file is written")


def write_json(report: Any, path: str) -> None:
    """Write a report as JSON to a file, or print it where the path is "-"."""
    if path == "-":
        print(json.dumps(report, indent=1, allow_nan=False))  # ASCII: a terminal's encoding can't spoil it
        return
    # a file name that is not UTF-8 holds lone surrogates, for which backslashreplace writes JSON's own escape
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode("utf-8", "backslashreplace")
    file = Path(path)
    if file.exists() and not (file.is_file() and os.access(file, os.W_OK)):  # a pipe; or refused, as it should be
        file.write_bytes(data)
    else:
        _replace(Path(os.path.realpath(file)), data)


def _replace(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: what is there stays until this is written."""
    try:
        handle, name = tempfile.mkstemp(prefix=".xai-", suffix=".part", dir=file.parent)
    except OSError:  # nothing new may be in this folder, but the file may be written
        file.write_bytes(data)
        return
    part = Path(name)
    try:
        with open(handle, "wb") as opened:
            opened.write(data)
        mask = os.umask(0o022)
        os.umask(mask)
        part.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~mask)
        part.replace(file)
    except OSError as error:
        raise XaiError(f"{file}: can't be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)


def warn_of(explainer: Explainer, bundle: str) -> None:
    """Say what a user of this bundle should know before believing its maps."""
    manifest = explainer.bundle.manifest
    if manifest.input.preprocess.assumed:
        log.warning(
            "%s: the bundle's preprocessing was assumed at export, not stated; if predictions look wrong, export again with "
            "the network's own mean, std and resize",
            printable(bundle),
        )
    if manifest.randomised is not None:
        log.warning(
            "%s: %d of its layers have random weights, for the sanity check; its maps explain nothing",
            printable(bundle),
            len(manifest.randomised.layers),
        )


def silence_opencv() -> None:
    """OpenCV writes warnings about damaged files to standard error, past Python; ours say more."""
    logging_of = getattr(opencv().utils, "logging", None)
    if logging_of is not None:
        logging_of.setLogLevel(logging_of.LOG_LEVEL_SILENT)


def _unread() -> int:
    """Nobody reads the output any more: what is left of it goes nowhere, without a complaint at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _fail(program: str, reason: str) -> int:
    print(f"{program}: error: {printable(reason)}", file=sys.stderr)
    return BAD_INPUT


class _Line(logging.Formatter):
    """One record, one line: "xai-explain: warning: ..."."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self.program = program

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.program}: {record.levelname.lower()}: {record.getMessage()}"
