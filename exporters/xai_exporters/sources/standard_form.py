"""Bring an ONNX file into the form that the passes know, and compare it with the original file.

Quantisers of other domains become standard operators, operators on integers (QOperator form) become QDQ form, an int8 input becomes
uint8 pixels, and opsets below 7 become opset 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import VerificationError
from ..graph.measure import open_session, run_single
from ..passes.codes import only_weights, to_common_codes
from ..passes.elsewhere import in_standard_operators, not_computed_here
from ..passes.half_scales import widen_scales
from ..passes.int8_input import CodedInput, coded_input, to_codes, to_floats, to_pixels
from ..passes.old_opset import upgrade_old
from ..passes.opset import to_common_opset
from ..passes.qoperator import InQdq, to_qdq
from ..passes.quantisers import foreign_quantisers, to_standard_quantisers
from ..passes.rewriting import attribute_of
from ..passes.stated_zeros import state_zero_points
from ..passes.unsaturated import without_saturation
from ..request import Request
from .source_file import NOTHING, Further, TrainedNetwork
from .stated import Stated

STEPS = 0.05
"""Largest difference between a network in QDQ form and itself in QOperator form, relative to the output's largest magnitude: 13
steps of 8 bits. It is used only if the operators can't be compared one by one."""

_NOT_COMPARED = (
    "ONNX Runtime does not compute {operators} on a processor: they are written as standard operators by their definition, and "
    "this was not compared with a run of the file"
)

_WHOLE_KERNEL = (
    "QLinearAveragePool gives {tensor!r}, with ceil_mode and count_include_pad: ONNX Runtime divides windows that reach beyond the "
    "padding by their whole size there, and in AveragePool by the positions inside; quantise in QDQ form (QuantFormat.QDQ), or "
    "leave AveragePool in floats (nodes_to_exclude)"
)

_CODED = (
    "the 8-bit input stands for numbers from {low:.3g} to {high:.3g}, and pixels are taken as its codes; if images were normalised "
    "for training, give --preprocess: the file's own scale then makes the codes"
)


@dataclass(frozen=True)
class _Original:
    """The file as it was, as the reference of its standard form.

    Attributes:
        model: The file.
        given: What it takes instead of the images of the standard form.
        qdq: Its operators on integers in QDQ form, to be compared one by one.
    """

    model: onnx.ModelProto
    given: Callable[[NDArray[Any]], NDArray[Any]]
    qdq: InQdq | None

    def __call__(self, images: NDArray[Any], further: Further = NOTHING) -> Mapping[str, NDArray[Any]]:
        """Images [N,...] -> outputs by name, one image at a time."""
        parts = np.split(images, len(images))
        session = open_session(_exact(self.model).SerializeToString(), "the source")
        singles = [run_single(session, self.given(x), further.at(i).all) for i, x in enumerate(parts)]
        del session  # two at once would hold the weights twice
        if self.qdq is not None:
            _compare(self.qdq, parts, further)
        return {name: np.concatenate([single[name] for single in singles]) for name in singles[0]}


def in_standard_form(
    model: onnx.ModelProto,
    kind: str,
    request: Request | None = None,
    stated: Stated | None = None,
    coded: CodedInput | None = None,
) -> TrainedNetwork:
    """The network in standard form.

    Args:
        model: The file's content; not changed.
        kind: The file's description, for people.
        request: The export. If it says that images are normalised to floats, an input of 8-bit codes becomes one of floats, if the
            file has their scale.
        stated: What the file says of its preprocessing; if the codes of pixels so prepared are others than pixels, likewise.
        coded: What its codes stand for, if the graph does not say it.

    Raises:
        GraphError: An operator of an opset below 7 can't be converted.
        ValueError, KeyError, TypeError, IndexError: Data does not fit its shape; the onnx package raises these.
    """
    model, elsewhere, quantisers = _in_known_operators(upgrade_old(model))
    notes = _not_compared(*elsewhere, *quantisers)
    original = model
    model = state_zero_points(model) or model
    wide = widen_scales(model)
    codes = to_common_codes(wide or model)
    model = codes or wide or model
    coded = coded or coded_input(model)
    as_floats = _with_floats(model, coded, request, stated)
    pixels = to_pixels(model) if as_floats is None else None
    if coded is not None and as_floats is None and not _are_pixels(*coded.ends):
        notes += (_CODED.format(low=coded.ends[0], high=coded.ends[1]),)
    model = as_floats or pixels or model
    qdq = to_qdq(model)
    changes = (
        ("quantisers as standard operators", bool(quantisers)),
        ("codes of 4 and 16 bits in other forms", codes is not None),
        ("integers' operators as QDQ", qdq is not None),
        ("int8 input as uint8 pixels", pixels is not None),
        ("8-bit input as floats", as_floats is not None),
    )
    kind = ", ".join([kind, *(what for what, done in changes if done)])
    if model is original and qdq is None:
        return TrainedNetwork(_exact(model), kind, notes=notes)
    given = (
        coded.codes if as_floats is not None and coded is not None else to_codes if pixels is not None else np.asarray
    )
    return TrainedNetwork(
        to_common_opset(_exact(model if qdq is None else qdq.model)),  # QuantizeLinear has an axis from opset 13 on
        kind,
        reference=_Original(original, given, qdq),
        framework="the file as it was",
        same_runtime=True,
        tolerance=_tolerance(qdq, (codes or wide) is not None and not only_weights(original)),
        notes=notes,
    )


