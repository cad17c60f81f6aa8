"""OpenVINO IR: an .xml file with the graph, and a .bin file of the same name with the weights.

OpenVINO reads it, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xai_deploy.format.guard.expansion import constants_limit

from ..errors import SourceError, VerificationError
from ..graph.measure import open_session, run_single
from ..request import Request
from .expansion import expansion
from .openvino_ir import child, model_info, parent
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .standard_form import STEPS, in_standard_form

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
    if importlib.util.find_spec("openvino") is None:
        raise SourceError(f"{file.path}: OpenVINO IR is read with OpenVINO; pip install openvino")
    path = file.path.absolute()
    weights = _weights(file.path, path)
    size = path.stat().st_size + (weights.stat().st_size if weights else 0)
    if path.stat().st_size > _LARGEST_XML:
        raise SourceError(
            f"{file.path}: an .xml file of {path.stat().st_size} bytes, more than any network needs; refused"
        )
    with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
        folder = Path(name)
        more = [str(constants_limit(size))]
        if request.input_shape is not None:
            more.append(",".join(map(str, request.input_shape)))
        parent.call("translate", path, weights, folder, *more)
        said: dict[str, Any] = json.loads((folder / child.SAID).read_text(encoding="utf-8"))
        model = onnx.load_model(folder / child.MODEL)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise SourceError(
            f"{file.path}: its translation is no valid ONNX ({str(error).splitlines()[0]}); please report it"
        ) from None
    if (problem := expansion(model, size)) is not None:
        raise SourceError(f"{file.path}: {problem}, far more than its file; refused")
    network = in_standard_form(model, "OpenVINO IR")
    outputs = [str(output) for output in said["outputs"]]

    def reference(images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        want = _run(path, weights, images, outputs)
        if said["quantised"]:
            with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
                onnx.save(model, Path(name) / child.MODEL)
                _compare(model, images, want, _run(Path(name) / child.MODEL, None, images, outputs))
        return want

    return model_info.read(
        said["model_info"],
        replace(
            network,
            reference=reference,
            framework="OpenVINO on the IR",
            tolerance=math.inf if said["quantised"] else None,  # `_compare` has its own bound
            files=(weights,) if weights else (),
        ),
    )


def _run(graph: Path, weights: Path | None, images: NDArray[Any], outputs: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """What OpenVINO gives for images, [n, ...], by the outputs' names; in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
        np.save(Path(name) / child.IMAGES, images)
        parent.call("run", graph, weights, Path(name))
        with np.load(Path(name) / child.OUTPUTS) as given:
            return {output: given[str(i)] for i, output in enumerate(outputs)}


def _compare(
    model: onnx.ModelProto, images: NDArray[Any], want: Mapping[str, NDArray[Any]], again: Mapping[str, NDArray[Any]]
) -> None:
    """Compare a quantised network with its IR: OpenVINO's rounding differs from ONNX's, and differences of a step add up.

    Args:
        model: The translation.
        images: Images, [n, ...].
        want: What OpenVINO gives for the IR.
        again: What OpenVINO gives for the translation.

    Raises:
        VerificationError: They differ by more than `STEPS` of the largest magnitude and twice OpenVINO's own distance from ONNX
            Runtime on the translation.
    """
    session = open_session(model.SerializeToString(), "the translation")
    rows = [run_single(session, image[None]) for image in images]
    for name, value in want.items():
        got = np.concatenate([row[name] for row in rows]).astype(np.float64)
        distance = float(np.abs(got - again[name]).max())
        allowed = STEPS * float(np.abs(value.astype(np.float64)).max()) + 2 * distance
        if got.shape != value.shape or np.abs(got - value).max() > allowed:
            raise VerificationError(f"the output {name!r} differs from OpenVINO's run of the IR; please report it")


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
        SourceError: The graph names weights, and the file is missing.
    """
    beside = path.with_suffix(".bin")
    if beside.is_file():
        return beside
    with open(path, "rb") as stream:
        if b'"Const"' in stream.read(_LARGEST_XML):
            raise SourceError(f"{shown}: its weights, {beside.name}, are missing; put the file beside it")
    return None
