"""The question about preprocessing that nobody states: asked at a terminal, refused anywhere else."""

from __future__ import annotations

import sys

from xai_deploy.foundation.printable import printable

from .bundle.recipes import RECIPES, Unstated
from .errors import PreprocessingError
from .request import Preset


def refuse(unstated: Unstated) -> Preset:
    """Refuse, with all that may be given.

    Raises:
        PreprocessingError: Always.
    """
    alone = f" ({' and '.join(unstated.given)} alone leave it open)" if unstated.given else ""
    reason = f"{unstated.why[0].lower()}{unstated.why[1:]}; so " if unstated.why else ""
    raise PreprocessingError(
        f"{unstated.source}: {reason}how pixels become this network's input is not stated{alone}, and a wrong guess makes every "
        f"map wrong; give --preprocess {'|'.join(unstated.choices)}, or --scale, --mean and --std "
        "(from Python: Request.preprocess)"
    )


def can_ask() -> bool:
    """Whether somebody can read a question and answer it: standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(unstated: Unstated) -> Preset:
    """Ask at the terminal, until the answer is one of those offered.

    Raises:
        PreprocessingError: The input has ended.
    """
    choices = unstated.choices
    lines = [printable(f"{unstated.why}.")] if unstated.why else []
    lines += [
        f"{printable(str(unstated.source))} does not state how pixels become its input. How were images prepared in training?"
    ]
    for number, name in enumerate(choices, 1):
        what = "x / 255, so 0 to 1; centre crop" if name == "imagenet" and unstated.channels == 1 else RECIPES[name]
        lines.append(f"  {number}  {name:8}  {what}")
    lines.append("Other numbers: Ctrl-C, and give --scale, --mean and --std.")
    _say("\n".join(lines) + "\n")
    while True:
        _say(f"1-{len(choices)} [1 = {choices[0]}]: ")
        line = sys.stdin.readline()
        if not line:
            _say("\n")
            refuse(unstated)
        answer = line.strip().casefold()
        if not answer:
            return choices[0]
        for number, name in enumerate(choices, 1):
            if answer in (str(number), name):
                return name
        _say(f"{printable(line.strip())!r} is none of them. ")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
