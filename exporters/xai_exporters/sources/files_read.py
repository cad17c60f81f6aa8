"""The files on which a network depends beside its own: a program that keeps bundles makes them again if one of these changes."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from xai_deploy import version

from ..request import Request
from .source_file import TrainedNetwork

_INSTALLED: set[str] = set()
"""The names of modules' files that lie in the installation: a process that exports again looks at the others only."""


def files_read(request: Request, network: TrainedNetwork) -> tuple[Path, ...]:
    """The files that an export has read beside its source, sorted.

    They are the files of external data, of labels and of composites, and the Python modules that were imported from outside the
    installation: those that --arch names or a pickle refers to, and what these import.
    """
    files = {*network.files, *(Path(given) for given in request.composite if given.endswith(".toml"))}
    if request.labels is not None:
        files.add(request.labels)
    return tuple(sorted({path.absolute() for path in files} | _modules()))


def _modules() -> set[Path]:
    """The files of the imported modules that are not installed."""
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    installed += [str(Path(version.__file__).parent), str(Path(__file__).parents[1])]  # ours, while they are developed
    inside = tuple(os.path.normcase(Path(folder).resolve()) + os.sep for folder in installed)
    command = getattr(sys.modules["__main__"], "__file__", None)  # it may be known by other names, too
    named = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    folders = functools.cache(os.path.realpath)  # some thousand modules lie in some hundred folders
    files = set()
    for name in named - _INSTALLED - {"", command}:
        file = _resolved(name, folders)
        if os.path.normcase(file).startswith(inside):
            _INSTALLED.add(name)
        elif os.path.isfile(file):
            files.add(Path(file))
    return files


def _resolved(name: str, folders: Callable[[str], str]) -> str:
    """A file's absolute path without links; `folders` gives that of its folder."""
    if os.path.islink(name):
        return os.path.realpath(name)
    folder, base = os.path.split(name)
    return os.path.join(folders(folder), base)
