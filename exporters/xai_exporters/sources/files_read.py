"""The files on which a network depends beside its own: a program that keeps bundles makes them again if one of these changes."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

from xai_deploy import version

from ..request import Request
from .source_file import TrainedNetwork


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
    ours = [
        Path(version.__file__).resolve().parent,
        Path(__file__).resolve().parents[1],
    ]  # not installed while they are developed
    folders = [*(Path(folder).resolve() for folder in installed), *ours]
    command = getattr(sys.modules["__main__"], "__file__", None)  # it may be known by other names, too
    named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(name).resolve() for name in named if name and name != command}
    return {file for file in files if file.is_file() and not any(folder in file.parents for folder in folders)}
