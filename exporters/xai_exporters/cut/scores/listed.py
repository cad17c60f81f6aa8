"""Lists of boxes that a network's own suppression chose: which columns of which outputs hold them.

The length of such a list differs from image to image. What it holds is seen on probe images, for which every threshold of scores
before the suppression is 0: a trained network finds nothing sure in noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ...errors import GraphError
from ...graph.measure import open_session, run
from ...graph.reading import constant_of, descendants, signals, sized_by_content
from ...passes.boxes_head import Columns, add_boxes_head
from ...passes.clean import CleanGraph
from ...passes.network_inputs import probes
from .detectors.detector import is_fraction
from .detectors.forms import top_first
from .probing import probe_images

NMS = "NonMaxSuppression"
ADVICE = "export the detector up to its boxes and scores, whose suppression is then done when it is explained"

_TABLES = {
    "left, top, right, bottom, score, class": ((0, 1, 2, 3), 4, 5),  # Ultralytics with nms=True
    "class, score, left, top, right, bottom": ((2, 3, 4, 5), 1, 0),  # PaddleDetection
    "image, class, score, left, top, right, bottom": ((3, 4, 5, 6), 2, 1),  # OpenVINO's and Caffe's DetectionOutput
    "image, left, top, right, bottom, class, score": ((1, 2, 3, 4), 6, 5),  # YOLOv7
    "image, left, top, right, bottom, score, class": ((1, 2, 3, 4), 5, 6),  # YOLO-NAS, flat; EfficientDet (top first)
    "left, top, right, bottom, score": ((0, 1, 2, 3), 4, None),  # MMDetection, with classes in another output
}
"""The columns of corners, score and class in a row of a table."""
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "RoiAlign")
_MOVING = ("Cast", "Gather", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
_COMPUTING = ("Add", "Sub", "Mul", "Div")
_THRESHOLDS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@dataclass(frozen=True)
class Listed:
    """Where a list of boxes stands in the outputs.

    Attributes:
        corners: Left, top, right, bottom.
        score: The score.
        label: The number of the class; None: there is one class.
        count: The output that says how many rows are filled; None if there is none.
        unit: Of the corners.
    """

    corners: Columns
    score: Columns
    label: Columns | None
    count: str | None
    unit: Literal["pixels", "fractions"] = "pixels"

    @property
    def top_first(self) -> bool:
        """Whether the outputs hold a box as top, left, bottom, right."""
        return self.corners.at[0] > self.corners.at[1]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that hold it."""
        every = (self.corners, self.score, self.label)
        return tuple(dict.fromkeys(columns.output for columns in every if columns is not None))

    def add_head(self, proto: onnx.ModelProto) -> str:
        """Add the output that holds its best boxes, see `add_boxes_head`; returns its name."""
        return add_boxes_head(proto, self.corners, self.score, self.label, self.count, self.unit == "fractions")


Seen = Mapping[str, list[NDArray[Any]]]


def suppressed(graph: ir.Graph) -> set[ir.Value]:
    """Every value that is computed from what a suppression chose."""
    return descendants(value for node in graph if node.op_type == NMS for value in node.outputs)


def rows_before(clean: CleanGraph) -> set[str]:
    """The names of the last tensors [N,R,E] before the suppressions of a network of one stage, before they are moved about.

    A detector of two stages has layers after its first suppression. The proposals there are not what it finds, so none are named.
    Nor are distances from anchors, which constants for each row turn into boxes afterwards.
    """
    after = suppressed(clean.graph)
    if any(node.op_type in _LAYERS and not after.isdisjoint(node.inputs) for node in clean.graph):
        return set()
    free = sized_by_content(clean.graph)  # after a threshold there are as many rows as lie above it

    def holds_rows(value: ir.Value) -> bool:
        fixed = value not in free and value.producer() is not None
        return fixed and len(clean.shapes.per_image(value.name) or ()) == 2

    pending = [value for node in clean.graph if node.op_type == NMS for value in node.inputs[:2] if value is not None]
    seen, found = set(pending), set()
    for value in pending:
        if holds_rows(value):
            found.add(str(_unmoved(value, holds_rows).name))
        elif (node := value.producer()) is not None and node.op_type not in _LAYERS:
            if _meets_anchors(node):
                return set()
            own = [source for source in signals(node) if source not in seen]
            pending += own
            seen.update(own)
    return found


