"""Modules of an ONNX file whose last operators the exporter merged into others: what the graph holds is not what they give.

torch's exporter records at each node the call that it stands for, "%clamp : ... args = (%relu_1, 1e-06)". A node that reads a
tensor under which its call does not know it (it reads `conv2d_1`, the call read `relu_1`) has taken in what came between. The
older exporter leaves a sign at convolutions alone: weight and bias that were computed anew have no names of the network's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping

import onnx_ir as ir

_CALL = "pkg.torch.onnx.fx_node"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SCOPES = "pkg.torch.onnx.name_scopes"
_SAME_VALUE = re.compile(
    r"(getitem|dropout|clone|alias|detach|contiguous|_to_copy|to|lift_fresh_copy|sym_\w+|[pbc]_\w+)(_\d+)?"
)
_COMPUTED = re.compile(r"onnx::Conv_\d+")


class Folds:
    """What was merged in a graph; asked for one module after the other."""

    def __init__(self, graph: ir.Graph, modules: Mapping[ir.Node, Collection[str]]) -> None:
        """`modules` are the module paths that each node lies in."""
        self._modules = modules
        self._known = {str(v.name) for v in (*graph.inputs, *graph.initializers.values())}
        for node in graph:
            self._known.update(str(v.name) for v in node.outputs)
            self._known.add(_last_scope(node))

    def reason(self, path: str, value: ir.Value) -> str | None:
        """Why `value`, the one output of the module `path`, may not be what the module gives; None where nothing says so.

        Args:
            path: The module's.
            value: The tensor.
        """
        producer = value.producer()
        if producer is None:
            return None
        if _merged_by_older_exporter(path, producer):
            return f"the BatchNormalization behind it was merged into its convolution, {str(value.name)!r}"
        if _one_operator(path, producer):
            return None
        for user, _ in value.uses():
            if path not in self._modules[user] and (taken := self._taken_in(user, value, producer, path)):
                return (
                    f"{', '.join(map(repr, taken))}, which may be its last operator, was merged into {str(user.outputs[0].name)!r} "
                    f"({user.op_type})"
                )
        return None

    def _taken_in(self, user: ir.Node, value: ir.Value, producer: ir.Node, path: str) -> list[str]:
        """The operators between a tensor and the node that reads it, by the node's record."""
        read = calls(user)
        if not read or {str(value.name), _last_scope(producer)} & set(read):
            return []
        taken = [name for name in read if name not in self._known and not _SAME_VALUE.fullmatch(name)]
        weight = user.inputs[1] if len(user.inputs) > 1 else None
        owner, dot, _ = str(weight.name if weight is not None else "").rpartition(".")
        if (
            user.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
            and dot
            and not f"{owner}.".startswith(f"{path}.")
        ):
            return []  # the convolution that a BatchNormalization was merged into, of another module
        return taken


def calls(node: ir.Node) -> list[str]:
    """What the recorded call of a node reads; empty where none is recorded."""
    _, found, arguments = str(node.metadata_props.get(_CALL, "")).partition("args = ")
    return re.findall(r"%(\w+)", arguments) if found else []


def _last_scope(node: ir.Node) -> str:
    scopes = _listed(node, _SCOPES)
    return scopes[-1] if scopes else ""


def _listed(node: ir.Node, key: str) -> list[str]:
    try:
        return [str(entry) for entry in ast.literal_eval(node.metadata_props.get(key, "[]"))]
    except (ValueError, SyntaxError, TypeError):
        return []


def _one_operator(path: str, producer: ir.Node) -> bool:
    """Whether the module is a layer of torch's own: its operator is there."""
    scopes, classes = _listed(producer, _SCOPES), _listed(producer, _CLASSES)
    if path not in scopes or len(classes) != len(scopes):
        return False
    kind = classes[scopes.index(path)]
    return kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container.")


def _merged_by_older_exporter(path: str, node: ir.Node) -> bool:
    if node.op_type != "Conv" or len(node.inputs) < 3 or not (node.name or "").startswith("/"):
        return False
    own = (node.name or "").split("/")[-2] in (path, path.rpartition(".")[2])
    return own and all(v is not None and _COMPUTED.fullmatch(str(v.name)) is not None for v in node.inputs[1:3])
