"""What each operator does to the positions of its inputs; see `strand`.

An operator without a rule loses the positions, and its result is then no feature map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from ..reading import attribute, constant_of
from . import strand as s
from .frame import Frame, Window
from .strand import Coordinates, Positions, Strand

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A node, the positions of its inputs, and the measured shapes.

    Attributes:
        node: The node.
        states: Positions of each input; () for constants.
        shapes: Shape of each input; None if it is left out.
        results: Shape of each output.
        of: The positions and the shape of any tensor before the node.
    """

    node: ir.Node
    states: tuple[Positions, ...]
    shapes: tuple[Shape | None, ...]
    results: tuple[Shape, ...]
    of: Callable[[ir.Value], tuple[Positions, Shape]]

    @property
    def shape(self) -> Shape:
        assert self.shapes[0] is not None
        return self.shapes[0]

    @property
    def rank(self) -> int:
        return len(self.results[0])

    def ints(self, position: int, name: str) -> list[int] | None:
        """Integers that are an attribute in some opsets and a constant input in others; None if they are neither."""
        if name in self.node.attributes:
            return list(map(int, np.atleast_1d(attribute(self.node, name, []))))
        value = self.node.inputs[position] if position < len(self.node.inputs) else None
        given = constant_of(value)
        return None if given is None else list(map(int, np.atleast_1d(given)))


Rule: TypeAlias = Callable[[Step], Positions]

RULES: dict[str, Rule] = {}
RESIZES = "xai/resizes"
"""Mark in the `meta` of a product with a constant matrix that stands for a resize along one axis."""


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, made))
        return made

    return register


def _each(state: Positions, change: Callable[[Coordinates], Coordinates]) -> Positions:
    return tuple(strand.map(change) for strand in state)


@rule(
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "CumProd", "CumSum", "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Hardmax", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "Max", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod",
    "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "RMSNormalization", "Reciprocal", "Relu", "Round", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh",
    "ThresholdedRelu", "Trilu", "Where", "Xor",
)  # fmt: skip
def _elementwise(step: Step) -> Positions:
    return s.merged(step.states, step.rank)


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(step: Step) -> Positions:
    return _each(step.states[0], lambda a: s.reshaped(a, step.shape, step.results[0]))


@rule("Transpose")
def _transpose(step: Step) -> Positions:
    perm = attribute(step.node, "perm", range(step.rank)[::-1])
    return _each(step.states[0], lambda a: a.transpose(list(perm)))


@rule("Expand")
def _expand(step: Step) -> Positions:
    return _each(step.states[0], lambda a: s.at_rank(a, step.rank))


@rule("Tile")
def _tile(step: Step) -> Positions:
    repeats = step.ints(1, "repeats")
    if repeats is None:
        return ()
    return _each(
        step.states[0], lambda a: np.tile(a, [r if n > 1 else 1 for r, n in zip(repeats, a.shape, strict=True)])
    )


@rule("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DepthToSpace", "SpaceToDepth")
def _convolution(step: Step) -> Positions:
    # the sum over the channels, axis 1; the window along the other axes is `_resized`
    return _resized(step, tuple(s.contracted(strand, [1], True) for strand in step.states[0]))


@rule("AveragePool", "LpPool", "MaxPool", "Resize", "Upsample")
def _window(step: Step) -> Positions:
    return _resized(step, step.states[0])


def _resized(step: Step, state: Positions) -> Positions:
    first = 2 if step.node.op_type != "Resize" else 1  # a Resize may change axis 1 too, the height of [N,h,w,K]
    windows = {axis: _window_along(step, axis) for axis in range(first, step.rank)}
    return s.kept(s.resized(strand, step.shape, step.results[0], windows) for strand in state)


_WINDOWED = {"Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "AveragePool", "LpPool", "MaxPool"}
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}  # the input that holds them, [K,C,kh,kw]


