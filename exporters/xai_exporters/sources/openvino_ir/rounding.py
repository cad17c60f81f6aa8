"""A quantised graph without its rounding, and each of its roundings alone.

Both can be compared closely with their translations. The graph as a whole can't: two correct runs round a value near the middle
between two codes to different ones, and the networks after it make much of that step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes

_DROPPED = 2**16
"""OpenVINO 2026.4 drops FakeQuantize of so many levels when it compiles, with its range: nothing saturates."""
_POINTS = np.linspace(-0.1003, 1.1007, 1021)
"""Where a rounding is tried, as parts of its range: beyond both ends, and hardly ever in the middle between two codes."""


def roundings(model: Any) -> tuple[Any, list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Every FakeQuantize of fixed ranges in a model of its own, one input and one output each.

    Returns:
        The model, and for each FakeQuantize the values to try and the step between two of its results.
    """
    ov = runtimes.openvino()
    op = ov.opset13
    parameters, results, values, steps = [], [], [], []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        constants = [node.input_value(i).get_node() for i in range(1, 5)]
        if any(constant.get_type_name() != "Constant" for constant in constants):
            continue
        levels, arrays = (
            int(node.get_attributes()["levels"]),
            [np.array(constant.get_data(), np.float32) for constant in constants],
        )
        rank = max(len(node.get_input_partial_shape(0)), *(array.ndim for array in arrays))
        low, high, out_low, out_high = _of_rank(arrays, rank)
        # the points lie along a dimension in which all have one range, or along one more in front
        free = next((i for i, size in enumerate(low.shape) if size == 1), None)
        if free is None:
            low, high, out_low, out_high = (array[None] for array in (low, high, out_low, out_high))
        along = _POINTS.reshape([-1 if i == (free or 0) else 1 for i in range(low.ndim)])
        values.append((low + along * (high - low)).astype(np.float32))
        steps.append(((out_high - out_low) / (levels - 1)).astype(np.float32))
        parameters.append(op.parameter(list(values[-1].shape), np.float32))
        fake = op.fake_quantize(parameters[-1], *(op.constant(array) for array in arrays), levels)
        fake.set_friendly_name(node.get_friendly_name())
        results.append(fake)
    return ov.Model(results, parameters, "roundings"), values, steps


def _of_rank(arrays: Sequence[NDArray[np.float32]], rank: int) -> Iterator[NDArray[np.float32]]:
    """Arrays in their common shape, with 1s in front."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    for array in arrays:
        yield np.broadcast_to(array, shape).reshape((1,) * (rank - len(shape)) + shape)


def remove(model: Any) -> None:
    """Replace each FakeQuantize by the line through its ends, y = (x - il) (oh - ol) / (ih - il) + ol, and leave out conversions
    of the codes to integers."""
    op = runtimes.openvino().opset13
    lines: set[str] = set()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            x, low, high, out_low, out_high = (node.input_value(i) for i in range(5))
            slope = op.divide(op.subtract(out_high, out_low), op.subtract(high, low))
            line = op.add(op.multiply(op.subtract(x, low), slope), out_low)
            line.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(line.output(0))
            lines.add(line.get_name())
        codes = node.get_type_name() == "Convert" and not node.get_output_element_type(0).is_real()
        if codes and node.input_value(0).get_node().get_name() in lines:
            node.output(0).replace(node.input_value(0))
    model.validate_nodes_and_infer_types()


def drops(model: Any) -> bool:
    """Whether OpenVINO leaves roundings of a model out."""
    return any(_dropped(node) for node in model.get_ops())


def write_out(model: Any) -> None:
    """Write the FakeQuantize that OpenVINO drops as they are defined: y = round((clip(x, il, ih) - il) / s) s' + ol."""
    op = runtimes.openvino().opset13
    for node in model.get_ordered_ops():
        if not _dropped(node):
            continue
        x, low, high, out_low, out_high = (node.input_value(i) for i in range(5))
        most = op.constant(np.float32(_DROPPED - 1))
        codes = op.divide(
            op.subtract(op.minimum(op.maximum(x, low), high), low), op.divide(op.subtract(high, low), most)
        )
        step = op.divide(op.subtract(out_high, out_low), most)
        y = op.add(op.multiply(op.round(codes, "half_to_even"), step), out_low)
        y.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(y.output(0))
    model.validate_nodes_and_infer_types()


def _dropped(node: Any) -> bool:
    return bool(node.get_type_name() == "FakeQuantize" and node.get_attributes()["levels"] == _DROPPED)
