"""The modules that a graph's nodes come from, found in the names that exporters leave."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable

import onnx_ir as ir

from .folded import Folds, merged_prefix

_DYNAMO_SCOPES = "pkg.torch.onnx.name_scopes"


def module_paths(node: ir.Node) -> list[str]:
    """The module paths a node lies in, outermost first; empty if the exporter left none.

    torch's exporter records them in the node's metadata (["", "layer3", "layer3.0", "conv2d_7"]). Its older exporter records
    them in the node's name ("/layer3/layer3.0/conv1/Conv").
    """
    recorded = node.metadata_props.get(_DYNAMO_SCOPES)
    if recorded is not None:
        try:
            scopes = ast.literal_eval(recorded)
        except (ValueError, SyntaxError):
            return []
        return [str(scope) for scope in scopes[:-1] if scope]  # the last entry is the call, "" the whole network
    name = node.name or ""
    return _paths_in(name) if name.startswith("/") else []


def _paths_in(name: str) -> list[str]:
    """["layer3", "layer3.0", "layer3.0.conv1"] for "/layer3/layer3.0/conv1/Conv".

    Within a container (Sequential), a part repeats the container's own name, without what lies around it:
    "/net/head/head.0/Conv" is "net.head.0".
    """
    paths: list[str] = []
    own = around = ""
    for part in name.split("/")[1:-1]:
        if not own or not part.startswith(f"{own}."):
            around = f"{paths[-1]}." if paths else ""
        paths.append(around + part)
        own = part
    return paths


def module_outputs(graph: ir.Graph) -> dict[str, list[ir.Value]]:
    """Module path -> the tensors computed inside the module and used outside it."""
    outputs: dict[str, list[ir.Value]] = {}
    inside = {node: dict.fromkeys(module_paths(node)) for node in graph}  # in order, outermost first
    for node, paths in inside.items():
        for value in node.outputs:
            merged = merged_prefix(value)  # then the value belongs to the module of the merged operator
            for path in paths if merged is None else _paths_in(merged):
                if value.is_graph_output() or any(path not in inside[user] for user, _ in value.uses()):
                    outputs.setdefault(path, []).append(value)
    return outputs


def whole_modules(graph: ir.Graph) -> dict[str, ir.Value]:
    """Module path -> its output, for modules that have one output and lost no operator to a merge."""
    folds = Folds(graph, {node: module_paths(node) for node in graph})
    single = {path: values[0] for path, values in module_outputs(graph).items() if len(values) == 1}
    return {p: value for p, value in single.items() if folds.reason(p, value) is None}


def no_such_layer(name: str, known: Iterable[str]) -> str:
    """The message for a name that matches nothing, with the nearest ones."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, 5, cutoff=0.4)
    near += [n for n in names if name and (name in n or n in name) and n not in near][: 5 - len(near)]
    hint = "the nearest are" if near else "nothing is named like it; among others there are"
    offer = ", ".join(map(repr, near or names[:3] + names[-3:]))
    return f"no layer {name!r} in this network; {hint} {offer} (--list-layers shows all)"
