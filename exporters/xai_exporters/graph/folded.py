"""Modules of an ONNX file whose last operators were merged into others, so that the graph no longer holds their outputs.

torch's exporter records at each node the call that it stands for, "%clamp : ... args = (%relu_1, 1e-06)". If the node reads
`conv2d_1` and its recorded call reads `relu_1`, the operators between these two tensors were merged into the node. The older
exporter, and tools that optimise a file, leave a sign at convolutions only: a weight and a bias that were computed do not have the
names of the module's own parameters, and the result may have the name of the merged operator. ONNX Runtime leaves its mark on the
whole file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from .reading import constant_of

_CALL = "pkg.torch.onnx.fx_node"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_SCOPES = "pkg.torch.onnx.name_scopes"
_SAME_VALUE = re.compile(
    r"(getitem|dropout|clone|alias|detach|contiguous|_to_copy|to|lift_fresh_copy|sym_\w+|[pbc]_\w+)(_\d+)?"
)
"""Calls that leave a tensor's values as they are, sizes (`sym_`), and torch.export's parameters, buffers, constants (`p_` ...)."""
_MERGED = re.compile(r"(.*/)(BatchNormalization|Add|Sub|Mul|Div)(_\d+)?_output_\d+")
"""The results of operators that can be merged into the convolution before them, as the older exporter names them."""
_COMPUTED = re.compile(r"(onnx::\w+_\d+|_v_\d+|\d+|Conv\w+Fusion_.*|.*_output_\d+_(weight|bias))(_quantized)?")
"""The names of parameters that torch, onnxsim, ONNX Runtime and onnxslim compute."""
_ONNX_RUNTIME = "com.microsoft.nchwc"
"""A domain that is listed in every file that ONNX Runtime has optimised and saved."""


class Folds:
    """What was merged in a graph; it answers for one module at a time."""

    def __init__(self, graph: ir.Graph, modules: Mapping[ir.Node, Collection[str]]) -> None:
        """`modules` are the module paths that each node lies in."""
        self._modules = modules
        self._optimised = _ONNX_RUNTIME in graph.opset_imports
        self._known = {str(v.name) for v in (*graph.inputs, *graph.initializers.values())}
        for node in graph:
            self._known.update(str(v.name) for v in node.outputs)
            self._known.add(_last_scope(node))

    def reason(self, path: str, value: ir.Value) -> str | None:
        """Why `value`, the only tensor that leaves the module `path`, may not be its output; None if nothing says so.

        Args:
            path: The module's path.
            value: The tensor.
        """
        producer = value.producer()
        if producer is None:
            return None
        if takes_in(producer) and not _named_as_merged(value):
            if self._is_alone(path, producer) and not self._next_reads(path, value):
                return (
                    "what may follow it (a BatchNormalization, a scale or a sum) was merged into its convolution, "
                    f"{str(value.name)!r}"
                )
            return None
        if (quantised := merged_into_rounding(value)) is not None and _scope(quantised) == path:
            return (
                f"its quantisation cuts off what is negative, as the activation after it would, in {str(value.name)!r}"
            )
        if _one_operator(path, producer):
            return None
        for user, _ in value.uses():
            if path in self._modules[user]:
                continue
            # ONNX Runtime merges a Relu into the Clip that follows it
            if self._optimised and user.op_type == "Clip" and producer.op_type != "Relu" and _place(value) != path:
                taken = ["an activation"]
            else:
                taken = [repr(name) for name in self._taken_in(user, value, producer, path)]
            if taken:
                return (
                    f"{', '.join(taken)}, which may be its last operator, was merged into {str(user.outputs[0].name)!r} "
                    f"({user.op_type})"
                )
        return None

    def doubt(self, path: str, value: ir.Value) -> str | None:
        """A warning if the file does not say whether a module's last operator is still in the graph; else None.

        Args:
            path: The module's path.
            value: The tensor that is taken as its output.
        """
        producer = value.producer()
        if producer is None:
            return None
        if takes_in(producer) and not _named_as_merged(value) and not self._next_reads(path, value):
            why = "into whose convolution a BatchNormalization, a scale or a sum was merged, which may lie after the module"
        elif self._optimised and _place(value) != path:
            why = "but ONNX Runtime has optimised this file, and may have merged the module's last operator into what follows"
        else:
            return None
        return f"{path!r} is taken to be the tensor {str(value.name)!r}, {why}; compare it with the network, or name a tensor"

    def _next_reads(self, path: str, value: ir.Value) -> bool:
        """Whether the next member of the same sequence reads a tensor; then no operator lies between the two."""
        outer, number = _numbered(path)
        return number is not None and any(f"{outer}{number + 1}" in self._modules[user] for user, _ in value.uses())

    def _is_alone(self, path: str, node: ir.Node) -> bool:
        """Whether a module holds one operator: the module may be the convolution, or a wrapper of it and of merged operators."""
        return all(other is node or path not in paths for other, paths in self._modules.items())

    def _taken_in(self, user: ir.Node, value: ir.Value, producer: ir.Node, path: str) -> list[str]:
        """The operators between a tensor and the node that reads it, according to the call that the node records."""
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
            # Only a Pad can be merged into the convolution after it. Any other missing name, a BatchNormalization say, was
            # merged into the operator before, whose result this node reads.
            return [name for name in taken if "pad" in name]
        return taken


def calls(node: ir.Node) -> list[str]:
    """The names that the recorded call of a node reads; empty if none is recorded."""
    _, separator, arguments = str(node.metadata_props.get(_CALL, "")).partition("args = ")
    return re.findall(r"%(\w+)", arguments) if separator else []


def _last_scope(node: ir.Node) -> str:
    scopes = _listed(node, _SCOPES)
    return scopes[-1] if scopes else ""


def _listed(node: ir.Node, key: str) -> list[str]:
    try:
        return [str(entry) for entry in ast.literal_eval(node.metadata_props.get(key, "[]"))]
    except (ValueError, SyntaxError, TypeError):
        return []


def _one_operator(path: str, producer: ir.Node) -> bool:
    """Whether the module is one of torch's own layers; then its operator is in the graph."""
    scopes, classes = _listed(producer, _SCOPES), _listed(producer, _CLASSES)
    if path not in scopes or len(classes) != len(scopes):  # the two lists run in parallel
        return False
    kind = classes[scopes.index(path)]
    return kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container.")


