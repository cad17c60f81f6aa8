"""An ONNX file as the passes know them: integers' operators in QDQ form, int8 codes as pixels; compared with the file as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .errors import VerificationError
from .passes.int8_input import to_codes, to_pixels
from .passes.old_opset import upgrade_old
from .passes.opset import to_common_opset
from .passes.qoperator import InQdq, to_qdq
from .runtime import open_session, run_single
from .sources.base import Network

STEPS = 0.05
"""Largest difference of a network in QDQ form from itself on integers, relative to the output's largest magnitude, where its
operators can't be compared one by one: some steps of 8 bits."""


def in_standard_form(model: onnx.ModelProto, kind: str) -> Network:
    """The network; `kind` is what the file is, for people."""
    model = upgrade_old(model)
    pixels = to_pixels(model)
    floats = to_qdq(pixels or model)
    if pixels is None and floats is None:
        return Network(model, kind)
    changes = [*(["integers' operators as QDQ"] if floats else []), *(["int8 input as uint8 pixels"] if pixels else [])]
    proto = floats.model if floats is not None else pixels or model
    # within one step in each operator, which may be several at the end
    tolerance = None if floats is None else STEPS if floats.beside is None else math.inf

    def reference(images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        parts = np.split(images, len(images))
        if floats is not None:
            _compare(floats, parts)
        session = open_session(model.SerializeToString(), "the source")
        singles = [run_single(session, to_codes(x) if pixels else x) for x in parts]
        return {name: np.concatenate([single[name] for single in singles]) for name in singles[0]}

    return Network(
        to_common_opset(proto),  # axes of quantisation are there from opset 13 on
        ", ".join([kind, *changes]),
        reference=reference,
        framework="the file as it was",
        tolerance=tolerance,
    )


def _compare(floats: InQdq, images: list[NDArray[Any]]) -> None:
    """Compare each operator with its replacement, fed with the same.

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
