"""Layer names: module path, node name or tensor name -> the tensor to cut at."""

from __future__ import annotations

import ast
import difflib
import logging
from collections.abc import Iterable

import onnx_ir as ir

from .errors import LayerError
from .folded import Folds, merged_prefix

log = logging.getLogger(__name__)

_DYNAMO_SCOPES = "pkg.torch.onnx.name_scopes"


def module_paths(node: ir.Node) -> list[str]:
    """The module paths a node lies in, outermost first; empty where the exporter left none.

    torch's exporter records them in the node's metadata (["", "layer3", "layer3.0", "conv2d_7"]); its older one in the
    node's name ("/layer3/layer3.0/conv1/Conv").
    """
    recorded = node.metadata_props.get(_DYNAMO_SCOPES)
    if recorded is not None:
        try:
            scopes = ast.literal_eval(recorded)
        except (ValueError, SyntaxError):
            return []
        return [str(scope) for scope in scopes[:-1] if scope]
    name = node.name or ""
    return _paths_in(name) if name.startswith("/") else []


def _paths_in(name: str) -> list[str]:
    paths: list[str] = []
    for part in name.split("/")[1:-1]:
        outer = f"{paths[-1]}." if paths else ""
        paths.append(part if part.startswith(outer) else outer + part)
    return paths


def module_outputs(graph: ir.Graph) -> dict[str, list[ir.Value]]:
    """Module path -> the tensors computed inside the module and used outside it."""
    found: dict[str, list[ir.Value]] = {}
    inside = {node: dict.fromkeys(module_paths(node)) for node in graph}  # in order, outermost first
    for node, paths in inside.items():
        for value in node.outputs:
            merged = merged_prefix(value)
            for path in paths if merged is None else _paths_in(merged):
                if value.is_graph_output() or any(path not in inside[user] for user, _ in value.uses()):
                    found.setdefault(path, []).append(value)
    return found


def whole_modules(graph: ir.Graph) -> dict[str, ir.Value]:
    """Module path -> the tensor that it gives, of the modules that give one and are there as a whole."""
    folds = Folds(graph, {node: module_paths(node) for node in graph})
    found = {path: values[0] for path, values in module_outputs(graph).items() if len(values) == 1}
    return {p: value for p, value in found.items() if folds.reason(p, value) is None}


def find_layer(graph: ir.Graph, name: str) -> tuple[ir.Value, str | None]:
    """The tensor that `name` stands for: a module path first, then a tensor, then a node.

    Returns:
        The tensor, and what to tell the user where the file does not say whether it is all that the module gives.

    Raises:
        LayerError: Nothing matches (the nearest names are listed), a module has several outputs, or its last operator was merged
            into another.
    """
    modules = module_outputs(graph)
    if name in modules:
        outputs = modules[name]
        if len(outputs) == 1:
            return outputs[0], _whole(graph, name, outputs[0])
        names = ", ".join(repr(str(v.name)) for v in outputs[:5])
        raise LayerError(
            f"the module {name!r} has {len(outputs)} outputs in the graph: split at one of the tensors {names}"
        )
    tensors = {str(v.name): v for node in graph for v in node.outputs}
    if name in tensors:
        return tensors[name], None
    nodes = {str(node.name): node for node in graph}
    if name in nodes:
        if len(nodes[name].outputs) != 1:
            names = ", ".join(repr(str(v.name)) for v in nodes[name].outputs)
            raise LayerError(f"the node {name!r} has several outputs: split at one of {names}")
        return nodes[name].outputs[0], None
    if name in {str(v.name) for v in graph.inputs}:
        raise LayerError(f"{name!r} is the network's input; split at an activation behind it")
    inside = [v for node in graph if name in module_paths(node) for v in node.outputs]
    if inside:
        names = ", ".join(repr(str(v.name)) for v in inside[-5:])
        raise LayerError(
            f"the output of the module {name!r} is no longer in the graph: what is behind it was merged into its convolution; the "
            f"nearest tensors are {names}"
        )
    raise LayerError(no_such_layer(name, [*modules, *tensors, *nodes]))


def _whole(graph: ir.Graph, name: str, value: ir.Value) -> str | None:
    """Refuse a module whose last operator is gone; what to tell of one for which the file does not say."""
    folds = Folds(graph, {node: module_paths(node) for node in graph})
    reason = folds.reason(name, value)
    if reason is not None:
        nearest = dict.fromkeys([value, *(o for node, _ in value.uses() for o in node.outputs)])
        names = ", ".join(repr(str(v.name)) for v in list(nearest)[:5])
        raise LayerError(
            f"the output of the module {name!r} is no longer in the graph: {reason}; the nearest tensors are {names}"
        )
    doubt = folds.doubt(name, value)
    if doubt is not None:
        log.warning("%s", doubt)
    return doubt


def no_such_layer(name: str, known: Iterable[str]) -> str:
    """The message for a name that matches nothing, with the nearest ones."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, 5, cutoff=0.4)
    near += [n for n in names if name and (name in n or n in name) and n not in near][: 5 - len(near)]
    hint = "the nearest are" if near else "nothing is named like it; among others there are"
    offer = ", ".join(map(repr, near or names[:3] + names[-3:]))
    return f"no layer {name!r} in this network; {hint} {offer} (--list-layers shows all)"
