"""One OpenVINO core for all graphs that a worker's tests compile: each new one loads the plugin of the CPU again."""

from __future__ import annotations

import functools
from typing import Any

import openvino


@functools.cache
def core() -> Any:
    """An `openvino.Core`, without properties that change numbers."""
    return openvino.Core()
