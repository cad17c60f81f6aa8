"""Find the logits: the tensor that is explained, and the function that turns it into probabilities.

A probability that the user sees has to be the network's own output, if that output is a probability:

1. If the output is a final Softmax or Sigmoid over the classes, the logits are the input of this operator.
2. Otherwise the network runs on probe images (`probing`). If the output is the softmax or the sigmoid of a tensor shortly before
   it, this tensor holds the logits (exp and sum written out, 1/(1+exp(-x)), a Clip after a Softmax).
3. Otherwise the output itself is explained. It is "normalised" if its numbers lie in [0,1] and sum to 1 on every probe. It is
   "independent" if they lie in [0,1], and either the operators that computed them can give nothing else (`intervals`; probes
   alone would take small logits for probabilities, too) or the probes reach both ends of [0,1] and never pass them.
4. An output that is computed from probabilities without being them (`shares`) is divided by its sum, or by its largest possible
   value. If that gives no probabilities, it is explained as "scores", for which no probability is stated.
5. Anything else is logits, whose softmax is the probability by convention.

Views, codes of 8 bits and a constant factor (percent) between the probabilities and the output do not change these cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from xai_deploy.format.bundle import LOGITS, Activation, Explained, Output

from ...errors import GraphError, RequestError, SeveralOutputsError
from ...graph.reading import STRAIGHT, WRITTEN, attribute, numbers_of, signals, written_rounding
from ...passes.clean import CleanGraph
from .decisions import refuse_decisions, refuse_two_values
from .dense import Dense, find_dense, said_of_coarse
from .detectors.detector import UNNAMED, Detector, Names, decoders
from .intervals import Intervals
from .joined import check_joined, may_join
from .probing import Probes
from .rows import AUTO, find_detector, not_finite, write_rows
from .shares import divided, share_of
from .vector import find_vector

# Operators that may stand between the network's probability function and its output: they leave the classes in their order.
VIEWS = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_SCORES = (*_FLOATS, ir.DataType.DOUBLE)
"""A softmax may be computed in double from logits in float32."""
_LINEAR = {"Gemm", "MatMul", "Conv"}
_NEAR = 32
"""The number of tensors before the output that are compared with it; a softmax written out has six."""


@dataclass(frozen=True)
class Logits:
    """The explained output.

    Attributes:
        value: The logits, of shape [N,classes] or [N,classes,1,1] and the like; dense ones as `class_axis` says.
        output: The network's output that is computed from them.
        kind: The content of that output.
        activation: The function that turns the logits into probabilities.
        classes: The number of classes.
        scores: What the manifest says of them.
        class_axis: The axis of the classes of dense scores; None for one class without an axis.
        note: What to tell of the output; None: nothing.
    """

    value: ir.Value
    output: ir.Value
    kind: Literal["logits", "probabilities", "derived"]
    activation: Activation
    classes: int
    scores: Explained
    class_axis: int | None = None
    note: str | None = None

    @property
    def is_dense(self) -> bool:
        """Whether there are scores at many places, which regions weigh."""
        return self.scores.by_region


@dataclass(frozen=True)
class _Decided:
    """Logits, and whether the tensor decided upon holds the probabilities or their logarithms."""

    value: ir.Value
    activation: Activation
    kind: Literal["logits", "probabilities", "derived"] = "probabilities"


def explained(outputs: Sequence[Output]) -> Output:
    """The output whose scores are explained."""
    return next(output for output in outputs if output.kind != "other")


def find_scores(
    clean: CleanGraph,
    name: str | None,
    task: Literal["classes", "numbers", "embedding"] | None = None,
    decoder: str = AUTO,
    names: Names = UNNAMED,
) -> Logits:
    """The logits of the output `name` (None: the only output), or the rows of a detector, which are added to the graph.

    Args:
        clean: The network.
        name: One of its outputs; None: the only one.
        task: What it holds, if the user says so.
        decoder: How a detector's rows are read; "auto": as the outputs show.
        names: How many classes are named.

    Raises:
        RequestError: There are several outputs and none was named, or no such output.
        GraphError: The output is not one score per class.
    """
    asked = decoder != AUTO or (name is None and task is None)
    if asked and (detector := find_detector(clean, decoder, names, name)) is not None:
        return _of_rows(clean, detector)
    output = _chosen(clean, name)
    if task != "classes" and (vector := find_vector(clean, output, task)) is not None:
        scores = Explained(LOGITS, "vector", (vector.length,), vector.normalised)
        return Logits(vector.value, output, "logits", "scores", vector.length, scores)
    dense = find_dense(clean, output) if task is None else None
    refuse_decisions(output if dense is None else dense.value, alone=len(clean.graph.outputs) == 1)
    if dense is not None:
        return _of_dense(clean, output, dense)
    own = _unviewed(clean, output)
    probed = _Probed(clean)
    decided = _decide(clean, own, probed)  # cases 1 to 3
    if decided is None and (inner := _unviewed(clean, own, factors=True)) is not own:
        decided = _decide(clean, inner, probed)
        if decided is not None and decided.kind == "probabilities":
            decided = _Decided(decided.value, decided.activation, "derived")
        elif decided is not None:
            decided = None  # logits or logarithms times a number are other logits
    if decided is None:
        decided = _shared(clean, own, probed)  # case 4
    note = None
    if decided is None:  # case 5
        value = output
        if task is None:
            note = check_joined(clean, output, None)
        while value.dtype not in _FLOATS and (source := _source(value)) is not None:
            value = source  # before a final QuantizeLinear or Cast: scores, not codes
        decided = _Decided(value, "none", "logits")
    elif task is None and may_join(decided.activation, decided.kind):
        note = check_joined(clean, output, None, shares=True)
    decided = replace(decided, value=_unwidened(decided.value))
    classes = _classes(clean, decided.value)
    if classes is None:
        raise _no_scores(clean, output, decided.value)
    scores = Explained(LOGITS, "classes", (classes,))
    return Logits(decided.value, output, decided.kind, decided.activation, classes, scores, note=note)


def _no_scores(clean: CleanGraph, output: ir.Value, value: ir.Value) -> GraphError:
    """Why the tensor `value` of an output is not one score per class, and what to do."""
    if len(clean.shapes.per_image(value.name) or ()) == 2 and not Probes(clean, [value]).enough:
        return not_finite(output)
    others = [str(v.name) for v in clean.graph.outputs if v is not output and _classes(clean, v) is not None]
    advice = f"name another with --output ({', '.join(others)}), or export" if others else "export"
    dims = clean.shapes.dims(value)
    if len(dims) == 2 and None not in dims:  # RoiAlign of fixed regions, or a Reshape to one row
        return GraphError(
            f"the output {output.name!r} has shape {_said(clean, value)} however many images there are: its rows "
            f"are no images; {advice} the network with a row of scores for each image"
        )
    return GraphError(
        f"the output {output.name!r} has shape {_said(clean, value)}; a classifier gives one score per class, "
        f"[N, classes]: {advice} the classifier alone. A detector with decoded boxes is recognised, or read as --decoder says: "
        f"{', '.join(decoders)}"
    )


def _of_dense(clean: CleanGraph, output: ir.Value, dense: Dense) -> Logits:
    """Scores at many positions as what is explained."""
    note = check_joined(clean, output, dense) or said_of_coarse(clean, output, dense)
    scores = Explained(LOGITS, "dense", dense.shape)
    return Logits(dense.value, output, dense.holds, dense.activation, dense.shape[0], scores, dense.class_axis, note)


def _of_rows(clean: CleanGraph, detector: Detector) -> Logits:
    """The rows of a detector as what is explained; they are added to the graph."""
    (value, grids), own, entries = write_rows(clean, detector), detector.outputs[0], detector.rows.entries
    scores = Explained(LOGITS, "rows", (entries, detector.count), rows=replace(detector.rows, grids=grids))
    return Logits(value, own, "derived", detector.activation, entries, scores, 1, detector.note)


def _chosen(clean: CleanGraph, name: str | None) -> ir.Value:
    outputs = {str(v.name): v for v in clean.graph.outputs}
    if name is None and len(outputs) > 1:
        raise SeveralOutputsError(outputs, [len(clean.shapes.dims(value)) for value in outputs.values()])
    if name is not None and name not in outputs:
        raise RequestError(f"the network has no output or inner tensor {name!r}; it has {', '.join(outputs)}")
    return outputs[name] if name is not None else clean.graph.outputs[0]


def _said(clean: CleanGraph, value: ir.Value) -> str:
    """A tensor's shape for people; N is the batch."""
    dims = clean.shapes.dims(value)
    if clean.shapes.per_image(value.name) is not None:
        dims = (None, *dims[1:])
    sizes = [str(d) if d is not None else "N" if i == 0 else f"(grows with N, {clean.shapes.two[str(value.name)][i]} at 2)"
             for i, d in enumerate(dims)]  # fmt: skip
    return f"[{', '.join(sizes)}]"


