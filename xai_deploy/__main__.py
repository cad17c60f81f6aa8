"""`python -m xai_deploy explain ...`: the commands, for an environment whose folder of programs is not on the PATH."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .errors import XaiError
from .foundation import exits
from .foundation.options import unknown
from .version import __version__

COMMANDS = {
    "explain": "heatmaps for image files, by one or several methods",
    "check": "whether a deployed network still predicts and looks as its reference does",
    "evaluate": "how good explanations are, on a folder of images",
    "bench": "what explanations cost on this machine",
    "serve": "predictions and explanations over HTTP and gRPC",
    "records": "whether the records of explanations are still what was written; show and export them",
    "monitor": "whether explanations still look as they did: alarms over windows of records",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; without one, print what there is. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exits.run("xai_deploy", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            _print_commands()
            return 0
        case ["--version", *_]:
            sys.stdout.write(f"xai-deploy {__version__}\n")
            return 0
        case [name, *rest] if name in COMMANDS:
            status: int = importlib.import_module(f"{__package__}.cli.{name}").main(rest)
            return status
        case [name, *_]:
            raise XaiError(unknown("command", name, COMMANDS))
        case _:
            raise AssertionError(arguments)


def _print_commands() -> None:
    rows = {f"python -m xai_deploy {name}": f"xai-{name}: {what}" for name, what in COMMANDS.items()}
    rows["python -m xai_exporters"] = "xai-export: trained network -> bundle (a package of its own)"
    width = max(map(len, rows))
    lines = (f"  {called.ljust(width)}  {what}\n" for called, what in rows.items())
    sys.stdout.write("".join(["The commands; each has --help.\n", *lines]))


if __name__ == "__main__":
    sys.exit(main())
