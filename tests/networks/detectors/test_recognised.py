"""Which layout `auto` takes outputs for, and which of two outputs holds the boxes; where a detector is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn
from xai_exporters.cut.detector_layers import detector_layers
from xai_exporters.cut.scores.detectors import boxes_scores
from xai_exporters.cut.scores.detectors.detector import Names, Outputs, decoders
from xai_exporters.cut.scores.grids import find_grids
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.cut.scores.rows import find_detector, write_rows
from xai_exporters.errors import GraphError, RequestError
from xai_exporters.graph.measure import evaluate
from xai_exporters.graph.writing import TRANSLATED
from xai_exporters.passes.clean import CleanGraph, clean

from ...exporters.running import both_ways
from . import nets
from .conftest import Made


class FourClasses(nets.Ssd):
    """As many classes as coordinates: by their shapes, boxes and scores could change places."""

    scores = 4

    def __init__(self, function: str, pixels: bool, boxes_first: bool) -> None:
        super().__init__()
        self.function, self.pixels, self.boxes_first = function, pixels, boxes_first

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        logits, boxes = (value.transpose(1, 2) for value in self.corners(x))
        boxes = boxes * torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2) if self.pixels else boxes.clamp(0, 1)
        shares = logits.softmax(2) if self.function == "softmax" else logits.sigmoid()
        return (boxes, shares) if self.boxes_first else (shares, boxes)


class Fpn(nets.Heads):
    """A pyramid whose maps are plain results of convolutions, as RetinaNet's and FCOS's: logits and corners in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(12, 10, 1), nn.Conv2d(16, 10, 1)
        self.scored = nn.Sequential(nets.conv(10, 8), nn.Conv2d(8, nets.CLASSES, 1))
        self.placed = nn.Sequential(nets.conv(10, 8), nn.Conv2d(8, 4, 1))

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        fine, coarse = self.body(x)
        top = self.coarse(coarse)
        wide = self.fine(fine) + nn.functional.interpolate(top, scale_factor=2.0)
        scores, offsets = (
            torch.cat([head(level).flatten(2) for level in (wide, top)], 2) for head in (self.scored, self.placed)
        )
        centre = nets.centred(offsets)
        boxes = torch.cat([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], 1).transpose(1, 2)
        return scores.transpose(1, 2).sigmoid(), boxes


def graph_of(network: nn.Module) -> CleanGraph:
    """The clean graph of a detector."""
    torch.manual_seed(5)
    return clean(both_ways(network.eval(), False, (3, *nets.SIZE)), None)


@pytest.mark.parametrize(
    ("function", "pixels", "boxes_first"), list(itertools.product(("softmax", "sigmoid"), (True, False), (True, False)))
)
def test_four_classes(function: str, pixels: bool, boxes_first: bool) -> None:
    graph = graph_of(FourClasses(function, pixels, boxes_first))
    given = Outputs(graph, tuple(graph.graph.outputs))
    fitting = {name: found for name in decoders if (own := decoders.get(name)) and (found := own(given)) is not None}
    assert list(fitting) == ["boxes-scores"]
    [detector] = fitting.values()
    assert (detector.rows.classes, detector.rows.form) == (4, "corners")
    assert detector.rows.unit == ("pixels" if pixels else "fractions")
    assert detector.rows.background == (0 if function == "softmax" else None)
    assert detector.outputs == (graph.graph.outputs[boxes_first], graph.graph.outputs[not boxes_first])


class OffsetsOfFour(FourClasses):
    """An SSD of four classes whose second output holds offsets, on rows whose cells nothing tells."""

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        scores, offsets = (value.transpose(1, 2).flip(1).cumsum(1) for value in self.raw(x))
        return scores.softmax(2), offsets


def test_a_softmax_is_no_box() -> None:
    """It was read as a DETR's boxes, and the offsets as its logits."""
    graph = graph_of(OffsetsOfFour("softmax", pixels=False, boxes_first=False))
    assert find_detector(graph, "auto") is None
    for decoder in ("detr", "detr-sigmoid"):
        with pytest.raises(GraphError, match=f"--decoder {decoder}: the outputs are not of this form"):
            find_detector(graph, decoder)


