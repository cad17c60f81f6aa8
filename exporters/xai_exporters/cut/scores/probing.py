"""Find out whether a tensor holds probabilities: run the network on eleven kinds of images (five if it takes integers)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.probabilities import sigmoid, softmax

from ...graph.measure import open_session, run
from ...passes.clean import CleanGraph
from ...passes.network_inputs import probes

Floats = NDArray[np.float64]
_FEWEST = 3
"""The least number of images with finite results that allows a conclusion."""


def probe_images(image: ir.Value, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Images [1,...] of noise, of one colour and of patterns, in the usual ranges of networks' inputs and far beyond them.

    Args:
        image: The network's input; its element type decides the ranges.
        shape: The shape of one image.
    """
    dtype = image.dtype.numpy() if image.dtype is not None else np.dtype(np.float32)
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    board = (np.indices(shape).sum(axis=0) // 4 % 2).astype(np.float64)
    unit = [rng.random(shape), np.zeros(shape), np.ones(shape), ramp, board]
    if dtype.kind in "ui":
        scaled = [255 * x for x in unit]
    else:
        scaled = [*unit, *(3 * rng.standard_normal(shape) for _ in range(2)), 255 * unit[0], 255 * ramp]
        scaled += [30 * rng.standard_normal(shape), -5 * board]
    for x in scaled:
        yield x[None].astype(dtype)


class Probes:
    """The values of some tensors of a network on the probe images.

    Args:
        clean: The network.
        values: The tensors; each holds one score per class. Images on which the first one is not finite are left out.

    Attributes:
        enough: Whether enough images are left for a conclusion.

    Raises:
        GraphError: The network does not run on one image.
    """

    def __init__(self, clean: CleanGraph, values: Sequence[ir.Value]) -> None:
        names = list(dict.fromkeys(str(value.name) for value in values))
        proto = ir.to_proto(clean.model)
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = open_session(proto.SerializeToString(), "the network")
        image = clean.graph.inputs[0]
        rows: dict[str, list[Floats]] = {name: [] for name in names}
        further = clean.graph.inputs[1:]
        for i, x in enumerate(probe_images(image, clean.image_shape)):
            feeds = {str(image.name): x, **{str(value.name): probes(value, 1, i) for value in further}}
            with np.errstate(all="ignore"):
                outputs = run(session, feeds, "the network")
            for name in names:
                rows[name].append(np.asarray(outputs[name], np.float64).reshape(-1))
        finite = [i for i, row in enumerate(rows[names[0]]) if np.isfinite(row).all()]
        self.enough = len(finite) >= _FEWEST
        self.rows = {name: np.stack([values[i] for i in finite]) for name, values in rows.items()} if finite else {}
        half = any(value.dtype == ir.DataType.FLOAT16 for value in values)
        # tolerances, and half the distance from 1 to the next number: 11 bits of precision, or 24
        self.rtol, self.atol, self.rounding = (2e-2, 2e-3, 2.0**-11) if half else (1e-3, 1e-6, 2.0**-24)

    def of(self, value: ir.Value) -> Floats:
        """The values of a tensor, [images,classes]."""
        return self.rows[str(value.name)]

    def in_unit(self, value: ir.Value) -> bool:
        """Whether all numbers lie in [0,1], except for rounding."""
        rows = self.of(value)
        return bool(rows.min() >= -self.atol and rows.max() <= 1 + max(self.atol, self.rtol))

    def fills_unit(self, value: ir.Value) -> bool:
        """Whether the numbers lie in [0,1] and come close to both ends: even images far from any photograph do not pass them."""
        rows = self.of(value)
        return self.in_unit(value) and bool(rows.min() < 0.01 and rows.max() > 0.99)

    def sums_to_one(self, value: ir.Value, tolerance: float) -> bool:
        """Whether the numbers of each image sum to 1."""
        return bool(np.abs(self.of(value).sum(axis=1) - 1).max() <= max(tolerance, self.rtol))

    def is_function(self, value: ir.Value, of: ir.Value, name: str, logarithm: bool = False) -> bool:
        """Whether a tensor is the "softmax" or the "sigmoid" of another one (with `logarithm`: its logarithm)."""
        logits = self.of(of)
        if not np.isfinite(logits).all():
            return False
        expected = softmax(logits) if name == "softmax" else sigmoid(logits)
        own = self.of(value)
        if logarithm:
            with np.errstate(over="ignore"):  # numbers above 88 are no logarithms of probabilities
                own = np.exp(own)
        # Allow rounding only; it grows with the logits. A wider bound is wrong: the mean of two softmaxes can be within a
        # thousandth of one of them
        size = 1 + np.abs(logits).max(axis=1, keepdims=True)
        allowed = self.atol + np.minimum(self.rtol, 16 * self.rounding * size) * expected
        return bool((np.abs(own - expected) <= allowed).all())
