"""Stands in for pip where the documents' code blocks run: it installs nothing, and checks what it is given.

It imports the standard library alone, because it starts once for each line of `pip install`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fault(arguments: list[str]) -> str | None:
    """What is wrong with `pip install ...`, or None: our distributions and their extras have to exist."""
    extras = {}
    for place in (".", "./exporters"):
        project = tomllib.loads((ROOT / place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras[place] = extras[project["name"]] = set(project.get("optional-dependencies", {}))
    if arguments[:1] != ["install"]:
        return f"not pip install: {arguments}"
    for argument in arguments[1:]:
        name, _, wanted = argument.rstrip("]").partition("[")
        if name.startswith((".", "xai-deploy")) and name not in extras:
            return f"no distribution {name}"
        if name in extras and (unknown := set(filter(None, wanted.split(","))) - extras[name]):
            return f"{name} has no extra {unknown}"
    return None


if __name__ == "__main__":
    sys.exit(fault(sys.argv[1:]))