def _source(value: ir.Value, factors: bool = False) -> ir.Value | None:
    """The tensor from which a view, a code or (with `factors`) a positive multiple is computed; None for any other tensor."""
    node = value.producer()
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type in VIEWS:
        return node.inputs[0]
    written = written_rounding(value)
    if (
        written is not None and written[1].metadata_props[STRAIGHT] != WRITTEN
    ):  # else it may be a decision: whole percents
        return written[0]
    if not factors or node.op_type not in ("Mul", "Div"):
        return None
    data = signals(node)
    if len(data) != 1 or (node.op_type == "Div" and data[0] is not node.inputs[0]):
        return None
    [factor] = [numbers_of(v) for v in node.inputs if v is not data[0]]
    return data[0] if factor is not None and factor.size == 1 and factor.reshape(-1)[0] > 0 else None


def _unwidened(value: ir.Value) -> ir.Value:
    """The tensor before a Cast to double; any other value itself."""
    node = value.producer()
    if value.dtype != ir.DataType.DOUBLE or node is None or node.op_type != "Cast" or node.inputs[0] is None:
        return value
    return node.inputs[0] if node.inputs[0].dtype in _FLOATS else value


def _unviewed(clean: CleanGraph, value: ir.Value, factors: bool = False) -> ir.Value:
    """The first tensor on the way back that is no view, no code and no multiple of another one with as many classes."""
    classes = _size(clean.shapes.per_image(value.name) or ())
    while (source := _source(value, factors)) is not None:
        shape = clean.shapes.per_image(source.name)
        if shape is None or _size(shape) != classes or max(shape, default=1) != classes:
            break
        value = source
    return value


