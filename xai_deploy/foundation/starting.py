"""Ctrl-C while a command is being imported: it ends the process in silence (130 in a shell), where Python would print a traceback.

`xai_deploy` imports this first, `exits.run` calls `over`. Programs of others that import the package keep their handlers.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import PurePath


def is_command(called: Sequence[str]) -> bool:
    """Whether an interpreter's command line (`sys.orig_argv`) runs a command of ours: `xai-...` or `-m xai_...`."""
    match [word for word in called[1:] if word == "-m" or not word.startswith("-")]:
        case ["-m", package, *_]:
            return package in ("xai_deploy", "xai_exporters")
        case [program, *_]:
            return re.fullmatch(r"xai-[a-z]+", PurePath(program).stem) is not None
        case _:
            return False


def _begin() -> None:
    """Let Ctrl-C end a command of ours at once. A handler of anyone else's stays, and so does a signal that is ignored (nohup)."""
    if (
        is_command(sys.orig_argv)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _ours.append(True)


def over() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt again."""
    if _ours:
        _ours.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)


_ours: list[bool] = []
_begin()
