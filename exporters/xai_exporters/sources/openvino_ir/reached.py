"""What nodes of an OpenVINO model read, and what depends on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def before(node: Any) -> list[Any]:
    """The outputs that a node reads, in their order."""
    return [node.input_value(i) for i in range(node.get_input_size())]


def dependents(model: Any, nodes: Iterable[Any]) -> set[str]:
    """The names of all nodes that depend on what some nodes give, without these themselves unless they depend on each other."""
    reached, found = {node.get_name() for node in nodes}, set[str]()
    for node in model.get_ordered_ops():
        if any(value.get_node().get_name() in reached for value in before(node)):
            reached.add(node.get_name())
            found.add(node.get_name())
    return found
