"""Keep OpenVINO from moving a factor of each position into the weights of the convolution after it.

OpenVINO 2026.4 computes conv(x * c, w) as conv(x, w * c) if c can be broadcast to w. That is right for a factor of each channel. If
the kernel is as large as the map (7 x 7 on 7 x 7), a factor of each position can be broadcast. The result is then wrong by half
its size, because each position of a padded convolution reads the factors elsewhere. Factors of a division are moved likewise, and
through Reshape and empty Pads. A Clip that lets every number pass stops it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .emit import Emitter
from .reading import attribute, constant_of

_THROUGH = ("Identity", "Pad", "Reshape", "Squeeze", "Unsqueeze")


def keep_factors_apart(graph: ir.Graph) -> None:
    """Put a Clip between such a factor and its convolution, in place."""
    emit = None
    for node in list(graph):
        kernel = _padded_kernel(node)
        factor = _factor(node.inputs[0], kernel) if kernel else None
        if factor is None:
            continue
        emit = emit or Emitter(graph, "apart")
        x, bound = node.inputs[0], np.finfo(factor).max
        clipped = emit.node("Clip", [x, *(emit.shared(np.array(limit, factor)) for limit in (-bound, bound))], "clip")
        clipped.type = None if x is None else x.type
        node.replace_input_with(0, clipped)
    if emit is not None:
        graph.sort()


def _padded_kernel(node: ir.Node) -> tuple[int, ...]:
    """The sides of the kernel of a convolution that pads its input; () for others, and for kernels of one position."""
    if node.op_type != "Conv" or node.inputs[1] is None or node.inputs[1].shape is None:
        return ()
    pads, auto = attribute(node, "pads", ()), attribute(node, "auto_pad", "NOTSET")
    kernel = tuple(side for side in node.inputs[1].shape.dims[2:] if isinstance(side, int))
    return kernel if max(kernel, default=1) > 1 and (any(pads) or str(auto).startswith("SAME")) else ()


def _factor(value: ir.Value | None, kernel: tuple[int, ...]) -> np.dtype[np.floating] | None:
    """The type of a constant that scales a tensor, changes from position to position, and can be broadcast to a kernel."""
    while value is not None and (node := value.producer()) is not None:
        value = node.inputs[0]
        if node.op_type in ("Mul", "Div"):
            first, second = (constant_of(v) for v in node.inputs)
            factor = second if second is not None or node.op_type == "Div" else first
            if factor is None:
                return None
            sides = factor.shape[-len(kernel) :]
            fits = all(side in (1, k) for side, k in zip(sides[::-1], kernel[::-1], strict=False))
            if fits and max(sides, default=1) > 1:
                return np.dtype(factor.dtype)
            value = node.inputs[0] if second is not None else node.inputs[1]
        elif node.op_type not in _THROUGH:
            return None
    return None
