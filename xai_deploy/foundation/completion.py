"""Completion in a shell: a script that shtab makes of a command's parser (extra `completion`).

The script holds the names itself, so a shell completes without starting Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ..errors import XaiError

SHELLS = ("bash", "zsh", "tcsh")

Words: TypeAlias = Mapping[str, Iterable[str] | Callable[[], Iterable[str]]]
"""Option, as "--method" -> the words that it takes, or what gives them when a script is made."""

_FILES = ("FILE", "IMAGE", "PATH", "DIR", "OUT", "BUNDLE", "MODEL", "REFERENCE", "DEPLOYED", "SOURCE")


def add_completion(parser: argparse.ArgumentParser, words: Words) -> None:
    """Add the option --print-completion, which prints a script and ends, like --version."""

    class Print(argparse.Action):
        def __call__(self, _: argparse.ArgumentParser, __: Any, shell: Any, option: object = None) -> None:
            # Through the parser's own printing, so that a failure to write is an error as everywhere.
            parser._print_message(completion_script(parser, words, shell))
            parser.exit()

    parser.add_argument(
        "--print-completion",
        action=Print,
        choices=SHELLS,
        help="print a script that completes this command in a shell, and exit",
    )


def completion_script(parser: argparse.ArgumentParser, words: Words, shell: str) -> str:
    """The script of one of `SHELLS`. It changes the parser, which must not parse afterwards.

    Raises:
        XaiError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise XaiError(
            '--print-completion needs shtab, which is not installed; pip install "xai-deploy[completion]"'
        ) from None
    for action in parser._actions:
        if (
            action.nargs == argparse.SUPPRESS
        ):  # `parse_intermixed_args` hides positional arguments while it reads options
            action.nargs = getattr(action, "save_nargs", None)
        offered = next((words[option] for option in action.option_strings if option in words), None)
        if offered is not None:
            action.choices = list(offered() if callable(offered) else offered)
        elif action.choices is None and action.nargs != 0 and _is_file(action):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, shell)
    return script


def _is_file(action: argparse.Action) -> bool:
    """Whether an argument is a path, by its name in the help: "FILE.toml", "DEPLOYED IMAGE ...", or, without one, "source"."""
    named = action.metavar or action.dest
    return (named[-1] if isinstance(named, tuple) else named).upper().startswith(_FILES)
