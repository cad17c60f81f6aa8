"""Random weights in place of trained ones, from the logits down: the cascade of Adebayo et al.

J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1. The paper re-initialises a layer as its
framework did before training. A deployed graph does not say how that was done, and its BatchNorms are merged or frozen and would
not fit such weights. So a layer gets random weights of the size that the rest of the network, trained around them, expects:

- Kernels and matrices (at least two dimensions larger than 1) are drawn from a normal distribution with the tensor's own mean
  and standard deviation. With their own deviation, activations neither vanish nor explode through many layers; with that of
  He's initialisation they would, once BatchNorms are merged. With their own mean, the mean response to the (positive)
  activations before the layer stays near the value that biases and BatchNorms compensate for.
- Vectors (bias, scale, slope) are permuted, all vectors of a layer in the same way. A BatchNorm's running mean and variance are
  no weights, but are permuted with them, so that each variance stays with its scale. Otherwise a variance of almost 0 (a channel
  that died in training) could meet the scale of another channel, and this channel would become huge.
- Integer kernels that a DequantizeLinear reads (or a QLinearConv or similar operator) are permuted, which keeps their range.
  Integer biases are permuted by the numbers that they stand for if each channel has a scale of its own.

A permutation is one cycle through all elements, so that it moves every element; only a tensor of one repeated number stays the
same. Such a tensor (a scale of ones, a box filter) has nothing to randomise, and is no weight here.
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
"""These are layers only after a kernel. Before the first kernel they are the preprocessing of the image."""

_COMBINING = {"Add", "Sub", "Mul", "Div", "Sum", "MatMul", "Concat"}
"""Operators that compute a weight from several. For others only the first input is a weight; the rest are parameters."""


@dataclass(frozen=True)
class WeightedLayer:
    """A layer that carries weights.

    Attributes:
        node: Its node; a bias added directly after it belongs to it.
        weights: Its initializers, without those that later layers read, too.
    """

    node: ir.Node
    weights: tuple[ir.Value, ...]


def find_layers(graph: ir.Graph) -> list[WeightedLayer]:
    """The layers that carry weights, from the output to the input.

    Weights are constants that the operators above multiply with, or add to, a tensor computed from the image; an Einsum's
    operands; class and register tokens. The following are no weights: single numbers; integers, except quantised weights; scales
    and zero points; shapes and bounds; attention masks (with two values only); everything before the first kernel. A weight that
    several layers read belongs to the last of them. In a branched network any order that puts a layer after those that it reads
    would do; this is the order of the graph, backwards.
    """
    data = set(graph.inputs)
    after_kernel: set[ir.Value] = set()
    nodes: list[tuple[ir.Node, list[ir.Value]]] = []
    for node in graph:
        signals = [v for v in node.inputs if v in data]
        if not signals or node.op_type in ("Shape", "Size"):
            continue
        data.update(node.outputs)
        weights = list(dict.fromkeys(_weights(node, data)))
        is_kernel = node.op_type in _KERNELS or node.op_type == "Einsum"
        weights = weights if is_kernel or not after_kernel.isdisjoint(signals) else []
        if (weights and is_kernel) or not after_kernel.isdisjoint(signals):
            after_kernel.update(node.outputs)
        if weights:
            nodes.append((node, weights))
    # an Add that alone reads a layer's result is its bias; an Add after a Concat is a layer of its own
    owners: dict[ir.Node, ir.Node] = {}  # node with weights -> the node of the layer that it belongs to
    for node, _ in nodes:
        read = next(v for v in node.inputs if v is not None and v in data)
        before = read.producer() if node.op_type == "Add" and len(read.uses()) == 1 else None
        owners[node] = node if before is None or before.op_type == "Concat" else owners.get(before, node)
    layers: dict[ir.Node, list[ir.Value]] = {}
    taken: set[ir.Value] = set()
    for node, weights in reversed(nodes):  # from the output: a shared weight belongs to the last layer that reads it
        new = [v for v in weights if v not in taken]
        taken.update(new)
        if new:
            layers[owners[node]] = new + layers.get(owners[node], [])
    return [WeightedLayer(node, tuple(weights)) for node, weights in layers.items()]


def layer_names(layers: list[WeightedLayer]) -> list[str]:
    """The names of layers: the module of their weights or of their node if no other layer has the same one, else their node's name.

    The module of a weight "conv1.weight" is conv1, even if a BatchNorm was merged into it.
    """
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
    """Refuse a network that can't be randomised in so many steps.

    Args:
        graph: The network.
        source: Its file, for messages.
        steps: How many steps are asked for.

    Raises:
        RequestError: The network has fewer layers with weights.
    """
    layers = len(find_layers(graph))
    if not layers:
        raise RequestError(f"--randomise: {source} has no layer with weights of more than one value")
    if steps > layers:
        raise RequestError(
            f"--randomise {steps}: {source} has {layers} layer(s) with weights, and each step randomises at least one more"
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

    The random numbers of a layer depend only on the seed and on the layer's place. So layers that a larger and a smaller share
    have in common get the same weights.

    Args:
        model: A clean model; changed in place.
        share: The share of the layers, 0 to 1; their number is rounded up.
        seed: The seed of the random numbers.

    Returns:
        The layers' names, from the output to the input.
    """
    layers = find_layers(model.graph)
    count = math.ceil(share * len(layers))
    for place, layer in enumerate(layers[:count]):
        rng = np.random.default_rng([seed, place])  # does not depend on how many layers are randomised
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
            # an attention mask has two values only
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
    """Whether a constant is a class or register token: [1,T,C], possibly repeated for each image."""
    leaf = next((leaf for leaf, _ in _leaves(value, False)), None)
    array = constant_of(leaf)
    return array is not None and array.ndim == 3


def _redraw(value: ir.Value, rng: np.random.Generator, cycles: dict[int, Array]) -> None:
    """Give an initializer new content, as a new tensor: the source may share the old one."""
    old = constant_of(value)
    assert old is not None
    assert value.dtype is not None
    if sum(d > 1 for d in old.shape) < 2:  # a vector; vectors of one size share a cycle
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
    """A vector permuted; int32 values with a scale each by the numbers they stand for (8 bits would not have the range)."""
    user = next((node for node, place in value.uses() if node.op_type == "DequantizeLinear" and place == 0), None)
    scale = None if user is None else constant_of(user.inputs[1])
    if scale is None or scale.size != old.size or old.dtype != np.int32:
        return np.asarray(old[cycle])
    wide = scale.ravel().astype(np.float64)
    limits = np.iinfo(np.int32)
    # the permuted numbers, quantised again with the scales of their new places
    codes = np.rint((old * wide)[cycle] / np.where(wide == 0, 1, wide))
    return np.clip(codes, limits.min, limits.max).astype(np.int32)