def _meets_anchors(node: ir.Node) -> bool:
    """Whether numbers of rows meet constants of more than one row's four coordinates."""
    constants = [constant_of(value) for value in node.inputs if value is not None] if node.op_type in _COMPUTING else []
    return any(array is not None and array.size > 4 for array in constants)


def _unmoved(value: ir.Value, holds_rows: Callable[[ir.Value], bool]) -> ir.Value:
    """The first tensor on the way back whose rows are not only moved from another one."""
    while (node := value.producer()) is not None and node.op_type in _MOVING:
        source = node.inputs[0]
        if source is None or not holds_rows(source):
            break
        value = source
    return value


def find_listed(clean: CleanGraph) -> Listed:
    """The list of boxes that a network with a suppression inside gives.

    Raises:
        GraphError: Its outputs hold none whose form is known, or hold it in a form that is not clear.
    """
    names = [str(value.name) for value in clean.graph.outputs]
    seen = _seen(clean, names)
    fitting = [(one, boxes) for one in _candidates(seen, names) if (boxes := _boxes(one, seen)) is not None]
    if len(fitting) > 1:
        where = "; ".join(f"boxes in {one.outputs[0]!r}, columns {list(one.corners.at)}" for one, _ in fitting)
        raise GraphError(f"the list that {NMS} chose may be read in {len(fitting)} ways ({where}); {ADVICE}")
    if not fitting:
        shapes = ", ".join(f"{name} {list(seen[name][0].shape)}" for name in names)
        raise GraphError(
            f"{NMS} is inside the graph, and the outputs ({shapes}) hold no known list of boxes, scores and classes, or none "
            f"for {len(seen[names[0]])} images of noise and patterns; {ADVICE}"
        )
    [(found, boxes)] = fitting
    fractions = is_fraction(boxes[:, 2:])
    corners = found.corners
    efficientdet = clean.model.producer_name == "tf2onnx" and corners.at == (1, 2, 3, 4)  # google/automl's, in pixels
    if efficientdet or top_first(corners.output, clean.model, fractions):
        top, left, bottom, right = corners.at
        corners = replace(corners, at=(left, top, right, bottom))
    return Listed(corners, found.score, found.label, found.count, "fractions" if fractions else "pixels")


def _seen(clean: CleanGraph, names: list[str]) -> Seen:
    """The outputs on the probe images, with every threshold at 0."""
    session = open_session(ir.to_proto(_without_thresholds(clean)).SerializeToString(), "the network")
    image, further = clean.graph.inputs[0], clean.graph.inputs[1:]
    seen: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for i, x in enumerate(probe_images(image, clean.image_shape)):
        feeds = {str(image.name): x, **{str(value.name): probes(value, 1, i) for value in further}}
        for name, value in run(session, feeds, "the network").items():
            seen[name].append(value)
    return seen


def _without_thresholds(clean: CleanGraph) -> ir.Model:
    """A copy in which each number from 0 to 1 that scores are compared with on the way to the suppression is 0."""
    model = clean.copy().model
    for node in model.graph:
        places = {4: node.inputs[4:5]} if node.op_type == NMS else {}
        if node.op_type in _THRESHOLDS and _chooses(node):
            places = {i: (value,) for i, value in enumerate(node.inputs)}
        for i, values in places.items():
            array = constant_of(values[0]) if values else None
            if array is not None and array.size == 1 and array.dtype.kind == "f" and 0 < array.item() < 1:
                zero = ir.Value(name=f"{node.name}/threshold/{i}", const_value=ir.tensor(np.zeros_like(array)))
                assert zero.const_value is not None
                zero.shape, zero.type = ir.Shape(array.shape), ir.TensorType(zero.const_value.dtype)
                model.graph.register_initializer(zero)
                node.replace_input_with(i, zero)
    return model


