"""NonMaxSuppression inside a graph: what it chooses from becomes an output beside the list, so that gradients reach it.

The list that it gives has another length for each image. What is given are the last tensors before it that have a row for each
anchor, [N,R,E] or [N,E,R]: a detector's decoder recognises them (`cut/scores/detectors`), or else the list is read as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KIND = "NonMaxSuppression"
_MOVING = ("Convert", "Gather", "Slice", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze", "VariadicSplit")


def add_what_is_chosen_from(model: Any) -> None:
    """Add the tensors that suppressions choose from as outputs.

    Args:
        model: An `openvino.Model` of one image input; it is changed.
    """
    if len(model.inputs) != 1 or not model.inputs[0].get_partial_shape().rank.is_static:
        return
    batch = model.inputs[0].get_partial_shape()[0]
    given = {_key(port.get_node().input_value(0)) for port in model.outputs}
    found: dict[tuple[str, int], Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == _KIND:
            for start in (node.input_value(0), node.input_value(1)):
                found |= {_key(value): value for value in _rows_before(start, batch)}
    new = [value for key, value in found.items() if key not in given]
    for i, port in enumerate(model.add_outputs(new) if new else ()):
        if not port.get_names():
            port.get_tensor().set_names({f"before_suppression_{i}"})
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
