"""What all commands share: one-line errors, exit statuses, warnings as lines on standard error, types of arguments."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import typing
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import DetectionLimits, __version__, backend_names, method_names
from ..errors import OptionError
from ..foundation import completion, exits, json_report, progress
from ..images import MAX_PIXELS, InputRange, opencv, parse_range
from ..images.transparency import said_once
from ..methods import MethodSet
from ..pictures.colormaps import colormaps

_WARNINGS_KEPT = 1000  # different ones that are said once


def _methods() -> list[str]:
    return [*typing.get_args(MethodSet), *method_names()]


def _metrics() -> Iterable[str]:
    from ..evaluation.metrics import metrics  # needs more than the other commands have installed

    return metrics


_WORDS: completion.Words = {
    "--method": _methods,
    "--metrics": _metrics,
    "--backend": backend_names,
    "--colormap": colormaps,
}


class Parser(exits.OneLineParser):
    """A parser with the options that the commands share.

    Attributes:
        renamed: Old spelling of an option -> the present one.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.renamed: dict[str, str] = {}

    def add_resources(self) -> None:
        """Add the options for resources: threads, batch size, cache of compiled models, pixels."""
        add = self.add_argument
        add("--threads", type=positive, metavar="N", help="threads within an operator (default: the runtime's choice)")
        add("--batch-size", type=positive, default=16, metavar="N", help="largest batch (default: 16)")
        add("--cache", metavar="DIR", help="folder for compiled models, if the backend has such a cache")
        limit = "the largest image that is decoded (default: %(default)s)"
        add("--max-pixels", type=positive, default=MAX_PIXELS, metavar="N", help=limit)
        self.add_input_range()

    def add_input_range(self) -> None:
        """Add the option for the values of black and white in images of more than 8 bits."""
        deep = (
            "the values that are black and white in images deeper than 8 bits, as 0,4095 (default: 0,65535 for 16 bits)"
        )
        self.add_argument("--input-range", type=span, metavar="LOW,HIGH", help=deep)

    def add_inputs(self) -> None:
        """Add the option for what a network takes beside the images."""
        self.add_argument(
            "--input",
            action="append",
            metavar="NAME=FILE",
            help="for networks of several inputs: an image or a .npy array for all images, a folder with a file of each "
            "image's name, or a number; repeatable",
        )

    def add_trusted_key(self) -> None:
        """Add the option for the key that must have signed the bundles."""
        trusted = "public key; a bundle that it did not sign, or that was changed since, is refused before anything of it runs"
        self.add_argument("--trusted-key", metavar="KEY.pem", help=trusted)

    def add_json(self) -> None:
        """Add the option for the report as JSON."""
        json_report.add_json(self)

    def add_method(self, default: str) -> None:
        """Add the option for methods; `default` says which are taken without it."""
        methods = (
            "method, or several; options follow colons, as in reciprocam:score=softmax; all, or fast: those that the bundle's "
            f"graphs allow (default: {default})"
        )
        self.add_argument("-m", "--method", action="append", metavar="M[,M...]", help=methods)
        self.renamed["--methods"] = "--method"

    def add_detections(self) -> None:
        """Add the options that say which rows of a detector are detections."""
        self.add_argument(
            "--detect-score",
            type=share,
            default=DetectionLimits.score,
            metavar="F",
            help="of a detector: the probability from which a row counts as a detection (default: "
            f"{DetectionLimits.score})",
        )
        self.add_argument(
            "--detect-overlap",
            type=share,
            default=DetectionLimits.overlap,
            metavar="F",
            help="of a detector: the intersection over union above which the worse of two boxes of a class is left out "
            f"(default: {DetectionLimits.overlap})",
        )

    def add_segments(self) -> None:
        """Add the option for the segments of the methods that hide segments."""
        segments = "what methods of segments hide: labels per pixel (.npy, .png), N x N cells, or about N superpixels"
        self.add_argument("--segments", metavar="FILE|grid:N|slic:N", help=segments)

    def add_ray(self, also: str = "") -> None:
        """Add the options for a Ray cluster; `also` says what else they mean."""
        where = f"{also}work on a Ray cluster: 'local' starts one of this machine's cores; --threads is then 1 unless it is given"
        self.add_argument("--ray", metavar="local|ADDRESS", help=where)
        count = "worker processes on the cluster (default: as many as its cores allow)"
        self.add_argument("--ray-workers", type=positive, metavar="N", help=count)

    def add_recursive(self) -> None:
        """Add the option for the sub folders of folders of images."""
        below = "take the images in sub folders, too (default: yes)"
        self.add_argument("-r", "--recursive", action=argparse.BooleanOptionalAction, default=True, help=below)

    def add_skip_bad(self, default: bool = False) -> None:
        """Add the option for images that can't be read."""
        skip = f"report images that can't be read, and go on with the others (default: {'yes' if default else 'no'})"
        self.add_argument("--skip-bad", action=argparse.BooleanOptionalAction, default=default, help=skip)

    def present(self, argv: Sequence[str]) -> tuple[list[str], list[str]]:
        """A command line with today's spellings, and a line for each old one that it holds."""
        words, old = [], []
        for word in argv:
            name, equals, value = word.partition("=")
            new = self.renamed.get(name, name)
            if new != name:
                old.append(f"{name} is the old spelling of {new}")
            words.append(f"{new}{equals}{value}")
        return words, list(dict.fromkeys(old))

    def add_common(self) -> None:
        """Add the options that every command has; `command` applies them."""
        self.add_argument("-q", "--quiet", action="store_true", help="print errors only")
        self.add_argument("-v", "--verbose", action="store_true", help="print more of what happens")
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        completion.add_completion(self, _WORDS)