def _chooses(node: ir.Node) -> bool:
    """Whether a comparison decides which rows go on."""
    pending = list(node.outputs[0].uses())
    for use in pending:
        if use.node.op_type in ("NonZero", "Compress"):
            return True
        if use.node.op_type in ("And", "Or", "Not", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"):
            pending += use.node.outputs[0].uses()
    return False


def _candidates(seen: Seen, names: list[str]) -> Iterator[Listed]:
    """The forms that the sizes and types of outputs allow."""
    counts = [name for name in names if all(value.size == 1 for value in seen[name])]
    floats = [name for name in names if seen[name][0].dtype.kind == "f"]
    lists = [name for name in names if all(max(v.shape, default=1) == v.size for v in seen[name]) or name in counts]
    for table in floats:
        size = seen[table][0].shape[-1] if seen[table][0].ndim > 1 else 0
        for at, score, label in _TABLES.values() if size >= 5 else ():
            corners = Columns(table, size, at)
            if label is None and size == 5:
                for other in _labels(seen, lists):
                    yield Listed(corners, Columns(table, 5, (score,)), Columns(other, 1, (0,)), None)
            elif label is not None and size > max(*at, score, label):
                yield Listed(corners, Columns(table, size, (score,)), Columns(table, size, (label,)), None)
    for boxes in floats:
        if seen[boxes][0].ndim < 2 or seen[boxes][0].shape[-1] != 4:
            continue
        corners = Columns(boxes, 4, (0, 1, 2, 3))
        for scores in (name for name in lists if name in floats and name != boxes):
            for named in (name for name in _labels(seen, lists) if name not in (scores, boxes)):
                count = next((name for name in counts if name not in (scores, named)), None)
                yield Listed(corners, Columns(scores, 1, (0,)), Columns(named, 1, (0,)), count)


def _labels(seen: Seen, lists: list[str]) -> list[str]:
    """The lists that may hold classes: those of integers if there are any that are no counts, else those of whole floats."""
    whole = [name for name in lists if all((v == np.rint(v)).all() and (v >= 0).all() for v in seen[name])]
    whole = [name for name in whole if any(v.size > 1 for v in seen[name])]
    integers = [name for name in whole if seen[name][0].dtype.kind in "iu"]
    return integers or whole


def _boxes(one: Listed, seen: Seen) -> NDArray[np.float64] | None:
    """The corners of all rows that hold a box, [k,4]; None if the outputs are not of this form, or hold no box."""
    kept = []
    for i in range(len(seen[one.outputs[0]])):
        columns = [_read(own, seen, i) for own in (one.corners, one.score, one.label) if own is not None]
        if len({len(own) for own in columns}) != 1:
            return None
        rows = np.concatenate(columns, axis=1).astype(np.float64)
        kept.append(rows[rows[:, 4] > 0] if np.isfinite(rows).all() else rows[:0])
        if rows.size and np.isfinite(rows).all() and not -1 <= rows[:, 4].min() <= rows[:, 4].max() <= 1 + 1e-4:
            return None
    rows = np.concatenate(kept)
    corners, score, label = rows[:, :4], rows[:, 4], rows[:, 5:]
    slack = 1e-4 * max(float(np.abs(corners).max(initial=0)), 1e-6)
    ordered = (corners[:, 2:] >= corners[:, :2] - slack).all()
    named = (label == np.rint(label)).all() and (label >= 0).all()
    # scores are no classes: some lie between 0 and 1
    return corners if len(rows) and ordered and named and (score != np.rint(score)).any() else None


def _read(own: Columns, seen: Seen, image: int) -> NDArray[Any]:
    """Columns [n,k] of an output on a probe image; no row if its size contradicts."""
    value = seen[own.output][image]
    return value.reshape(-1, own.size)[:, own.at] if value.size % own.size == 0 else np.zeros((0, len(own.at)))
