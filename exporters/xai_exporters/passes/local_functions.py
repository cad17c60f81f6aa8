"""Write a file's own functions out where they are called.

An attribute that a call leaves out has the function's default (`attribute_proto`). ONNX's inliner drops it, and the operators
inside take their own: LeakyRelu's 0.01, say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
import onnx.inliner

_Key = tuple[str, str, str]


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    defaults = {(f.domain, f.name, f.overload): list(f.attribute_proto) for f in whole.functions if f.attribute_proto}
    if defaults:
        _give(whole.graph.node, defaults)
        for function in whole.functions:
            _give(function.node, defaults)
    return onnx.inliner.inline_local_functions(whole, convert_version=True)


def _give(nodes: Iterable[onnx.NodeProto], defaults: Mapping[_Key, list[onnx.AttributeProto]]) -> None:
    """Write the defaults at each call, in branches and loops too."""
    for node in nodes:
        given = {attribute.name for attribute in node.attribute}
        missing = defaults.get((node.domain, node.op_type, node.overload), [])
        node.attribute.extend(default for default in missing if default.name not in given)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _give(graph.node, defaults)
