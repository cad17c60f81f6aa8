"""Operators that onnx's reference evaluator computes in float32, wrongly, or not at all: small float64 ones, by definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array = NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Erf(OpRun):
    def _run(self, x: Array) -> tuple[Array]:
        return (_erf(x),)


class Gelu(OpRun):
    def _run(self, x: Array, approximate: str | None = None) -> tuple[Array]:
        if approximate == "tanh":
            return (x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,)
        return (x * (1 + _erf(x / np.sqrt(2))) / 2,)


class ConvTranspose(OpRun):
    """Each input value spreads the kernel over the output."""

    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str | None = None,
        dilations: Any = None,
        group: int | None = None,
        kernel_shape: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        kernel = w.shape[2:]
        rank = len(kernel)
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        extra, pads, group = output_padding or [0] * rank, pads or [0] * 2 * rank, group or 1
        full = [
            (i - 1) * s + e + (k - 1) * d + 1
            for i, s, e, k, d in zip(x.shape[2:], strides, extra, kernel, dilations, strict=True)
        ]
        auto = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad or "NOTSET"
        if output_shape is not None or auto.startswith("SAME"):
            wanted = output_shape or [i * s for i, s in zip(x.shape[2:], strides, strict=True)]
            full = [max(f, o) for f, o in zip(full, wanted, strict=True)]  # a wanted size beyond the last input: zeros
            total = [f - o for f, o in zip(full, wanted, strict=True)]
            begin = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
            pads = [*begin, *(t - p for t, p in zip(total, begin, strict=True))]
        elif auto == "VALID":
            pads = [0] * 2 * rank
        per = x.shape[1] // group
        y = np.zeros((x.shape[0], w.shape[1] * group, *full), x.dtype)
        for m in itertools.product(*map(range, kernel)):
            at = tuple(
                slice(i * d, i * d + (n - 1) * s + 1, s)
                for i, d, n, s in zip(m, dilations, x.shape[2:], strides, strict=True)
            )
            for g in range(group):
                tap: Array = np.moveaxis(w, (0, 1), (-2, -1))[m][g * per : (g + 1) * per]  # [per, outputs]
                channels = slice(g * w.shape[1], (g + 1) * w.shape[1])
                y[(slice(None), channels, *at)] += np.einsum("nc...,co->no...", x[:, g * per : (g + 1) * per], tap)
        crop = tuple(slice(p, n - q) for p, q, n in zip(pads[:rank], pads[rank:], full, strict=True))
        y = y[(slice(None), slice(None), *crop)]
        if b is not None:
            y = y + b.reshape(1, -1, *[1] * rank)
        return (y,)


class LRN(OpRun):
    def _run(
        self, x: Array, alpha: float | None = None, beta: float | None = None, bias: float | None = None, size: int = 1
    ) -> tuple[Array]:
        a, b, k = (float(d if v is None else v) for v, d in ((alpha, 1e-4), (beta, 0.75), (bias, 1.0)))
        squares = np.zeros_like(x)
        for c in range(x.shape[1]):
            first, last = max(0, c - (size - 1) // 2), min(x.shape[1] - 1, c + size // 2)
            squares[:, c] = (x[:, first : last + 1] ** 2).sum(axis=1)
        return (x / (k + a / size * squares) ** b,)


class MeanVarianceNormalization(OpRun):
    def _run(self, x: Array, axes: Any = None) -> tuple[Array]:
        over = tuple(axes or (0, 2, 3))
        centred = x - x.mean(axis=over, keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(axis=over, keepdims=True)) + 1e-9),)


class GroupNormalization(OpRun):
    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        epsilon: float | None = None,
        num_groups: int = 1,
        stash_type: Any = None,
    ) -> tuple[Array]:
        grouped = x.reshape(len(x), num_groups, -1)
        centred = grouped - grouped.mean(axis=2, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=2, keepdims=True) + (1e-5 if epsilon is None else epsilon))
        shape = (1, -1, *[1] * (x.ndim - 2))
        return ((centred / deviation).reshape(x.shape) * scale.reshape(shape) + bias.reshape(shape),)


class LpNormalization(OpRun):
    def _run(self, x: Array, axis: int | None = None, p: int | None = None) -> tuple[Array]:
        norm = np.linalg.norm(x, ord=p or 2, axis=-1 if axis is None else axis, keepdims=True)
        return (np.where(norm > 0, x / np.where(norm > 0, norm, 1), 0),)


def _windows(x: Array, fill: float, options: dict[str, Any]) -> Array:
    """[N,C,*result,*kernel]: what each window holds, `fill` where it reaches beyond the input."""
    kernel = options["kernel_shape"]
    rank = len(kernel)
    strides, dilations = (options.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads, auto = options.get("pads") or [0] * 2 * rank, options.get("auto_pad") or "NOTSET"
    for i in range(rank):
        axis, n, span = 2 + i, x.shape[2 + i], (kernel[i] - 1) * dilations[i] + 1
        begin, end = pads[i], pads[rank + i]
        if auto != "NOTSET":
            total = max((-(-n // strides[i]) - 1) * strides[i] + span - n, 0) if auto != "VALID" else 0
            begin = total // 2 if auto == "SAME_UPPER" else -(-total // 2)
            end = total - begin
        steps = (n + begin + end - span) / strides[i]
        count = int(np.ceil(steps) if options.get("ceil_mode") else steps) + 1
        if (count - 1) * strides[i] >= n + begin:  # no window begins in the padding behind
            count -= 1
        width = [(0, 0)] * x.ndim
        width[axis] = (begin, max(end, (count - 1) * strides[i] + span - n - begin))
        at = np.arange(count)[:, None] * strides[i] + np.arange(kernel[i]) * dilations[i]
        x = np.moveaxis(np.pad(x, width, constant_values=fill).take(at, axis=axis), axis + 1, -1)
    return x


def _over_kernel(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - (x.ndim - 2) // 2, x.ndim))


class MaxPool(OpRun):
    """onnx's own fails on padding that differs between the two sides. Places count along the rows, through the whole tensor."""

    def _run(self, x: Array, **options: Any) -> tuple[Array, Array]:
        windows = _windows(x, -np.inf, options)
        numbers = _windows(np.arange(x.size).reshape(x.shape), -1, options)
        flat = (*windows.shape[: -len(_over_kernel(windows))], -1)
        first = windows.reshape(flat).argmax(-1)[..., None]
        return windows.max(axis=_over_kernel(windows)), np.take_along_axis(numbers.reshape(flat), first, -1)[..., 0]