def _decide(clean: CleanGraph, own: ir.Value, probed: _Probed) -> _Decided | None:
    """How a tensor holds probabilities or their logarithms; None if it is not seen to hold them."""
    node = own.producer()
    if node is None or own.dtype not in _SCORES:
        return None
    if node.op_type == "Sigmoid" and node.inputs[0] is not None:
        return _Decided(node.inputs[0], "sigmoid")
    if node.op_type in ("Softmax", "LogSoftmax") and node.inputs[0] is not None and _over_classes(clean, node):
        if node.op_type == "LogSoftmax":  # softmax(LogSoftmax(x)) = softmax(x): its input serves as well
            return _Decided(node.inputs[0], "none", "logits")
        return _Decided(node.inputs[0], "softmax")
    measured = probed.of(own)
    return _by_probes(clean, own, *measured) if measured is not None else None


def _shared(clean: CleanGraph, own: ir.Value, probed: _Probed) -> _Decided | None:
    """How a tensor is computed from probabilities that it does not hold; None if it is not seen to be."""
    measured = probed.of(own) if own.dtype in _SCORES else None
    if measured is None:
        return None
    near, probes, classes = measured
    share = share_of(clean, own, probes, near, classes, _coded(own))
    return None if share is None else _Decided(divided(clean, own, share.divisor), share.activation, "derived")


def _coded(own: ir.Value) -> bool:
    """Whether a tensor, or one shortly before it, was rounded to codes."""
    return any(v.producer() is not None and "Quantize" in v.producer().op_type for v in _before(own))  # type: ignore[union-attr]


class _Probed:
    """Tensors run on the probes, each once."""

    def __init__(self, clean: CleanGraph) -> None:
        self._clean = clean
        self._known: dict[ir.Value, tuple[list[ir.Value], Probes, int] | None] = {}

    def of(self, own: ir.Value) -> tuple[list[ir.Value], Probes, int] | None:
        """The tensors shortly before one that also hold a number per class, the values of all, and how many classes.

        None for plain logits, which need not be run, and if nothing can be concluded.
        """
        if own not in self._known:
            self._known[own] = self._run(own)
        return self._known[own]

    def _run(self, own: ir.Value) -> tuple[list[ir.Value], Probes, int] | None:
        clean = self._clean
        classes, node = _classes(clean, own), own.producer()
        if classes is None or node is None or _is_linear(clean, own, node):
            return None
        near = [v for v in _before(own) if _classes(clean, v) == classes and clean.shapes.per_image(v.name) is not None]
        probes = Probes(clean, [own, *near])
        return (near, probes, classes) if probes.enough else None


