"""OpenVINO IR: an .xml file with the graph, and a .bin file of the same name with the weights.

OpenVINO reads it, in a process of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import SourceError
from ..request import Request
from .openvino_ir import network
from .openvino_ir.given import Given
from .parts import require_beside
from .source_file import SourceFile, TrainedNetwork, refuse_arch

_LARGEST_XML = 1 << 28  # bytes; that of a network of 10,000 operators takes 20 MB


def matches(file: SourceFile) -> bool:
    """An XML file whose first element is `net`."""
    start = file.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith((b"<?xml", b"<net", b"<!--")) and _is_net(file.path)


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Translate the graph to ONNX.

    Raises:
        SourceError: The weights are missing, OpenVINO is not installed or can't read the file, or an operator has no rule.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "OpenVINO IR")
    path = file.path.absolute()
    if path.stat().st_size > _LARGEST_XML:
        raise SourceError(
            f"{file.path}: an .xml file of {path.stat().st_size} bytes, more than any network needs; refused"
        )
    weights = _weights(file.path, path)
    size = path.stat().st_size + (weights.stat().st_size if weights else 0)
    beside = (weights,) if weights else ()
    return network.load(Given(file.path, path, "OpenVINO IR", size, "IR", beside=beside), request)


def _is_net(path: Path) -> bool:
    """Whether the first element is `net` with a version, comments aside."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(4096)
    except OSError:
        return False
    text = re.sub(rb"<!--.*?-->", b"", text, flags=re.DOTALL)
    return re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>)?\s*<net\s[^>]*version=", text) is not None


def _weights(shown: Path, path: Path) -> Path | None:
    """The .bin file; None if the graph names none.

    Raises:
        SourceError: The graph names weights, and the file is missing, or none to be read.
    """
    beside = path.with_suffix(".bin")
    with open(path, "rb") as stream:
        needed = b'"Const"' in stream.read()  # its size is checked above
    return require_beside(shown, path, beside) if needed or beside.is_file() else None