def test_a_pyramid_without_activation_functions() -> None:
    """The cut is at the maps that enter the head, not at the backbone's last activation function before them."""
    graph = graph_of(Fpn())
    levels = detector_layers(graph, find_scores(graph, None))
    assert [graph.shapes.per_image(value.name) for value in levels] == [(10, 4, 6), (10, 8, 12)]


TOGETHER: dict[str, Callable[..., torch.Tensor]] = {
    "Add": torch.add,
    "Mul": torch.mul,
    "Concat": lambda a, b: torch.cat([a, b], 1),
}


class Branches(nets.YoloV8):
    """Each level is put together from two activated branches, as RT-DETR's are (`RepC3`)."""

    def __init__(self, together: str) -> None:
        super().__init__()
        self.together = together
        self.left = nn.ModuleList(nets.conv(k, k) for k in (12, 16))
        self.right = nn.ModuleList(nets.conv(k, k) for k in (12, 16))
        if together == "Concat":
            self.score = nn.ModuleList(nn.Conv2d(2 * k, self.scores, 1) for k in (12, 16))
            self.box = nn.ModuleList(nn.Conv2d(2 * k, self.boxes, 1) for k in (12, 16))

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Heads`."""
        maps = []
        for level, left, right in zip(self.body(x), self.left, self.right, strict=True):
            one, other = left(level), right(level)
            maps.append(TOGETHER[self.together](one, other))
        scores = torch.cat([net(m).flatten(2) for net, m in zip(self.score, maps, strict=True)], 2)
        return scores, torch.cat([net(m).flatten(2) for net, m in zip(self.box, maps, strict=True)], 2)


@pytest.mark.parametrize("together", TOGETHER)
def test_a_level_put_together_from_branches(together: str) -> None:
    """The head reads both branches, so the cut is behind both: the last activation function belongs to one of them."""
    graph = graph_of(Branches(together))
    levels = detector_layers(graph, find_scores(graph, None))
    assert [node.op_type for value in levels if (node := value.producer()) is not None] == [together] * 2
    assert [graph.shapes.dims(value)[2:] for value in levels] == [(8, 12), (4, 6)]


class Plain(nn.Module):
    """Logits and boxes of queries that nothing tells apart: of a DETR, and of one with sigmoids."""

    def __init__(self, classes: int, rows_last: bool = False) -> None:
        super().__init__()
        self.body, self.rows_last = nets.Detr(classes), rows_last

    def forward(self, x: torch.Tensor) -> Any:
        """The outputs."""
        logits, boxes = self.body(x)
        return (logits.transpose(1, 2), boxes.transpose(1, 2)) if self.rows_last else (logits, boxes)


@pytest.mark.parametrize(("classes", "rows_last", "names"), [(2, False, 0), (6, True, 0), (9, False, 0)])
def test_two_layouts_fit(classes: int, rows_last: bool, names: int) -> None:
    with pytest.raises(RequestError, match="may be read in 2 ways: detr, detr-sigmoid; choose one with --decoder"):
        find_scores(graph_of(Plain(classes, rows_last)), None, names=Names(names))


@pytest.mark.parametrize(("names", "layout"), [(8, "detr"), (9, "detr-sigmoid")])
def test_names_decide(names: int, layout: str) -> None:
    """Nine logits are eight classes and "no object", or nine classes."""
    rows = find_scores(graph_of(Plain(9)), None, names=Names(names)).scores.rows
    assert rows is not None
    assert rows.decoder == layout
    assert np.isfinite(rows.entries)


@pytest.mark.parametrize(
    ("name", "producer", "reader", "swapped"),
    [
        ("raw_detection_boxes", "", "", True),
        ("StatefulPartitionedCall:1", "tf2onnx", "1.16", True),
        ("TFLite_Detection_PostProcess", "", "", True),
        ("TFLite_Detection_PostProcess", TRANSLATED, "tflite", False),  # decoded by our own reader
        ("yolonms_layer_1/ExpandDims_1:0", "OnnxMLTools", "", True),
        ("boxes", TRANSLATED, "tf", True),
        ("boxes", TRANSLATED, "tflite", True),
        ("boxes", TRANSLATED, "paddle", False),
        ("boxes", TRANSLATED, "", False),
        ("boxes", "pytorch", "", False),
    ],
)
def test_tensorflow_gives_the_top_first(
    made: Callable[[str], Made], name: str, producer: str, reader: str, swapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file with its boxes as top, left, bottom, right has the same rows, if its name or its writer tells.

    Its cells would tell, too: they are hidden.
    """
    monkeypatch.setattr(boxes_scores, "find_grids", lambda *_: ())
    rows = []
    for other in (False, True):
        model = onnx.load(made("boxes-scores").source)
        boxes = model.graph.output[1].name
        order = onnx.numpy_helper.from_array(np.array([1, 0, 3, 2]), "order")
        model.graph.initializer.append(order)
        model.graph.node.append(onnx.helper.make_node("Gather", [boxes, "order"], [name], axis=2))
        if other:
            model.graph.output[1].name, model.producer_name, model.producer_version = name, producer, reader
        cleaned = clean(model, None)
        detector = find_detector(cleaned, "boxes-scores")
        assert detector is not None
        said = "top, left, bottom, right" if other and swapped else "left, top, right, bottom"
        assert detector.note is not None
        assert f"are read as {said}, in fractions: nothing in their" in detector.note
        value, _ = write_rows(cleaned, detector)
        [own] = evaluate(cleaned.model, [str(value.name)], 1).values()
        rows.append(own)
    corners = rows[0][:, nets.CLASSES :]
    np.testing.assert_array_equal(rows[1][:, nets.CLASSES :], corners if swapped else corners[:, [1, 0, 3, 2]])


class Ordered(nets.Ssd):
    """Corners, the top first or the left side, in pixels or fractions, of files whose names and writer tell nothing."""

    def __init__(self, top: bool, pixels: bool) -> None:
        super().__init__()
        self.order, self.pixels = [1, 0, 3, 2] if top else [0, 1, 2, 3], pixels

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = self.corners(x)
        boxes = boxes * torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2)[:, None] if self.pixels else boxes
        return scores.transpose(1, 2).sigmoid(), boxes[:, self.order].transpose(1, 2)


@pytest.mark.parametrize(("top", "pixels"), list(itertools.product((True, False), (True, False))))
def test_cells_tell_which_side_comes_first(top: bool, pixels: bool) -> None:
    """The top was read as the left side, and the export said that it guesses: a box moves down as its cell does."""
    network = Ordered(top, pixels)
    graph = graph_of(network)
    detector = find_detector(graph, "auto")
    assert detector is not None
    assert (detector.rows.form, detector.note) == ("corners", None)
    value, _ = write_rows(graph, detector)
    image = str(graph.graph.inputs[0].name)
    x = torch.rand(1, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = network.corners(x)[1]
    want = want * torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2)[:, None] if pixels else want
    proto = ir.to_proto(graph.model)
    del proto.graph.output[:]
    proto.graph.output.append(onnx.ValueInfoProto(name=str(value.name)))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    [rows] = session.run(None, {image: x.numpy()})
    np.testing.assert_allclose(rows[:, nets.CLASSES :], want, rtol=1e-3, atol=1e-3)


class OrderedLevels(Ordered):
    """Two outputs for each level."""

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = super().forward(x)
        return boxes[:, :96], scores[:, :96], boxes[:, 96:], scores[:, 96:]


@pytest.mark.parametrize("top", [True, False])
def test_levels_have_one_order(top: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fine level tells the order of the coarse one, too, whose cells tell nothing (a level may have a single one)."""
    network = OrderedLevels(top, pixels=True)
    graph = graph_of(network)
    own = find_grids
    few = {value for value in graph.graph.outputs if graph.shapes.two[str(value.name)][1] == 24}
    monkeypatch.setattr(boxes_scores, "find_grids", lambda g, v, *more: () if v in few else own(g, v, *more))
    detector = find_detector(graph, "auto")
    assert detector is not None
    assert detector.count == 120
    value, _ = write_rows(graph, detector)
    [rows] = evaluate(graph.model, [str(value.name)], 1).values()
    left, above, right, below = rows[0, nets.CLASSES :, 96:]
    cells = nets.grid()[0].numpy()[:, 96:]
    for numbers, moving, still in ((left, 0, 1), (right, 0, 1), (above, 1, 0), (below, 1, 0)):
        assert np.corrcoef(numbers, cells[moving])[0, 1] > 0.9 > np.corrcoef(numbers, cells[still])[0, 1]
