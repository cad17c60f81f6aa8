"""How every command ends: an exit status, and one line on standard error for whatever goes wrong.

| status | |
|---|---|
| 0 | done (a command may give others a meaning: xai-check's 1 is "they disagree") |
| 2 | bad input, output that can't be written, or a bug of ours |
| 130 | interrupted |
| 141 | nobody reads the output any more (`| head`) |
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import XaiError
from . import starting
from .address import address
from .printable import printable

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE

log = logging.getLogger(__name__)


class _Help(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """A text of several lines keeps them; argparse's own formatters wrap all texts, or none."""
        return text if "\n" in text else super()._fill_text(text, width, indent)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as every other error is; `--help` shows the usage.

    Its help ends with the project's address, if the project has one. An epilog of several lines is shown as it is. Lists of numbers
    may begin with a minus ("--mean -1,0,1"); argparse knows that of single numbers only.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Help, **settings})
        self._negative_number_matcher = re.compile(r"-[\d.][\d.,eE+-]*$")

    def format_help(self) -> str:
        """The help, and the project's address below it."""
        where = address()
        return super().format_help() + ("" if where is None else f"\nmore: {where}\n")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a message. argparse's own method ignores one that can't be written, and the command would end with 0."""
        if message and file is sys.stderr:
            _say(message.rstrip("\n"))
        elif message:
            (file or sys.stdout).write(message)


def run(program: str, work: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Do a command's work, and turn what goes wrong into one line on standard error.

    Args:
        program: The command's name, for messages.
        work: Returns the exit status, None standing for 0.
        interrupted: The message for a user who interrupts it.

    Returns:
        The exit status.

    Raises:
        SystemExit: From a parser, for a bad command line (2) and for `--help` and the like (0).
    """
    starting.over()
    _open_streams()
    try:
        try:
            return work() or 0
        finally:  # after --help, too; here a failure can still be reported
            _flush()
    except BrokenPipeError:  # the reader has closed the pipe; our files are written
        _discard_output()
        return BROKEN_PIPE
    except XaiError as error:
        return _fail(program, str(error))
    except OSError as error:
        log.info("where it happened", exc_info=True)
        # `filename` is a number if the call was given a file descriptor.
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _fail(program, f"{named}{error.strerror or error}")
    except KeyboardInterrupt:
        _say(f"{program}: {interrupted}")
        return INTERRUPTED
    except MemoryError:
        log.info("where it happened", exc_info=True)
        return _fail(program, "not enough memory; take a smaller batch or fewer images at a time")
    except Exception as error:  # no XaiError: a bug of ours
        log.info("where it happened", exc_info=True)
        return _fail(
            program, f"unexpected {type(error).__name__}: {str(error)[:300]} (-v shows where; please report it)"
        )


def _open_streams() -> None:
    """Open the standard streams that the caller has closed; otherwise the next file that we open becomes standard output.

    A closed standard output is opened for reading, so that printing to it fails, as it should.
    """
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                handle = os.open(os.devnull, flags)  # takes the lowest free number, which need not be this one
                if handle != number:
                    os.dup2(handle, number)
                    os.close(handle)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may hold what the terminal can't show


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise XaiError(f"standard output can't be written ({error.strerror})") from None


def _discard_output() -> None:
    """Throw away the rest of the output; otherwise Python complains about it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, sys.stdout.fileno())
        os.close(handle)


def _fail(program: str, reason: str) -> int:
    try:
        sys.stdout.flush()  # so that earlier output comes before the error
    except OSError:
        _discard_output()
    line = printable(" ".join(reason.split()))
    _say(f"{program}: error: {line}")
    return BAD_INPUT


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the exit status stays if standard error can't be written
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
