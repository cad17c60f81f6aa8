"""Runs a program with a folder on a package's path."""

from __future__ import annotations

import importlib
import runpy


def main(arguments: list[str]) -> int:
    """Run it: PACKAGE FOLDER PROGRAM."""
    package, folder, program = arguments
    importlib.import_module(package).__path__.append(folder)
    runpy.run_path(program)
    return 0