def takes_in(node: ir.Node) -> bool:
    """Whether operators after a convolution, named by the older exporter, were merged into it.

    Then either weight and bias were computed, or the weight belongs to the module and the bias does not. A computed weight alone
    (weight normalisation, for example) is no sign.
    """
    scope = _scope(node)
    if (
        node.op_type not in ("Conv", "ConvTranspose")
        or not scope
        or _CALL in node.metadata_props
        or len(node.inputs) < 3
    ):
        return False
    weight, bias = (_parameter(value) for value in node.inputs[1:3])
    own = f"{scope}."
    if weight.startswith(own):
        return not bias.startswith(own)
    return all(_COMPUTED.fullmatch(name) is not None for name in (weight, bias))


def merged_prefix(value: ir.Value) -> str | None:
    """The place of the operator that was merged into a convolution, if the convolution's result has that operator's name.

    Returns:
        "/n/" for "/n/BatchNormalization_output_0", the result of the node "/w/w.0/Conv"; None for a tensor with its own name.
    """
    producer = value.producer()
    if producer is None or not takes_in(producer):
        return None
    match = _MERGED.fullmatch(str(value.name))
    return None if match is None else match[1]


def _named_as_merged(value: ir.Value) -> bool:
    return merged_prefix(value) is not None


def merged_into_rounding(value: ir.Value) -> ir.Node | None:
    """The node whose result is quantised without negative values: a ReLU after it was merged into its quantisation."""
    node = value.producer()
    quantise = (
        node.inputs[0].producer()
        if node is not None and node.op_type == "DequantizeLinear" and node.inputs[0]
        else None
    )
    if quantise is None or quantise.op_type != "QuantizeLinear" or quantise.inputs[0] is None:
        return None
    of = quantise.inputs[0].producer()
    # QuantizeLinear without a zero point has the zero point 0 in uint8
    zero = constant_of(quantise.inputs[2]) if len(quantise.inputs) > 2 else np.zeros(1, np.uint8)
    if (
        of is None
        or of.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization")
        or zero is None
    ):
        return None
    # 0.0 is the lowest integer: everything below it saturates to 0.0
    return of if (zero == np.iinfo(zero.dtype).min).all() else None


def _place(value: ir.Value) -> str:
    """The innermost module that gives a tensor, by the older exporter's names."""
    producer = value.producer()
    merged = merged_prefix(value)
    if merged is not None:
        return merged.split("/")[-2]
    return "" if producer is None else _scope(producer)


def _parameter(value: ir.Value | None) -> str:
    """The name of a weight or bias; the name of its integers if it is quantised."""
    while value is not None and (producer := value.producer()) is not None:
        value = producer.inputs[0]
    return "" if value is None else str(value.name)


def _scope(node: ir.Node) -> str:
    """The innermost module path of a node named by the older exporter; "" for any other node."""
    name = node.name or ""
    return name.split("/")[-2] if name.startswith("/") else ""


def _numbered(path: str) -> tuple[str, int | None]:
    """("features.", 3) for "features.3"; None instead of the number if the last part is a name."""
    outer, dot, last = path.rpartition(".")
    return f"{outer}{dot}", int(last) if last.isdecimal() else None