def _by_probes(
    clean: CleanGraph, own: ir.Value, near: Sequence[ir.Value], probes: Probes, classes: int
) -> _Decided | None:
    refuse_two_values(own, probes.of(own))
    # the softmax of one class is always 1
    names: tuple[Literal["softmax", "sigmoid"], ...] = ("softmax", "sigmoid") if classes > 1 else ("sigmoid",)
    for value in near:
        for name in names:
            if probes.is_function(own, value, name):
                return _Decided(_unshifted(clean, value) if name == "softmax" else value, name)
    if probes.in_unit(own):
        if classes > 1 and probes.sums_to_one(own, 0.05 if _coded(own) else 1e-3):
            return _Decided(own, "normalised")
        low, high = Intervals(clean.shapes).of(own)
        if (low >= -1e-6 and high <= 1 + 1e-6) or probes.fills_unit(own):
            return _Decided(own, "independent")
    # log(sigmoid(x)): the sigmoid is not the network's output, but computed from it
    for value in near:
        if probes.is_function(own, value, "sigmoid", logarithm=True):
            return _Decided(value, "sigmoid", "derived")
    return None


def _is_linear(clean: CleanGraph, own: ir.Value, node: ir.Node) -> bool:
    """Whether a tensor is a linear layer's unbounded result: these are plain logits, which need not be run."""
    if node.op_type in ("Add", "Sub"):  # the bias
        data = signals(node)
        node = (data[0].producer() if len(data) == 1 else None) or node
    return node.op_type in _LINEAR and Intervals(clean.shapes).of(own)[1] == float("inf")


def _before(own: ir.Value) -> Iterator[ir.Value]:
    """The nearest floats that a tensor is computed from, breadth first."""
    seen, pending = {own}, [own]
    for value in pending:
        node = value.producer()
        for source in signals(node) if node is not None else ():
            if source not in seen and len(seen) <= _NEAR:
                seen.add(source)
                pending.append(source)
                if source.dtype in _SCORES:
                    yield source


def _unshifted(clean: CleanGraph, value: ir.Value) -> ir.Value:
    """The logits before the same number was subtracted from all classes, which does not change their softmax."""
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        if node.op_type == "Sub" and len(node.inputs) == 2 and node.inputs[1] is not None:
            shift = clean.shapes.two.get(str(node.inputs[1].name))
            # one number per image: all its sizes but the batch are 1
            if shift is None or any(d != 1 for d in shift[1:]) or _classes(clean, node.inputs[0]) is None:
                return value
        elif node.op_type != "LogSoftmax" or not _over_classes(clean, node):
            return value
        value = node.inputs[0]
    return value


def _over_classes(clean: CleanGraph, node: ir.Node) -> bool:
    """Whether a Softmax runs over the classes, all of them.

    Raises:
        GraphError: It runs over the batch, or over one element: then it gives the same for every image.
    """
    source = node.inputs[0]
    shape = clean.shapes.two.get(str(source.name)) if source is not None else None
    if shape is None:
        return True
    new = clean.graph.opset_imports.get("", 18) >= 13
    # before opset 13 a Softmax runs over `axis` and all axes after it
    axis = int(attribute(node, "axis", -1 if new else 1)) % max(len(shape), 1)
    size = shape[axis] if new else max(1, _size(shape[axis:]))
    if axis == 0 or size == 1:
        where = "axis 0, which is the batch" if axis == 0 else f"axis {axis}, which has one element"
        raise GraphError(
            f"the {node.op_type} after {source.name if source else ''!r} runs over {where}: it gives the same for every image. "
            "Mend its axis, or export the network without it"
        )
    return size == _size(shape[1:])


def _size(shape: Sequence[int]) -> int:
    size = 1
    for d in shape:
        size *= d
    return size


def _classes(clean: CleanGraph, value: ir.Value) -> int | None:
    """The number of scores per image if all dimensions but one are 1; else None."""
    shape = clean.shapes.per_image(value.name)
    if shape == ():
        return 1 if value.dtype in _FLOATS else None  # a binary head, squeezed; integers are a class already
    if shape is None or sum(d != 1 for d in shape) > 1:
        return None
    return max(shape)
