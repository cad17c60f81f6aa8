"""Write a server's model repository: whole or not at all, as a bundle; see `bundle.stage`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from xai_deploy.foundation.options import unknown
from xai_deploy.version import __version__

from ...bundle.stage import Put, write_folder
from ...errors import OutputError, RequestError
from ..overwrite import check_ours
from .served import Layout, Served, safe_name, servers

MARKER = "xai-repository.json"
"""Lists the repository's other files. Servers ignore it; --overwrite replaces nothing that it does not list."""


def check_repository(kind: str, destination: Path, overwrite: bool) -> Layout:
    """Refuse early what would be refused at the end.

    Raises:
        RequestError: No such kind of server.
        OutputError: The destination exists, or its folder does not.
    """
    layout = servers.get(kind)
    if layout is None:
        raise RequestError(f"--serve-repo {kind}: {unknown('server', kind, servers)}")
    if destination.exists() or destination.is_symlink():
        if not overwrite:
            raise OutputError(f"{destination}: exists already; give --overwrite to replace it, or another folder")
        check_ours(destination, MARKER, "repository")
    if not destination.absolute().parent.is_dir():
        raise OutputError(f"{destination.parent}: no such folder; create it first")
    return layout


def write_repository(
    kind: str, destination: Path, models: Sequence[Served], overwrite: bool, put: Put = write_folder
) -> None:
    """Write a repository that a server loads as it is.

    Args:
        kind: "triton", "ovms", or another name in `servers`.
        destination: The folder to write.
        models: The models; their names are safe, and all different.
        overwrite: Replace an existing repository.
        put: What writes the folder.

    Raises:
        RequestError: No such kind of server, or a name that is not safe or occurs twice.
        GraphError: The server can't serve a model.
        OutputError: The folder can't be written.
    """
    layout = check_repository(kind, destination, overwrite)
    _check_names([served.name for served in models])
    contents = dict(layout(models))
    contents[MARKER] = _marker(kind, contents)
    put(destination, contents)


def _check_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name != safe_name(name):
            raise RequestError(f"--serve-repo: {name!r} is no name for a served model; {safe_name(name)!r} would be")
        if name.casefold() in seen:  # a file system that ignores case has one folder for both
            raise RequestError(f"--serve-repo: two models are called {name!r}; each has a folder of its own")
        seen.add(name.casefold())


def _marker(kind: str, files: Iterable[str]) -> bytes:
    about = {"producer": f"xai-deploy-exporters {__version__}", "server": kind, "files": sorted(files)}
    return (json.dumps(about, indent=1) + "\n").encode()
