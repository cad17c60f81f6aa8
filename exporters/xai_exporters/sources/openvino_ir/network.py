"""A file that OpenVINO reads, as a trained network."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from xai_deploy.format.guard.expansion import constants_limit

from ...errors import SourceError
from ...passes.expansion import expansion
from ...passes.int8_input import coded_input, of_file, to_codes
from ...request import Request
from .. import first_steps
from ..source_file import NOTHING, Further, TrainedNetwork
from ..standard_form import in_standard_form
from ..stated import Stated
from . import child, model_info, parent
from .given import Given
from .quantised import compare_quantised, compare_unrounded

log = logging.getLogger(__name__)

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
_HALF = 2.0**-10  # the rounding of outputs in float16
_PIXELS = 2.0**-10
"""A resized pixel midway between two whole numbers falls to either: a step of 1 in 255, in few places."""
CHOSEN_LATER = (
    "The file's own suppression ({}) is left out: the bundle gives all boxes and their scores, and chooses among them when it "
    "explains."
)
_DROPS = (
    "The bundle rounds to 16 bits and saturates as the file says. OpenVINO leaves this out (FakeQuantize of 65536 levels) when "
    "it runs the file itself: its outputs differ where a value is outside its range."
)

_UNROUNDED = (
    "The bundle rounds resized pixels to whole numbers, as OpenVINO does with a fixed batch. With the file's open batch OpenVINO "
    "leaves this out: its outputs differ by what half a step of 255 changes."
)


def load(
    given: Given, request: Request, stated: Stated | None = None, codes: tuple[float, int] | None = None
) -> TrainedNetwork:
    """Translate the graph to ONNX, in a process of its own. The reference runs the file itself on OpenVINO.

    Args:
        given: The file.
        request: The export; its `input_shape` sets sizes that the file leaves open, its `input` may decide between branches.
        stated: What the file says of its preprocessing: if codes of 8 bits stand for other numbers than pixels, images are floats.
        codes: The scale and the zero point of an input of 8 bits, if the file says them.

    Raises:
        SourceError: OpenVINO is not installed or can't read the file, or an operator has no rule.
    """
    if importlib.util.find_spec("openvino") is None:
        raise SourceError(f"{given.shown}: {given.format} is read with OpenVINO; pip install openvino")
    more = [str(constants_limit(given.size)), ",".join(map(str, request.input_shape or ())), *request.input]
    model, said = _translated(given, more)
    coded = of_file(model, codes) or coded_input(model)
    network = in_standard_form(model, given.format, request, stated, coded)
    floats = network.proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    outputs = [str(output) for output in said["outputs"]]
    signed = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    inputs = [value.name for value in model.graph.input]

    def reference(images: NDArray[Any], further: Further = NOTHING) -> Arrays:
        if coded is not None and floats:
            images = coded.codes(images)
        elif signed and images.dtype == np.uint8:
            images = to_codes(images)
        values = [
            (name in further.whole, value) for name, value in zip(inputs, further.in_order(inputs, images), strict=True)
        ]
        want, as_read = _run(given, values, outputs)
        if said["quantised"]:
            again = _run_translation(model, values, outputs)
            compare_quantised(model, images, want, again, as_read, further)
            with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
                child.save_inputs(values, Path(name))
                parent.call("unround", given, Path(name), *more)
                compare_unrounded(Path(name), images, outputs, further)
        return want

    # codes begin with a shift or a rounding, which is no preprocessing
    first = first_steps.FirstSteps() if signed or (coded is not None and floats) else first_steps.read(model)
    first = replace(first, merged=said["merged"], replaced=said["resized"], layout=said["layout"])
    return model_info.read(
        said["model_info"],
        replace(
            network,
            reference=reference,
            framework=f"OpenVINO on the {given.short}",
            tolerance=_tolerance(said),
            notes=(*network.notes, *_left_out(said)),
            files=given.files,
        ),
        first,
    )


def _left_out(said: dict[str, Any]) -> list[str]:
    """Lines about what OpenVINO does not round when it runs the file itself, and about a list that the bundle does not hold."""
    rounding = [_DROPS] * said["drops"] + [_UNROUNDED] * (said["resizes_pixels"] and said["open"])
    return rounding + [CHOSEN_LATER.format(said["left_out"])] * bool(said["left_out"])


def _tolerance(said: dict[str, Any]) -> float | None:
    """How far the translation may be from the file; what is quantised has bounds of its own, and None stands for the usual one."""
    if said["quantised"]:
        return math.inf
    return _HALF if said["halves"] else _PIXELS if said["resizes_pixels"] else None


def _translated(given: Given, more: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The translation, and what the file says of itself."""
    with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
        folder = Path(name)
        _translate(given, folder, more)
        said: dict[str, Any] = json.loads((folder / child.SAID).read_text(encoding="utf-8"))
        model = onnx.load_model(folder / child.MODEL)
    _check(given, model)
    return model, said


def _translate(given: Given, folder: Path, more: Sequence[str]) -> None:
    """Once more without the names of nodes, if the process ended while it looked for them."""
    try:
        parent.call("translate", given, folder, *more)
    except SourceError as error:
        if isinstance(error, parent.TooLongError) or not (folder / child.NAMING).exists():
            raise
        log.debug("nodes get no names: %s", error)
        parent.call("translate", given, folder, *more)


def _check(given: Given, model: onnx.ModelProto) -> None:
    """Refuse a translation that is no valid ONNX, or whose tensors would take far more than its file."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise SourceError(
            f"{given.shown}: its translation is no valid ONNX ({str(error).splitlines()[0]}); please report it"
        ) from None
    if (problem := expansion(model, given.size)) is not None:
        raise SourceError(f"{given.shown}: {problem}, far more than its file; refused")


def _run_translation(model: onnx.ModelProto, values: child.Inputs, outputs: Sequence[str]) -> Arrays:
    """What OpenVINO gives for the translation."""
    with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
        path = Path(name) / child.MODEL
        onnx.save(model, path)
        return _run(Given(path, path, "ONNX", path.stat().st_size), values, outputs)[0]


def _run(given: Given, values: child.Inputs, outputs: Sequence[str]) -> tuple[Arrays, Arrays]:
    """What OpenVINO gives by the outputs' names, in a process of its own; and for a quantised network of open sizes, what it gives
    if they stay open."""
    with tempfile.TemporaryDirectory(prefix="xai-ir-") as name:
        child.save_inputs(values, Path(name))
        parent.call("run", given, Path(name))
        results: list[Arrays] = []
        for path in (Path(name) / child.OUTPUTS, Path(name) / child.AS_READ):
            if not path.exists():
                return results[0], {}
            with np.load(path) as arrays:
                results.append({output: arrays[str(i)] for i, output in enumerate(outputs)})
        return results[0], results[1]