def command(parser: Parser, work: Callable[[argparse.Namespace], int | None], argv: Sequence[str] | None) -> int:
    """Run a command: parse, print log messages to standard error, do the work, and exit as `exits.run` defines.

    Args:
        parser: The command's parser, including the options of `Parser.add_common`; its `prog` is the name in messages.
        work: Does what the arguments ask for; returns the exit status, or None for 0.
        argv: The command line without the program; None takes it from `sys.argv`.

    Raises:
        SystemExit: From the parser, for a bad command line (2) and for `--help` and the like (0).
    """

    def parsed() -> int | None:
        given = sys.argv[1:] if argv is None else argv
        words, old = parser.present(given)
        arguments = parser.parse_intermixed_args(words)
        arguments.command = shlex.join([parser.prog, *given])  # for reports
        if json_report.settle(arguments):
            old.append(json_report.BARE_IS_OLD)
        logger.setLevel(logging.ERROR if arguments.quiet else logging.DEBUG if arguments.verbose else logging.WARNING)
        far.setLevel(logging.ERROR if arguments.quiet else logging.INFO)
        for line in old:
            logger.warning("%s", line)
        return work(arguments)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(parser.prog))
    handler.addFilter(_NewWarnings())
    logger, far = logging.getLogger("xai_deploy"), logging.getLogger(progress.__name__)
    levels = logger.level, far.level
    logger.addHandler(handler)
    try:
        with said_once():
            return exits.run(parser.prog, parsed)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(levels[0])  # a Python program that calls `main` keeps its own levels
        far.setLevel(levels[1])


def span(text: str) -> InputRange:
    """The type of an argument: two numbers "LOW,HIGH", the lower one first."""
    try:
        return parse_range(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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


def silence_opencv() -> None:
    """Stop OpenCV's warnings about damaged files: it writes them to standard error itself, and our errors say more."""
    logging_of = getattr(opencv().utils, "logging", None)  # not in every version of OpenCV
    if logging_of is not None:
        logging_of.setLogLevel(logging_of.LOG_LEVEL_SILENT)


class _NewWarnings(logging.Filter):
    """Lets a warning pass once: many come from every batch of images, in the same words. A server runs for months: few are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.said: OrderedDict[str, None] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        line = record.getMessage()
        new = line not in self.said
        self.said[line] = None
        self.said.move_to_end(line)
        if len(self.said) > _WARNINGS_KEPT:
            self.said.popitem(last=False)
        return new


class _Line(logging.Formatter):
    """One record, one line: "xai-explain: warning: ...", for progress without the level."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self.program = program

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.name == progress.__name__ else f"{record.levelname.lower()}: "
        line = f"{self.program}: {level}{record.getMessage()}"
        # logging keeps `exc_info=False` as it is given
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
