"""The sliding window of convolutions and poolings, with all defaults of their attributes resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import Dims

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Output position o reads inputs o * stride + m * dilation - begin, m = 0 ... kernel - 1, along each spatial axis.

    Attributes:
        kernel, strides, dilations: One entry per spatial axis.
        begin: Padding before the first input.
        source: Size of the input.
        result: Size of the output.
    """

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begin: Sizes
    source: Sizes
    result: Sizes

    @property
    def end(self) -> Sizes:
        """How far the last window reaches beyond the end of the input; negative if it ends before the last input."""
        spans = zip(self.result, self.strides, self.span, self.source, self.begin, strict=True)
        return tuple((o - 1) * s + k - i - b for o, s, k, i, b in spans)

    @property
    def span(self) -> Sizes:
        """Extent of the kernel, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def axes(self) -> list[int]:
        """The spatial axes of [N,C,...]."""
        return list(range(2, 2 + len(self.kernel)))


def find_window(step: Step, kernel: Sizes) -> Window:
    """The window of a convolution or pooling node.

    Raises:
        RuleError: A spatial size grows with the batch, or padding is chosen for a dilated window.
    """
    source, result = spatial(step, step.x), spatial(step, step.y)
    strides, dilations = _sizes(step, "strides", len(kernel)), _sizes(step, "dilations", len(kernel))
    auto = _text(step.attr("auto_pad", "NOTSET"))
    begin = tuple(int(p) for p in step.attr("pads", [0] * 2 * len(kernel))[: len(kernel)])
    if auto != "NOTSET":
        if auto != "VALID" and any(d > 1 and k > 1 for d, k in zip(dilations, kernel, strict=True)):
            raise step.refuse(
                "it has auto_pad and dilations, which runtimes pad differently; export it with explicit pads"
            )
        spans = zip(result, strides, kernel, dilations, source, strict=True)
        total = [max((o - 1) * s + (k - 1) * d + 1 - i, 0) for o, s, k, d, i in spans]
        # SAME_UPPER puts an odd one at the end, SAME_LOWER at the beginning
        begin = tuple(0 if auto == "VALID" else t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
    return Window(kernel, strides, dilations, begin, source, result)


def find_transposed_window(step: Step, kernel: Sizes) -> Window:
    """The window of the convolution whose transpose a ConvTranspose node is: its source is the node's output."""
    small, big = spatial(step, step.x), spatial(step, step.y)
    strides, dilations = _sizes(step, "strides", len(kernel)), _sizes(step, "dilations", len(kernel))
    extra = [int(p) for p in step.attr("output_padding", [0] * len(kernel))]
    auto = _text(step.attr("auto_pad", "NOTSET"))
    begin = tuple(int(p) for p in step.attr("pads", [0] * 2 * len(kernel))[: len(kernel)])
    if auto == "VALID" and step.attr("output_shape") is None:
        begin = (0,) * len(kernel)
    elif auto != "NOTSET" or step.attr("output_shape") is not None:
        spans = zip(small, strides, kernel, dilations, extra, big, strict=True)
        # a result that is larger than what the windows reach ends in zeros
        total = [max((i - 1) * s + e + (k - 1) * d + 1 - o, 0) for i, s, k, d, e, o in spans]
        # as ONNX defines it: only SAME_UPPER puts an odd one at the end
        begin = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
    return Window(kernel, strides, dilations, begin, big, small)


def spatial(step: Step, value: ir.Value) -> Sizes:
    """The sizes after batch and channels.

    Raises:
        RuleError: One grows with the batch.
    """
    dims = step.dims(value)[2:]
    if None in dims:
        raise step.refuse("a spatial size grows with the batch")
    return tuple(d for d in dims if d is not None)


def fit(op: Ops, value: ir.Value, begin: Sizes, end: Sizes, fill: float = 0.0) -> ir.Value:
    """Pad the spatial axes by these amounts before and after; negative amounts crop."""
    axes = list(range(2, 2 + len(begin)))
    if any(p < 0 for p in (*begin, *end)):
        starts = [max(-p, 0) for p in begin]
        ends = [-max(-p, 0) or 1 << 62 for p in end]  # an end of 0 would leave nothing; 1 << 62 is the whole axis
        value = op.Slice(value, starts, ends, axes)
    if any(p > 0 for p in (*begin, *end)):
        value = op.Pad(value, [max(p, 0) for p in (0, 0, *begin, 0, 0, *end)], fill)
    return value


