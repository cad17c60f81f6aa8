"""Graphs that the runtime engine would refuse to open: found at export, not by the user of the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xai_deploy.errors import XaiError
from xai_deploy.format.bundle import guard
from xai_deploy.format.manifest import Manifest


def refused(contents: Mapping[str, Path], manifest: Manifest) -> dict[str, str]:
    """Role -> why the engine's guard refuses its graph; head and tail are opened later, when the bundle is verified.

    Args:
        contents: The files of the draft, by name.
        manifest: What is going to be written.
    """
    reasons = {}
    for role, graph in manifest.graphs.items():
        if role not in ("head", "tail", "network"):
            try:
                guard(contents[graph.file].read_bytes(), graph.file, manifest, role)
            except XaiError as error:
                reasons[role] = f"the engine refuses to open it: {error}"
    return reasons
