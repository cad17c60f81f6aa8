"""Whether the translation of a quantised network computes what its source does.

1. Without rounding, the graph and its translation agree as networks of floats do.
2. Each rounding alone gives the same codes, but for values near the middle between two.
3. As a whole, OpenVINO's runs of both differ by no more than OpenVINO's own run differs from ONNX Runtime's. Correct runs round
   some values to other codes, and the difference grows from layer to layer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from ...errors import VerificationError
from ...graph.measure import open_session, run_single
from ..source_file import NOTHING, Further
from ..standard_form import STEPS
from . import child

log = logging.getLogger(__name__)

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_TOLERANCE = 1e-4  # relative to the largest magnitude, as for networks of floats
_NEAR = 0.002  # the part of all values that may lie in the middle between two codes, but for rounding


def compare_unrounded(folder: Path, images: NDArray[Any], outputs: Sequence[str], further: Further = NOTHING) -> None:
    """Compare what `child` left in a folder: the graph without rounding, and the roundings alone.

    Raises:
        VerificationError: They differ from their translations.
    """
    model = (folder / child.MODEL).read_bytes()
    session = open_session(model, "the translation")
    rows = [run_single(session, image[None], further.at(i).all) for i, image in enumerate(images)]
    with np.load(folder / child.OUTPUTS) as wanted:
        for i, name in enumerate(outputs):
            got, want = np.concatenate([row[name] for row in rows]).astype(np.float64), wanted[str(i)]
            # without its rounding a network is not bounded, and what follows (a detector's exp) may overflow in both runs
            allowed = _TOLERANCE * float(np.abs(want).max(initial=1e-30, where=np.isfinite(want)))
            if got.shape != want.shape or not _where_unequal(got, want) <= allowed:  # NaN is greater than no bound
                raise VerificationError(
                    f"without rounding, the output {name!r} differs from OpenVINO's run of the source; please report it"
                )
    if (folder / child.ROUNDINGS).exists():
        _compare_roundings(folder)


def _where_unequal(got: NDArray[Any], want: NDArray[Any]) -> float:
    """The largest difference. Two numbers that are the same infinity, or both NaN, do not differ."""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    return float(np.abs(np.subtract(got, want, where=~same, out=np.zeros(got.shape))).max())


def _compare_roundings(folder: Path) -> None:
    session = open_session((folder / child.ROUNDINGS).read_bytes(), "the roundings")
    inputs, outputs = ([port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs()))
    files = (child.ROUNDINGS_IN, child.ROUNDINGS_OUT, child.ROUNDINGS_STEP)
    values, wanted, steps = (dict(np.load(folder / file)) for file in files)
    results = session.run(outputs, {name: values[str(i)] for i, name in enumerate(inputs)})
    for i, (name, got) in enumerate(zip(outputs, results, strict=True)):
        step = np.maximum(steps[str(i)], 1e-30)
        apart = np.abs(got.astype(np.float64) - wanted[str(i)]) / step
        fine = np.finfo(np.float32).eps * float(
            (np.abs(wanted[str(i)]) / step).max()
        )  # of a step: what float32 does to codes
        if not apart.max() <= 1.01 + fine or (apart > 0.01 + fine).mean() > _NEAR + 2 * fine:
            raise VerificationError(f"the rounding {name!r} differs from OpenVINO's; please report it")


def compare_quantised(
    model: onnx.ModelProto,
    images: NDArray[Any],
    want: Arrays,
    again: Arrays,
    as_read: Arrays,
    further: Further = NOTHING,
) -> None:
    """Compare the whole. A warning is logged if OpenVINO computes the source wrongly while its sizes are open.

    Args:
        model: The translation.
        images: Images, [n, ...].
        want: What OpenVINO gives for the source.
        again: What OpenVINO gives for the translation.
        as_read: What OpenVINO gives for the source if its sizes stay open; empty if they are fixed.
        further: What the network takes beside the images.

    Raises:
        VerificationError: OpenVINO's runs differ by more than `STEPS` of the largest magnitude and OpenVINO's own distance from
            ONNX Runtime on the translation.
    """
    session = open_session(model.SerializeToString(), "the translation")
    rows = [run_single(session, image[None], further.at(i).all) for i, image in enumerate(images)]
    for name, value in want.items():
        got = np.concatenate([row[name] for row in rows]).astype(np.float64)
        own = float(np.abs(got - again[name]).max())
        largest = float(np.abs(value.astype(np.float64)).max())
        if got.shape != value.shape or _apart(again[name], value) > STEPS * largest + own:
            raise VerificationError(f"the output {name!r} differs from OpenVINO's run of the source; please report it")
        if name in as_read and (apart := _apart(as_read[name], value)) > STEPS * largest + own:
            log.warning(
                "OpenVINO computes the source wrongly while the size of its batch is open: the output %r differs by %.2g from that "
                "of its fixed size, and the largest is %.2g. The bundle is not concerned. Deploy the source with a fixed size: "
                "model.reshape([1, ...])",
                name,
                apart,
                largest,
            )


def _apart(got: NDArray[Any], want: NDArray[Any]) -> float:
    return float(np.abs(got.astype(np.float64) - want).max())
