"""Random weights in place of trained ones, from the logits down: the cascade of Adebayo et al.

J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1. They re-initialise a layer as its framework
had done at first. A deployed graph does not say how that was, and has BatchNorms merged or frozen that would not fit it. So a
layer's weights are drawn anew such that their size stays what the rest of the network, trained around them, expects:

- kernels and matrices (two dimensions larger than 1): normal, of the tensor's own mean and standard deviation. With the own
  deviation activations neither vanish nor explode through many layers, which He's would do once BatchNorms are merged; with
  the own mean, that of the answer to the (positive) activations before it stays near what biases and BatchNorms make up for;
- vectors (bias, scale, slope): permuted, all of a node in the same way. A BatchNorm's running mean and variance are permuted
  along, although they are no weights: the variance stays beside its scale, for one that is almost 0 (a channel that died in
  training) under another channel's scale would make a giant of this channel;
- integer kernels behind a DequantizeLinear (or of QLinearConv and its like): permuted, which keeps their range; integer biases
  permuted by what they stand for, where each channel has a scale of its own.

A permutation is one cycle through all elements, so that it leaves nothing as it was but what is all one number. Such a tensor
(a scale of ones, a box filter) has nothing to randomise and stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.randomised import Randomised

from .errors import RequestError
from .graph.module_paths import module_paths
from .graph.reading import constant_of

Array = NDArray[Any]

_KERNELS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "DeformConv": (1, 3), "Gemm": (0, 1, 2), "MatMul": (0, 1), "ConvInteger": (1,),
    "MatMulInteger": (0, 1), "QLinearConv": (3, 8), "QLinearMatMul": (0, 3),
}  # fmt: skip
_OTHERS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2), "RMSNormalization": (1,), "PRelu": (1,), "Add": (0, 1), "Mul": (0, 1),
}  # fmt: skip
"""Layers only behind a kernel: in front of all, they are the image's preprocessing."""

_COMBINING = {"Add", "Sub", "Mul", "Div", "Sum", "MatMul", "Concat"}
"""What weights are computed with from several; of other operators the first input alone is one, the others say how."""


@dataclass(frozen=True)
class WeightedLayer:
    """A layer that carries weights.

    Attributes:
        node: Its node; a bias added right behind belongs to it.
        weights: Its initializers, less those of layers behind it.
    """

    node: ir.Node
    weights: tuple[ir.Value, ...]


def find_layers(graph: ir.Graph) -> list[WeightedLayer]:
    """The layers that carry weights, from the output to the input.

    Weights are constants that something computed from the image is multiplied with, or has added to it, in the operators
    above; an Einsum's operands; class and register tokens. Not: single numbers, integers but for quantised weights, scales
    and zero points, shapes and bounds, attention masks (of two values only), what stands before the first kernel.
    A weight of several layers is of the last one. In a branched network any order that puts a layer behind those it reads
    would do; it is the graph's, backwards.
    """
    data = set(graph.inputs)
    behind: set[ir.Value] = set()
    nodes: list[tuple[ir.Node, list[ir.Value]]] = []
    for node in graph:
        signals = [v for v in node.inputs if v in data]
        if not signals or node.op_type in ("Shape", "Size"):
            continue
        data.update(node.outputs)
        found = list(dict.fromkeys(_weights(node, data)))
        is_kernel = node.op_type in _KERNELS or node.op_type == "Einsum"
        found = found if is_kernel or not behind.isdisjoint(signals) else []
        if (found and is_kernel) or not behind.isdisjoint(signals):
            behind.update(node.outputs)
        if found:
            nodes.append((node, found))
    owners: dict[ir.Node, ir.Node] = {}
    for node, _ in nodes:
        read = next(v for v in node.inputs if v is not None and v in data)
        before = read.producer() if node.op_type == "Add" and len(read.uses()) == 1 else None
        owners[node] = node if before is None or before.op_type == "Concat" else owners.get(before, node)
    layers: dict[ir.Node, list[ir.Value]] = {}
    taken: set[ir.Value] = set()
    for node, found in reversed(nodes):
        new = [v for v in found if v not in taken]
        taken.update(new)
        if new:
            layers[owners[node]] = new + layers.get(owners[node], [])
    return [WeightedLayer(node, tuple(weights)) for node, weights in layers.items()]


def layer_names(layers: list[WeightedLayer]) -> list[str]:
    """What layers are called: by the module of their weights ("conv1.weight", also where a BatchNorm was merged into it), or
    the one that their node lies in, where it is theirs alone; else by their node."""
    modules = [_module_of(layer) for layer in layers]
    return [
        module if module and modules.count(module) == 1 else str(layer.node.name)
        for module, layer in zip(modules, layers, strict=True)
    ]


def _module_of(layer: WeightedLayer) -> str | None:
    for value in layer.weights:
        module, _, last = str(value.name).rpartition(".")
        if last in ("weight", "bias"):
            return module
    return next(reversed(module_paths(layer.node)), None)


