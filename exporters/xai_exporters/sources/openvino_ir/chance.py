"""Random draws that decide nothing: TensorFlow's dropout stays in a frozen graph, and keeps everything if its rate is 0.

It computes floor(keep + u) or u >= rate for u of [0, 1). If the comparison or the rounding gives one result for the whole range,
that result takes its place. The steps before it are monotone in u, so both ends of the range decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes

_LARGEST = np.float32(1 - 2**-23)
"""What TensorFlow and OpenVINO draw at most from [0, 1): a float of [1, 2), less 1."""
Content = Callable[[Any], "NDArray[Any] | None"]
_STEPS: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.divide, "Identity": np.positive,
}  # fmt: skip
_DECISIONS: dict[str, Callable[..., Any]] = {
    "Floor": np.floor, "Ceiling": np.ceil, "Greater": np.greater, "GreaterEqual": np.greater_equal, "Less": np.less,
    "LessEqual": np.less_equal,
}  # fmt: skip


def settle(model: Any, content: Content) -> None:
    """Replace what draws decide if they can't decide otherwise.

    Args:
        model: An `openvino.Model`; it is changed.
        content: Gives the content of an output, or None if it depends on the image.
    """
    op = runtimes.openvino().opset13
    for node in model.get_ordered_ops():
        if node.get_type_name() != "RandomUniform":
            continue
        ends = [content(node.input_value(i)) for i in (1, 2)]
        if any(end is None or end.size != 1 or end.dtype.kind != "f" for end in ends):
            continue
        low, high = (np.float32(end.item()) for end in ends if end is not None)
        for output, results in _decided(node.output(0), [low, low + (high - low) * _LARGEST], content):
            if results[0] == results[1]:
                output.replace(op.constant(results[0], output.get_element_type()).output(0))
                model.validate_nodes_and_infer_types()


def _decided(output: Any, ends: list[Any], content: Content) -> Iterator[tuple[Any, list[Any]]]:
    """What follows from a draw: the outputs of comparisons and roundings, and what they give at both ends of its range."""
    for reader in list(output.get_target_inputs()):
        node = reader.get_node()
        kind, place = node.get_type_name(), reader.get_index()
        function = _STEPS.get(kind) or _DECISIONS.get(kind)
        others = [content(node.input_value(i)) for i in range(node.get_input_size()) if i != place]
        if function is None or (kind == "Divide" and place == 1) or any(o is None or o.size != 1 for o in others):
            continue
        numbers = [np.float32(other.item()) for other in others if other is not None]
        results = [function(*numbers[:place], end, *numbers[place:]) for end in ends]
        if kind in _DECISIONS:
            yield node.output(0), results
        else:
            yield from _decided(node.output(0), results, content)
