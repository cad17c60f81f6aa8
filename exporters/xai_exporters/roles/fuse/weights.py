"""Weights that several copies of a graph share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir


def shared_initializer(graph: ir.Graph, unique: Callable[[str], str], value: ir.Value) -> ir.Value:
    """A graph's initializer with the name and content of another graph's: the one that it has, or a new one.

    Args:
        graph: The graph.
        unique: Gives a free name for a name.
        value: The other graph's initializer.
    """
    assert value.const_value is not None
    name, tensor = str(value.name), value.const_value
    here = graph.initializers.get(name)  # shared if it is the same; else the new one gets a free name
    if here is not None and here.const_value is not None and _same(here.const_value, tensor):
        return here
    free = unique(name)
    tensor = tensor if free == name else ir.tensor(tensor.numpy(), name=free)
    new = ir.Value(name=free, shape=value.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(new)
    return new


def _same(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    if one is other:
        return True
    return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one.numpy(), other.numpy())
