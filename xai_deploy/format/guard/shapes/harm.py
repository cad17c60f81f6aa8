"""Nodes on which runtimes crash, whatever their sizes: divisions that processors trap, positions beyond the end, endless sampling.

Observed: ONNX Runtime and OpenVINO die of SIGFPE at INT_MIN / -1; OpenVINO of SIGSEGV at GatherND's positions out of range, at
TopK's k above the size, at axes of CumSum and Unique that do not exist, at lengths of DFT below 1, at weights of an LSTM that
are too small, and hangs at huge windows; both allocate without end for RoiAlign's samples. Positions that depend on the image
can't be checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages import Node, ParsedGraph, Tensor
from .rules import Call, Harmful, Known

_FLOATS = (1, 10, 11, 16, 17, 18, 19, 20, 23, 24)  # TensorProto.DataType
_MOST_SAMPLES = 64
_LARGE_WINDOW = 64
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_WHOLE = (
    "Shape",
    "Size",
    "ArgMax",
    "ArgMin",
    "NonZero",
    "NonMaxSuppression",
    "ConvInteger",
    "MatMulInteger",
    "QuantizeLinear",
)
_LIKE = {"Where": 1, "CastLike": 1, "OneHot": 2}  # the input whose type the outputs have; for others it is the first


def integers(graph: ParsedGraph) -> set[str]:
    """The names of the tensors that hold whole numbers."""
    names = {tensor.name for tensor in graph.tensors if tensor.dtype not in _FLOATS}
    names |= {port.name for port in graph.inputs if port.dtype not in _FLOATS}
    for node in graph.nodes:
        if _is_whole(node, names):
            names.update(node.outputs)
        elif node.op in ("TopK", "Unique", "MaxPool"):  # their further outputs are positions or counts
            names.update(node.outputs[1:])
    return names


def _is_whole(node: Node, names: set[str]) -> bool:
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        return value.dtype not in _FLOATS
    if node.op in ("Constant", "ConstantOfShape"):
        return any(name in node.attributes for name in ("value_int", "value_ints"))
    if node.op in ("Cast", "EyeLike") and ("to" in node.attributes or "dtype" in node.attributes):
        return node.attributes.get("to", node.attributes.get("dtype")) not in _FLOATS
    if node.op == "DequantizeLinear":
        return False
    index = _LIKE.get(node.op, 0)
    return node.op in _WHOLE or (index < len(node.inputs) and node.inputs[index] in names)


def check_division(call: Call, whole: set[str]) -> None:
    """Refuse a division of whole numbers by 0, by -1, or by values that are unknown before the graph runs.

    Raises:
        Harmful: The node is such a division.
    """
    if call.node.op not in ("Div", "Mod") or not whole.intersection(call.node.inputs):
        return
    divisor = call[1].values
    if divisor is None or not (divisor.all() and (divisor.dtype.kind == "u" or (divisor != -1).all())):
        raise Harmful(f"{call.node} divides integers by 0, by -1, or by a value that is not known before it runs")


def check_positions(call: Call) -> None:
    """Refuse constant positions that lie outside the tensor that they index.

    Raises:
        Harmful: A position lies outside.
    """
    if call.node.op in ("GatherElements", "ScatterElements", "Scatter"):
        x, axis = call[0], call.axis(call.number("axis", 0), len(call[0].shape))
        _within(call, call[1], np.array(x.shape[axis]))
    elif call.node.op in ("GatherND", "ScatterND"):
        x, indices = call[0], call[1]
        batch, depth = call.number("batch_dims", 0), indices.shape[-1] if indices.shape else 0
        # The last axis of the indices runs over the axes that they index, and is broadcast against their sizes.
        _within(call, indices, np.array(x.shape[batch : batch + depth]))


def _within(call: Call, indices: Known, sizes: NDArray[Any]) -> None:
    if indices.values is None:
        low, high = indices.bounds or (None, None)
        if low is not None and high is not None and ((high < sizes) & (low >= -sizes)).all():
            return
        if indices.constant:
            many = f"{call.node} has too many constant positions to check"
            raise Harmful(f"{many} (compute the file's constants first, as torch.onnx.export does with dynamo=True)")
    elif indices.values.size and not ((indices.values < sizes) & (indices.values >= -sizes)).all():
        raise Harmful(f"{call.node} has positions outside of {sizes.tolist()}")


def check_counts(call: Call) -> None:
    """Refuse a TopK whose k is above the size, and a RoiAlign whose number of samples is large or depends on the image.

    Raises:
        Harmful: The node is one of these.
    """
    if call.node.op == "TopK":
        axis = call.axis(call.number("axis", -1), len(call[0].shape))
        k = [call.number("k", 0)] if call.opset < 10 else call.values(1) or [-1]
        if not 0 <= k[0] <= call[0].shape[axis]:
            raise Harmful(f"{call.node} takes the best {k[0]} of {call[0].shape[axis]}")
    elif call.node.op == "RoiAlign":
        if (samples := _samples(call)) is None:
            raise Harmful(
                f"{call.node} takes as many samples as its regions are long (sampling_ratio 0), and these are not known before it "
                f"runs; 1 to {_MOST_SAMPLES} are allowed: export it with such a sampling_ratio"
            )
        if not 1 <= samples <= _MOST_SAMPLES:
            raise Harmful(f"{call.node} takes {samples} samples; 1 to {_MOST_SAMPLES} are allowed")


def _samples(call: Call) -> int | None:
    """How many samples RoiAlign takes for each bin along an axis; None if its regions decide it, and are not known.

    With a ratio of 0 they are as many as a bin of the longest region is pixels long.
    """
    ratio = call.number("sampling_ratio", 0)
    if ratio:
        return ratio
    regions = call[1].values
    if regions is None or not np.isfinite(regions).all():
        return None
    scale = call.node.attributes.get("spatial_scale", 1.0)
    if not isinstance(scale, float):
        return None
    sizes = np.maximum(np.abs(regions[:, 2:] - regions[:, :2]).max(axis=0, initial=0), 1) * scale
    bins = np.array([call.number("output_width", 1), call.number("output_height", 1)])
    return int(min(np.ceil(np.abs(sizes) / np.maximum(bins, 1)).max(), 1 << 31)) or 1


def check_axis(call: Call) -> None:
    """Refuse axes that do not exist, and lengths below 1, because OpenVINO does not check them.

    Raises:
        Harmful, Unknowable: The node has such an axis or length.
    """
    rank = len(call[0].shape)
    if call.node.op in ("CumSum", "CumProd"):
        for axis in call.values(1) or []:
            call.axis(axis, rank)
    elif call.node.op == "Unique" and "axis" in call.node.attributes:
        call.axis(call.number("axis", 0), rank)
    elif call.node.op == "DFT" and any(length < 1 for length in call.values(1) or []):
        raise Harmful(f"{call.node} has a length below 1")


def check_window(call: Call) -> None:
    """Refuse a pooling or an LRN whose window is far larger than its input: OpenVINO walks over all of a pooling's window, and ONNX
    Runtime takes memory for all of an LRN's.

    Raises:
        Harmful: The window is that large.
    """
    if call.node.op == "LRN" and call.number("size", 1) > 2 * call[0].shape[1] + 1:
        raise Harmful(
            f"{call.node} has a window of {call.number('size', 1)} channels for an input {list(call[0].shape)}"
        )
    if call.node.op in ("AveragePool", "MaxPool", "LpPool"):
        kernel = call.ints("kernel_shape") or []
        for size, k in zip(call[0].shape[2:], kernel, strict=False):
            if k < 1 or k > max(_LARGE_WINDOW, 2 * size):
                raise Harmful(f"{call.node} has a window of {kernel} for an input {list(call[0].shape)}")


def check_recurrent(call: Call) -> None:
    """Refuse recurrent layers whose weights do not have the sizes that follow from the hidden size.

    Raises:
        Harmful: The weights have other sizes.
    """
    gates = _GATES.get(call.node.op)
    if gates is None:
        return
    x, w, r, b = call[0], call[1], call[2], call.get(3)
    directions = 2 if call.text("direction", b"forward") == b"bidirectional" else 1
    hidden = call.number("hidden_size", r.shape[-1] if r.shape else 0)
    rows = gates * hidden
    # W [directions, rows, input], R [directions, rows, hidden], B [directions, 2 * rows]
    fits = (w.shape, r.shape) == ((directions, rows, x.shape[-1]), (directions, rows, hidden))
    if not fits or (b is not None and b.shape != (directions, 2 * rows)):
        raise Harmful(f"{call.node} has weights {list(w.shape)} and {list(r.shape)} for a hidden size of {hidden}")


def check_harm(call: Call, whole: set[str], windows: bool = True) -> None:
    """Do all checks of this file.

    Args:
        call: The node.
        whole: The tensors that hold integers.
        windows: Also check poolings' windows.

    Raises:
        Harmful: The node would do harm.
    """
    check_division(call, whole)
    check_positions(call)
    check_counts(call)
    if call.given():  # the checks below read the first input
        check_axis(call)
        if windows:
            check_window(call)
        check_recurrent(call)
