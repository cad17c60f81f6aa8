"""Suppressions inside a graph: what they choose from becomes an output, so that gradients reach it.

The list that a suppression gives has another length for each image. What is given are the last tensors before it that have a row
for each anchor, [N,R,E] or [N,E,R]: a detector's decoder recognises them (`cut/scores/detectors`). NonMaxSuppression's own list
stays beside them, and is read if no decoder does. MulticlassNms and MatrixNms (PaddleDetection's) have no equal in ONNX: their
lists are left out.

The proposals of a detector of two stages are not what it finds: a suppression that layers follow is left as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .reached import before, dependents

_WITH_RULE = "NonMaxSuppression"
_KINDS = (_WITH_RULE, "MulticlassNms", "MatrixNms")
_MOVING = ("Convert", "Gather", "Slice", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze", "VariadicSplit")
_LAYERS = (
    "Convolution",
    "GroupConvolution",
    "MatMul",
    "ROIAlign",
    "ROIPooling",
    "PSROIPooling",
    "DeformableConvolution",
)
LEFT_OUT = ["xai", "suppression_left_out"]
"""Where a model without its list says so, in its rt_info: the suppression's type."""
BACKGROUND = ["xai", "background"]
"""Where it says which class the suppression took for "no object"; negative: none."""
_COMPUTING = ("Add", "Subtract", "Multiply", "Divide")


def add_what_is_chosen_from(model: Any) -> None:
    """Add the tensors that suppressions choose from as outputs, and leave lists out that no rule writes.

    Args:
        model: An `openvino.Model`; it is changed.
    """
    images = [port.get_partial_shape() for port in model.inputs if port.get_partial_shape().rank == 4]
    choosing = [node for node in model.get_ordered_ops() if node.get_type_name() in _KINDS]
    after = dependents(model, choosing)
    layers = {node.get_name() for node in model.get_ordered_ops() if node.get_type_name() in (*_LAYERS, *_KINDS)}
    if not choosing or not images or after & layers:
        return
    given = {_key(port.get_node().input_value(0)) for port in model.outputs}
    found: dict[tuple[str, int], Any] = {}
    for node in choosing:
        boxes, scores = (_rows_before(node.input_value(i), images[0][0]) for i in (0, 1))
        if not boxes or not scores:
            return
        found |= {_key(value): value for value in (*boxes, *scores)}
    new = [value for key, value in found.items() if key not in given]
    for i, port in enumerate(model.add_outputs(new) if new else ()):
        if not port.get_names():
            port.get_tensor().set_names({f"before_suppression_{i}"})
    without = [node for node in choosing if node.get_type_name() != _WITH_RULE]
    lists = dependents(model, without)
    for result in model.get_results():
        if result.get_name() in lists:
            model.remove_result(result)
    if without:
        model.set_rt_info(without[0].get_type_name(), LEFT_OUT)
        model.set_rt_info(str(without[0].get_attributes()["background_class"]), BACKGROUND)
    model.validate_nodes_and_infer_types()


def _rows_before(start: Any, batch: Any) -> list[Any]:
    """The nearest tensors on the way back that hold rows, before any layer and before operators that only move their numbers.

    There are none if constants for each row meet them afterwards: distances from anchors are no boxes yet.
    """
    found, pending, seen = [], [start], {_key(start)}
    for value in pending:
        if _holds_rows(value, batch):
            found.append(_unmoved(value, batch))
        elif value.get_node().get_type_name() not in _LAYERS:
            if _meets_anchors(value.get_node()):
                return []
            own = [one for one in before(value.get_node()) if _key(one) not in seen]
            pending += own
            seen.update(map(_key, own))
    return found


def _meets_anchors(node: Any) -> bool:
    """Whether numbers of rows meet constants of more than one row's four coordinates."""
    if node.get_type_name() not in _COMPUTING:
        return False
    for i in range(node.get_input_size()):
        value = node.input_value(i)
        while value.get_node().get_type_name() == "Convert":
            value = value.get_node().input_value(0)
        if value.get_node().get_type_name() == "Constant" and value.get_shape() and int(np.prod(value.get_shape())) > 4:
            return True
    return False


def _unmoved(value: Any, batch: Any) -> Any:
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