def _in_known_operators(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...], tuple[str, ...]]:
    """The model without operators that ONNX Runtime does not compute here and without foreign quantisers, and their names."""
    elsewhere = not_computed_here(model)
    if elsewhere:
        model = in_standard_operators(model)
    quantisers = foreign_quantisers(model)
    if quantisers:
        model = to_standard_quantisers(to_common_opset(model))
    return model, tuple(elsewhere), quantisers


def _not_compared(*operators: str) -> tuple[str, ...]:
    return (_NOT_COMPARED.format(operators=", ".join(operators)),) if operators else ()


def _with_floats(
    model: onnx.ModelProto, coded: CodedInput | None, request: Request | None, stated: Stated | None
) -> onnx.ModelProto | None:
    """The model with images of floats, if its input is coded and the request or the file normalises them; else None."""
    if coded is None or request is None or not (normalises(request) or _are_others(coded, stated, request)):
        return None
    return to_floats(model, coded)


def _tolerance(qdq: InQdq | None, other_codes: bool) -> float | None:
    """How far outputs may be from the file's; None: rounding alone. `_compare` holds each operator to one step; at the output these
    steps may add up, so there is no bound for that."""
    if qdq is not None and qdq.beside is not None:
        return math.inf
    return STEPS if qdq is not None or other_codes else None


def _are_others(coded: CodedInput, stated: Stated | None, request: Request) -> bool:
    """Whether the codes of pixels, normalised as is stated, are others than pixels (of int8: less 128) by more than one."""
    if stated is None or request.preprocess is not None:
        return False
    pixels = np.arange(256.0)
    own = pixels - 128 if coded.signed else pixels
    fields = stated.fields
    numbers = [
        coded.codes((pixels * fields["scale"] - m) / s) for m, s in zip(fields["mean"], fields["std"], strict=True)
    ]
    return any(np.abs(codes.astype(np.float64) - own).max() > 1 for codes in numbers)


def normalises(request: Request) -> bool:
    """Whether the request says that pixels become other numbers than 0 to 255."""
    if request.preprocess not in (None, "none", "assume"):
        return True
    for key, plain in (("scale", 1), ("mean", 0), ("std", 1)):
        given = request.preprocess_fields.get(key, plain)
        if any(number != plain for number in (given if isinstance(given, list | tuple) else [given])):
            return True
    return False


def _are_pixels(low: float, high: float) -> bool:
    """Whether the numbers that codes stand for are those of pixels: 0 to 1, 0 to 255, -1 to 1, -128 to 127."""
    return any(
        abs(low - a) <= 0.02 * (b - a) and abs(high - b) <= 0.02 * (b - a)
        for a, b in ((0, 1), (0, 255), (-1, 1), (-128, 127))
    )


def _exact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as ONNX Runtime computes it without saturating on any processor."""
    return without_saturation(model) or model


def _compare(floats: InQdq, images: list[NDArray[Any]], further: Further) -> None:
    """Compare each operator with its replacement on the same inputs.

    Raises:
        VerificationError: Codes differ by more than one step, floats by more than rounding.
    """
    if floats.beside is None:
        return
    session = open_session(_exact(floats.beside).SerializeToString(), "the source in QDQ form")
    for i, image in enumerate(images):
        values = run_single(session, image, further.at(i).all)
        for own, again in floats.pairs:
            want, got = values[own].astype(np.float64), values[again].astype(np.float64)
            codes = values[own].dtype in (np.uint8, np.int8)
            allowed = 1.0 if codes else 1e-4 * max(float(np.abs(want).max()), 1.0)
            if want.shape != got.shape or not np.abs(want - got).max() <= allowed:  # NaN is greater than no bound
                raise VerificationError(_says_otherwise(floats.beside, own))


def _says_otherwise(model: onnx.ModelProto, own: str) -> str:
    """Why there is no standard form of the operator that gives a tensor."""
    node = next(node for node in model.graph.node if own in node.output)
    if node.op_type == "QLinearAveragePool" and attribute_of(node, "ceil_mode", 0):
        return _WHOLE_KERNEL.format(tensor=own)
    return f"the operator that gives {own!r} computes something else than its standard form; please report it"
