"""Whether OpenVINO multiplies by compressed weights rightly: codes of 4 or 8 bits, with a scale for each group.

OpenVINO 2026.4 does not if a group has more than 32 codes of 4 bits and no multiple of 32: its results are off by 20 to 100 %. The
network as OpenVINO runs it is then not the one that its file describes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes

from ...errors import SourceError

_CODES = ("i2", "u2", "i4", "u4", "i8", "u8", "u3", "u6", "nf4")
_APART = 1e-2
"""The largest difference relative to the largest magnitude: scales in float16 explain 1e-3."""


def has_weights(model: Any) -> bool:
    """Whether a model multiplies by weights that are codes.

    Args:
        model: An `openvino.Model`.
    """
    return any(
        node.get_type_name() == "Constant"
        and node.get_output_element_type(0).get_type_name() in _CODES
        and np.prod(node.get_output_shape(0)) > 1
        for node in model.get_ops()
    )


def written_out(model: Any) -> Any:
    """A copy of an `openvino.Model` whose weights are floats: (codes - zero) scale, folded by OpenVINO itself."""
    passes = importlib.import_module(f"{runtimes.openvino().__name__}.passes")
    copy, manager = model.clone(), passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(copy)
    return copy


def require_same(got: Sequence[NDArray[Any]], want: Sequence[NDArray[Any]]) -> None:
    """Compare what a model gives with what its copy gives.

    Whole numbers are left out, and lists of boxes of different lengths: what is chosen can change with the last digit of a score.

    Args:
        got: The model's outputs, of any shapes and types.
        want: The copy's outputs, in the same order.

    Raises:
        SourceError: All outputs of floats differ by more than 1 % of their largest magnitude.
    """
    shares = [
        float(np.abs(a - b).max(initial=0.0)) / (float(np.abs(b).max(initial=0.0)) or 1.0)
        for a, b in zip(got, want, strict=True)
        if a.dtype.kind == "f" and a.shape == b.shape and np.isfinite(b).all()
    ]
    if shares and not any(share <= _APART for share in shares):
        raise SourceError(
            f"OpenVINO computes it wrongly: its outputs are {min(shares):.0%} from those of the same weights written out as "
            "floats; compress its weights in groups of 32, 64 or 128, or with one scale for each channel, for OpenVINO runs the "
            "file so wherever it is deployed"
        )