class AveragePool(OpRun):
    """onnx's own takes seconds. The padding asked for may count, what ceil mode adds behind it never does."""

    def _run(self, x: Array, count_include_pad: int | None = None, **options: Any) -> tuple[Array]:
        windows = _windows(x, 0.0, options)
        inside, rank = np.ones_like(x[:1, :1]), x.ndim - 2
        auto = options.get("auto_pad") or "NOTSET"
        if count_include_pad and not auto.startswith("SAME"):
            pads = options.get("pads") or [0] * 2 * rank
            width = [(0, 0)] * 2 + [(pads[i], pads[rank + i]) for i in range(rank)]
            counted = _windows(np.pad(inside, width, constant_values=1), 0.0, options | {"pads": [0] * 2 * rank})
        else:
            counted = _windows(inside, float(bool(count_include_pad)), options)
        counts = counted.sum(axis=_over_kernel(counted))
        y: Array = windows.sum(axis=_over_kernel(windows))
        return (y / counts[:, :, *(slice(n) for n in y.shape[2:])],)


class LpPool(OpRun):
    """onnx's own takes seconds."""

    def _run(self, x: Array, p: int | None = None, **options: Any) -> tuple[Array]:
        windows = np.abs(_windows(x, 0.0, options)) ** (p or 2)
        return (windows.sum(axis=_over_kernel(windows)) ** (1 / (p or 2)),)


class GlobalMaxPool(OpRun):
    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GlobalLpPool(OpRun):
    def _run(self, x: Array, p: int | None = None) -> tuple[Array]:
        power = p or 2
        return ((np.abs(x) ** power).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / power),)


