"""Suppressions inside a graph: what they choose from becomes an output, so that gradients reach it.

The list that a suppression gives has another length for each image. What is given are the last tensors before it that have a row
for each anchor, [N,R,E] or [N,E,R]: a detector's decoder recognises them (`cut/scores/detectors`). NonMaxSuppression's own list
stays beside them, and is read if no decoder does. MulticlassNms and MatrixNms (PaddleDetection's) have no equal in ONNX: their
lists are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .reached import reads

_WITH_RULE = "NonMaxSuppression"
_KINDS = (_WITH_RULE, "MulticlassNms", "MatrixNms")
_MOVING = ("Convert", "Gather", "Slice", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze", "VariadicSplit")
LEFT_OUT = ["xai", "suppression_left_out"]
"""Where a model without its list says so, in its rt_info: the suppression's type."""


def add_what_is_chosen_from(model: Any) -> None:
    """Add the tensors that suppressions choose from as outputs, and leave lists out that no rule writes.

    Args:
        model: An `openvino.Model`; it is changed.
    """
    images = [port.get_partial_shape() for port in model.inputs if port.get_partial_shape().rank == 4]
    choosing = [node for node in model.get_ordered_ops() if node.get_type_name() in _KINDS]
    if not choosing or not images:
        return
    given = {_key(port.get_node().input_value(0)) for port in model.outputs}
    found: dict[tuple[str, int], Any] = {}
    for node in choosing:
        for start in (node.input_value(0), node.input_value(1)):
            found |= {_key(value): value for value in _rows_before(start, images[0][0])}
    new = [value for key, value in found.items() if key not in given]
    for i, port in enumerate(model.add_outputs(new) if new else ()):
        if not port.get_names():
            port.get_tensor().set_names({f"before_suppression_{i}"})
    without = [node for node in choosing if node.get_type_name() != _WITH_RULE]
    if found and without:
        for result in model.get_results():
            if any(reads(result, node) for node in without):
                model.remove_result(result)
        model.set_rt_info(without[0].get_type_name(), LEFT_OUT)
    model.validate_nodes_and_infer_types()


def _rows_before(start: Any, batch: Any) -> Iterator[Any]:
    """The nearest tensors on the way back that hold rows; behind operators that only move their numbers, if there are any."""
    pending, seen = [start], {_key(start)}
    for value in pending:
        if _holds_rows(value, batch):
            yield _behind(value, batch)
            continue
        node = value.get_node()
        before = [node.input_value(i) for i in range(node.get_input_size())]
        pending += [one for one in before if _key(one) not in seen]
        seen |= {_key(one) for one in before}


def _behind(value: Any, batch: Any) -> Any:
    while value.get_node().get_type_name() in _MOVING and _holds_rows(source := value.get_node().input_value(0), batch):
        value = source
    return value


def _holds_rows(value: Any, batch: Any) -> bool:
    shape = value.get_partial_shape()
    if not shape.rank.is_static or len(shape) != 3 or not value.get_element_type().is_real():
        return False
    fixed = shape[0] == batch and shape[1].is_static and shape[2].is_static
    return bool(fixed) and value.get_node().get_type_name() != "Parameter"


def _key(value: Any) -> tuple[str, int]:
    return value.get_node().get_name(), value.get_index()