def _window_along(step: Step, axis: int) -> Window | None:
    """The window of a convolution or a pooling along an axis; None for operators that only divide an axis into new cells."""
    node, place = step.node, axis - 2
    if node.op_type not in _WINDOWED:
        return None
    spatial = step.rank - 2
    weights = step.shapes[_WEIGHTS[node.op_type]] if node.op_type in _WEIGHTS else None
    kernel = weights[2:] if weights is not None else attribute(node, "kernel_shape", [1] * spatial)
    # a kernel of k cells at dilation d covers (k - 1) d + 1 cells
    size = (kernel[place] - 1) * attribute(node, "dilations", [1] * spatial)[place] + 1
    stride = attribute(node, "strides", [1] * spatial)[place]
    before = attribute(node, "pads", [0] * 2 * spatial)[place]  # the begins of all axes, then their ends
    auto, transposed = attribute(node, "auto_pad", "NOTSET"), node.op_type == "ConvTranspose"
    if transposed and (auto != "NOTSET" or "output_shape" in node.attributes):
        return None  # ONNX chooses the padding so that the results fill the old stretch
    # SAME pads (out - 1) s + size - in cells; UPPER puts the odd one at the end, LOWER at the beginning
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        added = max((step.results[0][axis] - 1) * stride + size - step.shape[axis], 0)
        before = added // 2 if auto == "SAME_UPPER" else added - added // 2
    return Window(int(size), int(stride), int(before), transposed)