class Pad(OpRun):
    """Negative amounts cut off."""

    def _run(
        self, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, mode: str | None = None
    ) -> tuple[Array]:
        amounts = np.zeros((x.ndim, 2), np.int64)
        amounts[np.arange(x.ndim) if axes is None else axes] = np.asarray(pads).reshape(2, -1).T
        cut = np.maximum(-amounts, 0)
        x = x[tuple(slice(a, n - b) for (a, b), n in zip(cut, x.shape, strict=True))]
        grown = np.maximum(amounts, 0)
        if mode in (None, "constant"):
            fill = 0 if value is None else np.asarray(value).item()
            return (np.pad(x, grown, constant_values=fill).astype(x.dtype),)
        modes: dict[str | None, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
        return (np.pad(x, grown, mode=modes[mode]),)


class GridSample(OpRun):
    """onnx's own has float32 coordinates, and at a border brings a cubic kernel's place inside, which no runtime does."""

    def _run(
        self,
        x: Array,
        grid: Array,
        mode: str | None = None,
        padding_mode: str | None = None,
        align_corners: int | None = None,
    ) -> tuple[Array]:
        mode, padding, sizes = mode or "linear", padding_mode or "zeros", x.shape[2:]
        y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
        for n, *at in np.ndindex(len(x), *grid.shape[1:-1]):
            value: Array = x[n]
            for g, size in zip(grid[(n, *at)][::-1], sizes, strict=True):  # each turn takes the first spatial axis away
                low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
                c = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
                c = np.rint(c) if mode == "nearest" else c
                if not low <= c <= high and padding != "zeros" and ("cubic" not in mode or padding != "border"):
                    c = min(max(c, 0), size - 1) if padding == "border" else _mirror(c, low, high)
                value = self._along(value, c, mode, padding, low, high)
            y[(n, slice(None), *at)] = value
        return (y,)

    def _along(self, value: Array, c: float, mode: str, padding: str, low: float, high: float) -> Array:
        first, size = int(np.floor(c)), value.shape[1]
        t, a = c - first, -0.75
        taps = {first: 1 - t, first + 1: t}
        if mode == "nearest":
            taps = {int(np.rint(c)): 1.0}
        elif "cubic" in mode:
            near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
            far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
            taps = dict(zip(range(first - 1, first + 3), (far[0], *near, far[1]), strict=True))
        result = np.zeros_like(value[:, 0])
        for tap, weight in taps.items():
            cell = min(max(tap, 0), size - 1) if padding == "border" else tap
            cell = round(_mirror(tap, low, high)) if padding == "reflection" else cell
            if 0 <= cell < size:
                result = result + weight * value[:, cell]
        return result


class GatherElements(OpRun):
    """onnx's own takes at most 64 elements of an axis."""

    def _run(self, x: Array, indices: Array, axis: int | None = None) -> tuple[Array]:
        return (np.take_along_axis(x, indices, axis or 0),)


class AffineGrid(OpRun):
    """onnx's own is a function with float32 constants."""

    def _run(self, theta: Array, size: Array, align_corners: int | None = None) -> tuple[Array]:
        sizes = [int(n) for n in size[2:]]
        grid = np.empty((len(theta), *sizes, len(sizes)))
        for place in np.ndindex(*sizes):
            at = [
                2 * p / (n - 1) - 1 if align_corners else (2 * p + 1) / n - 1 for p, n in zip(place, sizes, strict=True)
            ]
            grid[(slice(None), *place)] = theta @ np.array([*at[::-1], 1])
        return (grid,)


def _mirror(c: float, low: float, high: float) -> float:
    while high > low and not low <= c <= high:
        c = 2 * low - c if c < low else 2 * high - c
    return c


REFERENCES: list[type[OpRun]] = [
    GatherElements,
    GridSample,
    AffineGrid,
    Erf,
    Gelu,
    ConvTranspose,
    LRN,
    MeanVarianceNormalization,
    GroupNormalization,
    LpNormalization,
    MaxPool,
    AveragePool,
    LpPool,
    GlobalMaxPool,
    GlobalLpPool,
    Pad,
]