def check_layers(graph: ir.Graph, source: Path, steps: int) -> None:
    """Refuse what can't be randomised in so many steps.

    Args:
        graph: The network.
        source: Its file, for messages.
        steps: How many steps are asked for.

    Raises:
        RequestError: The network has fewer layers with weights.
    """
    layers = len(find_layers(graph))
    if not layers:
        raise RequestError(f"--randomise: {source} has no layer with weights, or none that are not all one number")
    if steps > layers:
        raise RequestError(
            f"--randomise {steps}: {source} has {layers} layer(s) with weights, and each step randomises one more at least"
        )


def randomise_step(model: ir.Model, step: Randomised) -> Randomised:
    """Randomise the layers of a step of the cascade; the step with their names.

    Args:
        model: A clean model; changed in place.
        step: The step; its layers are not known yet.
    """
    return replace(step, layers=tuple(randomise(model, Fraction(step.step, step.of), step.seed)))


def randomise(model: ir.Model, share: Fraction, seed: int) -> list[str]:
    """Randomise the share of a model's layers that is nearest to the output.

    The numbers of a layer depend on the seed and on its place alone: a larger share gives those that it has in common with
    a smaller one the same.

    Args:
        model: A clean model; changed in place.
        share: Of the layers, 0 to 1; their number is rounded up.
        seed: Of the random numbers.

    Returns:
        The layers' names, from the output to the input.
    """
    layers = find_layers(model.graph)
    count = math.ceil(share * len(layers))
    for place, layer in enumerate(layers[:count]):
        rng = np.random.default_rng([seed, place])
        cycles: dict[int, Array] = {}
        for value in layer.weights:
            _redraw(value, rng, cycles)
    return layer_names(layers)[:count]


def _weights(node: ir.Node, data: set[ir.Value]) -> Iterator[ir.Value]:
    """The initializers with weights that a node reads."""
    kind = node.op_type
    places = range(len(node.inputs)) if kind in ("Einsum", "Concat") else _KERNELS.get(kind) or _OTHERS.get(kind, ())
    for value in (node.inputs[i] for i in places if i < len(node.inputs)):
        if value is None or value in data or (kind == "Concat" and not _is_token(value)):
            continue
        quantised = kind in ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
        for leaf, integers in _leaves(value, quantised):
            array = constant_of(leaf)
            assert array is not None
            if not (integers or (leaf.dtype is not None and leaf.dtype.is_floating_point())):
                continue
            mask = kind in ("Add", "Mul") and array.size > 2 and len(np.unique(array)) <= 2
            if array.size > 1 and not mask and bool((array != array.flat[0]).any()):
                yield leaf


def _leaves(value: ir.Value, integers: bool) -> Iterator[tuple[ir.Value, bool]]:
    """The initializers that a constant is computed from, and whether integers among them stand for numbers."""
    producer = value.producer()
    if producer is None:
        if value.is_initializer():
            yield value, integers
        return
    sources = producer.inputs if producer.op_type in _COMBINING else producer.inputs[:1]
    for source in sources:
        if source is not None:
            yield from _leaves(source, integers or producer.op_type == "DequantizeLinear")


def _is_token(value: ir.Value) -> bool:
    """[1,T,C], or as many of them as there are images."""
    leaf = next((leaf for leaf, _ in _leaves(value, False)), None)
    array = constant_of(leaf)
    return array is not None and array.ndim == 3


def _redraw(value: ir.Value, rng: np.random.Generator, cycles: dict[int, Array]) -> None:
    """Give an initializer new content; another tensor, for its old one may be the source's."""
    old = constant_of(value)
    assert old is not None
    assert value.dtype is not None
    if sum(d > 1 for d in old.shape) < 2:
        cycle = cycles.setdefault(old.size, _cycle(old.size, rng))
        new = _permuted(value, old.ravel(), cycle).reshape(old.shape)
    elif value.dtype.is_floating_point():
        wide = old.astype(np.float64)
        new = rng.normal(wide.mean(), wide.std(), old.shape).astype(old.dtype)
    else:
        new = old.ravel()[_cycle(old.size, rng)].reshape(old.shape)
    value.const_value = ir.tensor(np.ascontiguousarray(new), dtype=value.dtype, name=value.name)


def _cycle(size: int, rng: np.random.Generator) -> Array:
    """A random permutation of one cycle: each element goes to the place of the next in a random order."""
    order = rng.permutation(size)
    cycle = np.empty(size, np.int64)
    cycle[order] = np.roll(order, 1)
    return cycle


def _permuted(value: ir.Value, old: Array, cycle: Array) -> Array:
    """A vector permuted; integers with a scale each (not those of 8 bits, whose range would not do) by what they stand for."""
    user = next((node for node, place in value.uses() if node.op_type == "DequantizeLinear" and place == 0), None)
    scale = None if user is None else constant_of(user.inputs[1])
    if scale is None or scale.size != old.size or old.dtype != np.int32:
        return np.asarray(old[cycle])
    wide = scale.ravel().astype(np.float64)
    limits = np.iinfo(np.int32)
    codes = np.rint((old * wide)[cycle] / np.where(wide == 0, 1, wide))
    return np.clip(codes, limits.min, limits.max).astype(np.int32)
