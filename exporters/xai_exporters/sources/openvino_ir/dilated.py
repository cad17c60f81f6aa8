"""SpaceToBatch -> Convolution -> BatchToSpace, as TensorFlow writes a dilated convolution, becomes one Convolution.

SpaceToBatch pads, and takes every b-th row and column as an image of its own. So the dilation is b times that of the convolution
between them, and the pads are those of SpaceToBatch, b times the convolution's, less what BatchToSpace crops. Files of integers
round between the two: what keeps zeros, with which SpaceToBatch pads, may as well come before the pads.
Specification: openvino.ai, operation sets, SpaceToBatch-2, BatchToSpace-2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_ELEMENTWISE = ("Add", "Subtract", "Multiply", "Divide", "Relu", "Clamp", "Sigmoid", "Tanh", "FakeQuantize", "Convert")
_KEEP_ZEROS = ("FakeQuantize", "Convert", "Relu")
"""Between SpaceToBatch and the convolution; FakeQuantize does if its ranges say so."""
Content = Callable[[Any], "NDArray[Any] | None"]


def merge(model: Any, content: Content) -> None:
    """Merge all that a convolution of stride 1 replaces; others stay, and have no rule.

    Args:
        model: An `openvino.Model`; it is changed.
        content: Gives the content of an output, or None if it depends on the image.
    """
    for node in model.get_ordered_ops():
        found = _between(node) if node.get_type_name() == "BatchToSpace" else None
        if found is None:
            continue
        start, before, convolution, after = found
        merged = _merged(start, before, convolution, after, node, content)
        if merged is not None:
            merged.set_friendly_name(convolution.get_friendly_name())
            convolution.output(0).replace(merged.output(0))
            node.output(0).replace(node.input_value(0))
            start.output(0).replace(start.input_value(0))
            model.validate_nodes_and_infer_types()


def _between(end: Any) -> tuple[Any, list[Any], Any, list[Any]] | None:
    """A SpaceToBatch, the nodes after it, a convolution, and the nodes from it to this BatchToSpace; None if anything else is
    between, or reads what is between."""
    chain: list[Any] = [end]
    convolution: Any = None
    after: list[Any] = []
    while True:
        value = chain[-1].input_value(0)
        node, kind = value.get_node(), value.get_node().get_type_name()
        readers = [r.get_node() for r in value.get_target_inputs()]
        if {n.get_name() for n in readers if n.get_type_name() != "ShapeOf"} != {chain[-1].get_name()}:
            return None
        if kind == "SpaceToBatch":
            return None if convolution is None else (node, chain[:0:-1], convolution, after)
        if convolution is None and kind in _CONVOLUTIONS:
            convolution, after, chain = node, chain[:0:-1], [node]
        elif kind == "Transpose" or kind in (_ELEMENTWISE if convolution is None else _KEEP_ZEROS):
            chain.append(node)
        else:
            return None


def _merged(start: Any, before: list[Any], convolution: Any, after: list[Any], end: Any, content: Content) -> Any:
    """The convolution in place of all; None if none is equal."""
    numbers = [content(node.input_value(i)) for node in (start, end) for i in (1, 2, 3)]
    if any(array is None for array in numbers):
        return None
    sizes = [np.asarray(array).astype(np.int64).ravel() for array in numbers]
    order = np.arange(sizes[0].size)  # of the convolution's axes among those of the SpaceToBatch
    for node in before:
        if node.get_type_name() == "Transpose":
            order = order[np.asarray(content(node.input_value(1)))]
        elif _differs_within(node, sizes[0][order], content):
            return None
    block, *pads = (array[order] for array in sizes[:3])
    order = np.arange(block.size)  # of the present axes among those of the convolution
    for node in after:
        if node.get_type_name() == "Transpose":
            order = order[np.asarray(content(node.input_value(1)))]
        elif _differs_within(node, block[order], content):
            return None
    last, *crops = (array[np.argsort(order)] for array in sizes[3:])
    attributes = convolution.get_attributes()
    own = [np.array(attributes[name]) for name in ("pads_begin", "pads_end")]
    same = str(attributes["auto_pad"]).lower().startswith("same")
    if same or (block != last).any() or (block[:2] != 1).any() or set(attributes["strides"]) != {1}:
        return None
    pads = [pad[2:] + block[2:] * part - crop[2:] for pad, part, crop in zip(pads, own, crops, strict=True)]
    if min(map(min, pads)) < 0:
        return None
    if max(map(max, pads)) > 0 and not all(_keeps_zero(node, content) for node in before):
        return None
    op = runtimes.openvino().opset13
    function = op.convolution if convolution.get_type_name() == "Convolution" else op.group_convolution
    inputs = convolution.input_value(0), convolution.input_value(1)
    count = block.size - 2
    # its input is still cut into blocks, which the dilated kernel may exceed: sizes are checked when the graph is whole again
    merged = function(*inputs, [1] * count, [0] * count, [0] * count, [1] * count, "explicit")
    dilations = block[2:] * np.array(attributes["dilations"])
    for name, values in (("dilations", dilations), ("pads_begin", pads[0]), ("pads_end", pads[1])):
        merged.set_attribute(name, values.tolist())
    return merged


def _differs_within(node: Any, block: NDArray[np.int64], content: Content) -> bool:
    """Whether an operand beside the first differs between the positions of a block, or depends on the image."""
    return any(_varies(content(node.input_value(i)), block) for i in range(1, node.get_input_size()))


def _keeps_zero(node: Any, content: Content) -> bool:
    """Whether a node gives 0 for 0, as FakeQuantize does if 0 is one of its levels (FakeQuantize-1)."""
    if node.get_type_name() != "FakeQuantize":
        return True
    low, high, out_low, out_high = (np.asarray(content(node.input_value(i)), np.float64) for i in (1, 2, 3, 4))
    steps = node.get_attributes()["levels"] - 1
    level = np.round(np.clip((0 - low) / (high - low), 0, 1) * steps) / steps
    return bool((np.abs(level * (out_high - out_low) + out_low) <= 1e-6 * np.abs(out_high - out_low)).all())


def _varies(other: NDArray[Any] | None, block: NDArray[np.int64]) -> bool:
    """Whether an operand differs between the positions of a block, or depends on the image."""
    if other is None:
        return True
    shape = (1,) * (block.size - other.ndim) + other.shape
    return any(size > 1 and step > 1 for size, step in zip(shape, block, strict=True))
