"""PaddlePaddle: a program, .pdmodel, with its weights beside it, .pdiparams. OpenVINO reads them, in a process of its own."""

from __future__ import annotations

import re

from ..request import Request
from .openvino_ir import network
from .openvino_ir.given import Given
from .parts import require_beside
from .source_file import SourceFile, TrainedNetwork, refuse_arch

_PROGRAM = re.compile(rb"\n[\x80-\xff]*[\x00-\x7f]\x08\x00\x10")
"""ProgramDesc's first block (framework.proto): field 1, in it idx = 0 and then parent_idx."""


def matches(file: SourceFile) -> bool:
    """A ProgramDesc."""
    return _PROGRAM.match(file.head) is not None


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Translate the graph to ONNX.

    Raises:
        SourceError: The weights are missing, OpenVINO is not installed or can't read the file, or an operator has no rule.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "a PaddlePaddle model")
    path = file.path.absolute()
    weights = require_beside(file.path, path, path.with_suffix(".pdiparams"))
    size = path.stat().st_size + weights.stat().st_size
    return network.load(
        Given(file.path, path, "PaddlePaddle", size, ".pdmodel", "paddle", ".pdmodel", (weights,)), request
    )
