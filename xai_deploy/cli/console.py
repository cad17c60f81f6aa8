"""What the commands share: one-line errors, exit statuses, warnings as lines on standard error, types of arguments."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import XaiError, __version__
from ..images import opencv
from .contact_sheet import printable

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as every other error is; `--help` shows the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")

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
    arguments = parser.parse_intermixed_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(parser.prog))
    logger = logging.getLogger("xai_deploy")
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if arguments.quiet else logging.DEBUG if arguments.verbose else logging.WARNING)
    try:
        status = work(arguments)
        sys.stdout.flush()  # here, where a broken pipe can still be told
    except BrokenPipeError:  # whoever read our output has seen enough; files are on disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except XaiError as error:
        return _fail(parser.prog, str(error))
    except OSError as error:
        return _fail(parser.prog, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        logger.removeHandler(handler)
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


def require_folder(path: str | None) -> None:
    """Refuse a file that can't be written for want of its folder, before the work whose result it is for; "-" is no file.

    Raises:
        XaiError: There is no such folder.
    """
    if path not in (None, "-") and not Path(path).parent.is_dir():
        raise XaiError(f"{path}: its folder does not exist")


def write_json(report: Any, path: str) -> None:
    """Write a report as JSON to a file, or print it where the path is "-"."""
    if path == "-":
        print(json.dumps(report, indent=1, allow_nan=False))  # ASCII: a terminal's encoding can't spoil it
        return
    # a file name that is not UTF-8 holds lone surrogates, for which backslashreplace writes JSON's own escape
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    Path(path).write_bytes(text.encode("utf-8", "backslashreplace"))


def silence_opencv() -> None:
    """OpenCV writes warnings about damaged files to standard error, past Python; ours say more."""
    logging_of = getattr(opencv().utils, "logging", None)
    if logging_of is not None:
        logging_of.setLogLevel(logging_of.LOG_LEVEL_SILENT)


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