def spread(op: Ops, value: ir.Value, window: Window, dims: Dims) -> ir.Value:
    """The transpose of summing over windows: each input gets the sum of the outputs whose windows hold it.

    Args:
        op: Where nodes are written.
        value: [N,C,*result].
        window: The window.
        dims: The shape of the input, [N,C,*source].

    Returns:
        [N,C,*source]. Three forms, the fastest first: repetition if the windows tile the input; the sum over the rotated
        window if the stride is 1; else a ConvTranspose with a kernel of ones, per channel as a batch of its own
        (a grouped one is not portable).
    """
    rank = len(window.kernel)
    tiled = window.kernel == window.strides and not any(window.begin) and set(window.dilations) == {1}
    if tiled:
        value = _repeated(op, value, window, dims)
        return fit(op, value, (0,) * rank, tuple(-e for e in window.end))
    if set(window.strides) == {1} and set(window.dilations) == {1}:
        before = tuple(k - 1 - b for k, b in zip(window.kernel, window.begin, strict=True))
        after = tuple(k - 1 - e for k, e in zip(window.kernel, window.end, strict=True))
        inside = op.AveragePool(
            fit(op, value, tuple(min(p, 0) for p in before), tuple(min(p, 0) for p in after)),
            kernel_shape=window.kernel,
            pads=[max(p, 0) for p in (*before, *after)],
            count_include_pad=1,
        )
        # an average with the padding counted, times the size of the window, is the sum
        return op.Mul(inside, float(math.prod(window.kernel)))
    # every channel becomes an image with one channel
    single = op.Reshape(value, [-1, 1, *window.result])
    ones = op.Expand(1.0, [1, 1, *window.kernel])
    return op.Reshape(transpose(op, single, ones, window, 1), spatial_shape(dims, window.source))


def _repeated(op: Ops, value: ir.Value, window: Window, dims: Dims) -> ir.Value:
    """[N,C,o1,o2] -> [N,C,o1*k1,o2*k2]: each element k1 times along the first axis, k2 times along the second."""
    rank = len(window.kernel)
    covered = [o * k for o, k in zip(window.result, window.kernel, strict=True)]
    if rank < 3:
        # [N,C,o1,1,o2,1] -> [N,C,o1,k1,o2,k2] -> [N,C,o1*k1,o2*k2]
        value = op.Unsqueeze(value, [3 + 2 * i for i in range(rank)])
        value = op.Expand(value, [1, 1, *(n for k in window.kernel for n in (1, k))])
        return op.Reshape(value, spatial_shape(dims, covered))
    # axis by axis: in a DenseNet of volumes OpenVINO computed an Expand of 8 axes wrongly
    for axis, factor in enumerate(window.kernel):
        if factor > 1:
            value = op.Unsqueeze(value, [3 + axis])
            value = op.Expand(value, [*[1] * (3 + axis), factor, *[1] * (rank - 1 - axis)])
            value = op.Reshape(value, spatial_shape(dims, [*covered[: axis + 1], *window.result[axis + 1 :]]))
    return value


def transpose(op: Ops, value: ir.Value, weight: ir.Value, window: Window, group: int) -> ir.Value:
    """ConvTranspose from the window's result to exactly its source; inputs that no window reads get 0."""
    end = tuple(max(e, 0) for e in window.end)
    rest = tuple(max(-e, 0) for e in window.end)
    # the operator itself may add less than a stride; a Pad is one more pass over memory
    own = rest if all(r < s for r, s in zip(rest, window.strides, strict=True)) else (0,) * len(rest)
    value = op.ConvTranspose(
        value,
        weight,
        kernel_shape=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=[*window.begin, *end],
        output_padding=own,
        group=group,
    )
    return value if own == rest else fit(op, value, (0,) * len(rest), rest)


def spatial_shape(dims: Dims, sizes: Sizes | list[int]) -> list[int]:
    """Batch and channels of `dims` with other spatial sizes, as Reshape takes them."""
    return [-1 if dims[0] is None else dims[0], dims[1] or -1, *sizes]


def _sizes(step: Step, name: str, rank: int) -> Sizes:
    return tuple(int(s) for s in step.attr(name, [1] * rank))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
