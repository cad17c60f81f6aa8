"""Bring an ONNX file into the form that the passes know, and compare it with the original file.

Quantisers of other domains become standard operators, operators on integers (QOperator form) become QDQ form, an int8 input becomes
uint8 pixels, and opsets below 7 become opset 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import VerificationError
from ..graph.measure import open_session, run_single
from ..passes.codes import to_common_codes
from ..passes.elsewhere import in_standard_operators, not_computed_here
from ..passes.int8_input import to_codes, to_pixels
from ..passes.old_opset import upgrade_old
from ..passes.opset import to_common_opset
from ..passes.qoperator import InQdq, to_qdq
from ..passes.quantisers import has_foreign_quantisers, to_standard_quantisers
from .source_file import TrainedNetwork

STEPS = 0.05
"""Largest difference between a network in QDQ form and itself in QOperator form, relative to the output's largest magnitude: 13
steps of 8 bits. It is used only if the operators can't be compared one by one."""

_NOT_COMPARED = (
    "ONNX Runtime does not compute {operators} on a processor: they are written as standard operators by their definition, and "
    "this was not compared with a run of the file"
)


def in_standard_form(model: onnx.ModelProto, kind: str) -> TrainedNetwork:
    """The network in standard form.

    Args:
        model: The file's content; not changed.
        kind: The file's description, for people.

    Raises:
        GraphError: An operator of an opset below 7 can't be converted.
        ValueError, KeyError, TypeError, IndexError: Data does not fit its shape; the onnx package raises these.
    """
    model = upgrade_old(model)
    elsewhere = not_computed_here(model)
    if elsewhere:
        model = in_standard_operators(model)
    notes = (_NOT_COMPARED.format(operators=", ".join(elsewhere)),) if elsewhere else ()
    quantisers = has_foreign_quantisers(model)
    if quantisers:
        model = to_standard_quantisers(to_common_opset(model))
    original = model
    codes = to_common_codes(model)
    model = codes or model
    pixels = to_pixels(model)
    floats = to_qdq(pixels or model)
    changes = (
        ("quantisers as standard operators", quantisers),
        ("codes of 4 and 16 bits in other forms", codes is not None),
        ("integers' operators as QDQ", floats is not None),
        ("int8 input as uint8 pixels", pixels is not None),
    )
    kind = ", ".join([kind, *(what for what, done in changes if done)])
    if codes is None and pixels is None and floats is None:
        return TrainedNetwork(model, kind, notes=notes)
    same = codes is None and floats is None  # only the input's type changes
    proto = floats.model if floats is not None else pixels or model
    # `_compare` holds each operator to one step; at the output these steps may add up, so there is no bound for that
    tolerance = None if same else STEPS if floats is None or floats.beside is None else math.inf

    def reference(images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        parts = np.split(images, len(images))
        if floats is not None:
            _compare(floats, parts)
        session = open_session(original.SerializeToString(), "the source")
        singles = [run_single(session, to_codes(x) if pixels else x) for x in parts]
        return {name: np.concatenate([single[name] for single in singles]) for name in singles[0]}

    return TrainedNetwork(
        to_common_opset(proto),  # QuantizeLinear has an axis from opset 13 on
        kind,
        reference=reference,
        framework="the file as it was",
        tolerance=tolerance,
        notes=notes,
    )


def _compare(floats: InQdq, images: list[NDArray[Any]]) -> None:
    """Compare each operator with its replacement on the same inputs.

    Raises:
        VerificationError: Codes differ by more than one step, floats by more than rounding.
    """
    if floats.beside is None:
        return
    session = open_session(floats.beside.SerializeToString(), "the source in QDQ form")
    for image in images:
        values = run_single(session, image)
        for own, again in floats.pairs:
            want, got = values[own].astype(np.float64), values[again].astype(np.float64)
            codes = values[own].dtype in (np.uint8, np.int8)
            allowed = 1.0 if codes else 1e-4 * max(float(np.abs(want).max()), 1.0)
            if want.shape != got.shape or np.abs(want - got).max() > allowed:
                raise VerificationError(
                    f"the operator that gives {own!r} computes something else than its standard form; please report it"
                )