@rule("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def _global(step: Step) -> Positions:
    return s.kept(s.contracted(strand, range(2, step.rank), False) for strand in step.states[0])


@rule(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "ArgMax", "ArgMin",
)  # fmt: skip
def _reduction(step: Step) -> Positions:
    rank = len(step.shape)
    if step.node.op_type.startswith("Arg"):
        axes = [attribute(step.node, "axis", 0)]
    else:
        given = step.ints(1, "axes")
        if given is None and len(step.node.inputs) > 1 and step.node.inputs[1] is not None:
            return ()  # the axes are computed, so they are unknown here
        axes = given or ([] if attribute(step.node, "noop_with_empty_axes", 0) else list(range(rank)))
    over = tuple(axis % rank for axis in axes)
    reduced = tuple(s.contracted(strand, over, True) for strand in step.states[0])
    if not attribute(step.node, "keepdims", 1):
        reduced = _each(reduced, lambda a: a.squeeze(over))
    return s.kept(reduced)


@rule("MatMul", "MatMulInteger", "Gemm")
def _product(step: Step) -> Positions:
    """[...,i,k] @ [...,k,j]: positions that stay the same along k are kept; positions that the product sums over are lost."""
    left, right = step.states[:2]
    if step.node.meta.get(RESIZES):  # the matrix of a resize is the operand without positions
        state, shape, axis = (left, step.shape, step.rank - 1) if left else (right, step.shapes[1], step.rank - 2)
        assert shape is not None
        return s.kept(s.resized(strand, shape, step.results[0], {axis: None}) for strand in state)
    if step.shape == () or min(len(step.shape), len(step.shapes[1] or ())) < 2:
        return ()
    if step.node.op_type == "Gemm":
        left, right = (
            _each(state, lambda a: a.T) if attribute(step.node, trans, 0) else state
            for state, trans in ((left, "transA"), (right, "transB"))
        )
    coarsen = not (left and right)  # only a product with weights can turn patches into coarser cells
    left = tuple(s.contracted(strand, [strand.places[0].ndim - 1], coarsen) for strand in left)
    right = tuple(s.contracted(strand, [strand.places[0].ndim - 2], coarsen) for strand in right)
    return s.merged([s.kept(left), s.kept(right), *step.states[2:]], step.rank)


@rule("Einsum")
def _einsum(step: Step) -> Positions:
    equation = str(attribute(step.node, "equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if "." in equation or not arrow or any(len(set(n)) < len(n) for n in (*names, result)):
        return ()
    coarsen = sum(map(bool, step.states)) < 2
    return s.merged(
        (
            s.kept(_to_labels(strand, n, result, coarsen) for strand in state)
            for state, n in zip(step.states, names, strict=True)
        ),
        step.rank,
    )


def _to_labels(strand: Strand, labels: str, result: str, coarsen: bool) -> Strand:
    # labels that the result lacks are summed over; labels that this input lacks become axes of size 1
    over = tuple(i for i, label in enumerate(labels) if label not in result)
    kept = [label for label in labels if label in result]
    order = [kept.index(label) for label in result if label in kept]
    added = tuple(i for i, label in enumerate(result) if label not in kept)
    return s.contracted(strand, over, coarsen).map(lambda a: np.expand_dims(a.squeeze(over).transpose(order), added))


@rule("Concat")
def _concat(step: Step) -> Positions:
    """Along channels, parts that agree stay one strand; along an axis of positions, the parts are joined end to end."""
    axis = int(attribute(step.node, "axis", 0)) % step.rank
    sizes = [shape[axis] if shape is not None else 0 for shape in step.shapes]
    if all(axis not in strand.axes for state in step.states for strand in state):
        joint = s.merged(step.states, step.rank)
        if len(joint) == 1 and all(len(state) == 1 for state in step.states):
            return joint
    strands = []
    for i in range(max(map(len, step.states))):
        given = [state[i] if i < len(state) else None for state in step.states]
        one = next(strand for strand in given if strand is not None)  # gives the frames: parts of one grid share them
        parts = [strand or one.map(lambda a: s.nowhere(step.rank)) for strand in given]
        joined = (_joined(list(places), axis, sizes) for places in zip(*(p.places for p in parts), strict=True))
        strands.append(replace(one, places=tuple(joined)))
    return s.kept(strands)


def _joined(parts: list[Coordinates], axis: int, sizes: list[int]) -> Coordinates:
    shape = np.broadcast_shapes(*(p.take([0], axis).shape for p in parts))
    sized = [
        np.broadcast_to(p, (*shape[:axis], size, *shape[axis + 1 :])) for p, size in zip(parts, sizes, strict=True)
    ]
    return s.squash(np.concatenate(sized, axis))


@rule("Slice")
def _slice(step: Step) -> Positions:
    starts, ends = step.ints(1, "starts"), step.ints(2, "ends")
    if starts is None or ends is None:
        return ()
    rank = len(step.shape)
    axes, steps = step.ints(3, "axes"), step.ints(4, "steps")
    cut: dict[int, slice] = {}
    for start, end, axis, by in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True):
        size = step.shape[axis % rank]
        stop = None if by < 0 and end < -size else end  # backwards past the first element: the first one included
        cut[axis % rank] = slice(start, stop, by)
    return s.kept(_sliced(strand, cut, step.shape) for strand in step.states[0])


def _sliced(strand: Strand, cut: dict[int, slice], shape: Shape) -> Strand:
    """A stride over cells that count up makes a coarser grid, as a strided convolution does; other slices keep the positions."""
    for axis, part in cut.items():
        # exactly one of the coordinates counts along the axis
        strides = part.step > 1 and sum(s.unit_steps(a) == axis for a in strand.places) == 1
        strand = strand.map_with_frames(lambda a, frame: _part(a, frame, axis, part, strides))  # noqa: B023
    return strand.map(s.squash)


def _part(a: Coordinates, frame: Frame, axis: int, part: slice, strides: bool) -> tuple[Coordinates, Frame]:
    if a.shape[axis] == 1:
        return a, frame
    a = a[(*(slice(None),) * axis, part)]
    if not strides or not a.size:
        return a, frame
    first = int(a.min())
    return (a - first) // part.step, frame.counted(first, part.step)


@rule("Pad")
def _pad(step: Step) -> Positions:
    """Along an axis that counts cells, the border continues the count; elsewhere the added cells lie nowhere."""
    pads = step.ints(1, "pads")
    if pads is None:
        return ()
    rank = len(step.shape)
    axes = (
        [axis % rank for axis in step.ints(3, "axes") or range(rank)]
        if len(step.node.inputs) > 3
        else list(range(rank))
    )
    return _each(step.states[0], lambda a: _padded(a, axes, pads))


@rule("CenterCropPad")
def _centred(step: Step) -> Positions:
    """The middle of an axis that is longer, and zeros on both sides of one that is shorter."""
    wanted = step.ints(1, "shape")
    if wanted is None:
        return ()
    rank = len(step.shape)
    axes = [int(axis) % rank for axis in attribute(step.node, "axes", range(rank))]
    over = [step.shape[axis] - size for axis, size in zip(axes, wanted, strict=True)]
    cut = {a: slice(o // 2, o // 2 + n, 1) for a, o, n in zip(axes, over, wanted, strict=True) if o > 0}
    pads = [max(-o, 0) // 2 for o in over] + [max(-o, 0) - max(-o, 0) // 2 for o in over]
    inside = s.kept(_sliced(strand, cut, step.shape) for strand in step.states[0])
    return _each(inside, lambda a: _padded(a, axes, pads))


def _padded(a: Coordinates, axes: list[int], pads: list[int]) -> Coordinates:
    for i, axis in enumerate(axes):
        begin, end = pads[i], pads[len(axes) + i]
        if a.shape[axis] == 1 or (begin, end) == (0, 0):
            continue
        if s.unit_steps(a) == axis:
            a = s.ladder(a.ndim, axis, a.shape[axis] + begin + end, int(a.min()) - begin)
            continue
        # negative pads crop
        a = a[(*(slice(None),) * axis, slice(max(-begin, 0), a.shape[axis] - max(-end, 0)))]
        widths = [(max(begin, 0), max(end, 0)) if k == axis else (0, 0) for k in range(a.ndim)]
        a = np.pad(a, widths, constant_values=s.NONE)
    return s.squash(a)


@rule("Gather")
def _gather(step: Step) -> Positions:
    axis = int(attribute(step.node, "axis", 0)) % len(step.shape)
    indices = constant_of(step.node.inputs[1])
    taken = len(step.results[0]) - len(step.shape) + 1  # the rank of the indices

    def take(a: Coordinates) -> Coordinates:
        if a.shape[axis] > 1:
            return s.nowhere(step.rank) if indices is None else s.squash(np.take(a, indices.astype(int), axis))
        # nothing changes along the axis, so nothing changes along the axes of the indices that replace it
        return a.reshape((*a.shape[:axis], *(1,) * taken, *a.shape[axis + 1 :]))

    return s.kept(_each(step.states[0], take))


@rule("GatherND")
def _gather_nd(step: Step) -> Positions:
    """Elements or slices at constant places of the first axes; see the operator's specification."""
    indices, batch = constant_of(step.node.inputs[1]), int(attribute(step.node, "batch_dims", 0))
    if indices is None or not indices.size:
        return ()
    last = batch + indices.shape[-1]
    taken = indices.shape[batch:-1]

    def take(a: Coordinates) -> Coordinates:
        if all(size == 1 for size in a.shape[batch:last]):
            return a.reshape((*a.shape[:batch], *(1,) * len(taken), *a.shape[last:]))
        if batch:
            return s.nowhere(step.rank)
        whole = np.broadcast_to(a, (*step.shape[:last], *a.shape[last:]))
        return s.squash(whole[tuple(np.moveaxis(indices.astype(int), -1, 0))])

    return s.kept(_each(step.states[0], take))


@rule("TopK", "Compress")
def _selection(step: Step) -> Positions:
    """Which values are kept is not known here: along their axis positions are lost, if they change there."""
    rank = len(step.shape)
    if step.rank != rank:  # Compress without an axis
        return ()
    axis = int(attribute(step.node, "axis", -1)) % rank
    return s.kept(_each(step.states[0], lambda a: a if a.shape[axis] == 1 else s.nowhere(rank)))
