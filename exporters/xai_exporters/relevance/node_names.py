"""What nodes are called in the source, for composites that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from ..graph.module_paths import module_paths

_NAMES, _MODULES = "xai/names", "xai/modules"
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def note_names(nodes: Iterable[ir.Node]) -> None:
    """Note on nodes what they are called in the source: cutting, merging and exporting rename tensors."""
    nodes = list(nodes)
    paths = {path for node in nodes for path in module_paths(node)}
    for node in nodes:
        node.meta[_NAMES] = [str(node.name), *(str(y.name) for y in node.outputs)]
        node.meta[_MODULES] = [*module_paths(node), *(path for path in _by_weight(node) if path not in paths)]


def _by_weight(node: ir.Node) -> list[str]:
    """The module that a layer's weight belongs to.

    A layer that torch merged with its BatchNorm lies in the BatchNorm's module alone; only its weight names its own module. If
    other nodes lie in that module, modules share the weight, and `note_names` ignores the result.
    """
    weight = str(node.inputs[1].name) if node.op_type in _LAYERS and node.inputs[1] is not None else ""
    return [weight.removesuffix(".weight")] if weight.endswith(".weight") else []


def own_names(node: ir.Node) -> list[str]:
    """The names of a node and its tensors in the source."""
    return list(node.meta.get(_NAMES, [str(node.name), *(str(y.name) for y in node.outputs)]))


def modules(node: ir.Node) -> list[str]:
    """The modules that a node lies in."""
    return list(node.meta.get(_MODULES, module_paths(node)))


def take_names(node: ir.Node, parts: Sequence[ir.Node]) -> None:
    """A node that was merged from others answers to the names of each."""
    node.meta[_NAMES] = [name for part in parts for name in own_names(part)]
    node.meta[_MODULES] = list(dict.fromkeys(name for part in parts for name in modules(part)))


def names_of(node: ir.Node) -> list[str]:
    """What a node can be called: its name, its tensors' names, the modules it lies in."""
    return [*own_names(node), *modules(node)]
