"""What has no equal in ONNX, or in a bundle: each refusal names its node and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters.errors import GraphError
from xai_exporters.sources.openvino_ir.translate import translate

from .running import Build, f32, floats, ints, o, of_version, ov, saved


def if_(x: Any) -> Any:
    """Another branch for images that are bright as a whole."""
    bright = o.greater(o.reduce_mean(x, ints(0, 1, 2, 3), False), f32(0))
    node = o.if_op(bright.output(0))
    bodies = []
    for set_body, function in ((node.set_then_body, o.relu), (node.set_else_body, o.exp)):
        inner = o.parameter([-1, 3, 5, 7], np.float32)
        result = o.result(function(inner))
        set_body(ov.Model([result], [inner], "body"))
        bodies.append((inner, result))
    node.set_input(x.output(0), bodies[0][0], bodies[1][0])
    return node.set_output(bodies[0][1], bodies[1][1])


def multinomial(x: Any) -> Any:
    drawn = o.multinomial(o.reduce_mean(x, ints(2, 3), False), ints(1).output(0), "i32", True, True)
    return o.add(x, o.convert(drawn, "f32"))


def detections(x: Any) -> Any:
    """SSD's list of boxes from 9 offsets, 9 x 3 probabilities and 9 anchors."""
    flat = o.reshape(x, ints(1, -1), False)
    offsets, scores = (o.slice(flat, ints(0), ints(n), ints(1), ints(1)) for n in (36, 27))
    anchors = o.constant(np.tile(np.array([0.1, 0.1, 0.6, 0.6], np.float32), 18).reshape(1, 2, 36))
    options = {
        "keep_top_k": [5],
        "nms_threshold": 0.5,
        "share_location": True,
        "normalized": True,
        "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
    }
    return o.detection_output(offsets, o.softmax(scores, 1), anchors, options)


def suppression(x: Any) -> Any:
    """Two boxes by matrix non-maximum suppression; it has three outputs."""
    boxes = o.slice(o.reshape(x, ints(1, -1), False), ints(0), ints(8), ints(1), ints(1))
    chosen = o.matrix_nms(o.reshape(boxes, ints(1, 2, 4), False), floats(1, 1, 2))
    return chosen.output(0)


def video(x: Any) -> Any:
    """A frame of 2 x 2 pixels in NV12, of the image's mean."""
    mean = o.reduce_mean(x, ints(1, 2, 3), True)
    frame = of_version("opset8", "NV12toRGB", [o.tile(mean, ints(1, 2, 2, 1)), o.tile(mean, ints(1, 1, 1, 2))])
    return o.add(x, o.reduce_mean(frame, ints(1, 2, 3), True))


REFUSED: dict[str, tuple[Build, str, str]] = {
    "if": (if_, "If", "has no equal in a bundle; export the network with its branches resolved"),
    "pdpd": (lambda x: o.add(x, floats(1, 3, 5, 1), "pdpd"), "Add", "broadcasts as PaddlePaddle does; .* a newer OpenVINO"),
    "float8": (
        lambda x: o.fake_convert(x, f32(2), f32(0), "f8e4m3"),
        "FakeConvert", r"rounds to f8e4m3, which no bundle holds; quantise the network to int8 \(nncf.quantize without a mode\)",
    ),
    "letters": (
        lambda x: of_version("opset6", "CTCGreedyDecoderSeqLen", [o.reshape(x, ints(1, 15, 7), False), ints(15)],
                             merge_repeated=True, classes_index_type="i64", sequence_length_type="i64").output(0),
        "CTCGreedyDecoderSeqLen", "chooses letters inside the graph, after the scores; convert the network up to what it reads",
    ),
    "regions": (
        lambda x: of_version("opset2", "ROIPooling", [x, floats(2, 5)], pooled_h=2, pooled_w=2, spatial_scale=1.0, method="max",
                             output_size=[2, 2]),
        "ROIPooling", r"chooses or reads boxes inside the graph, .* or give the ONNX file that the IR was made of",
    ),
    "tables": (
        lambda x: o.add(x, o.convert(o.bucketize(x, f32(0, 1)), "f32")), "Bucketize", "is for texts, tables or training",
    ),
    "no rule": (
        lambda x: of_version("opset14", "Inverse", [o.slice(x, ints(0), ints(5), ints(1), ints(3))], adjoint=False),
        "Inverse", r"has no rule for operators of this type \(opset14\); convert the network without it, or add one in",
    ),
    "state": (
        lambda x: o.add(x, o.read_value(f32(0), "mine", ov.Type.f32, ov.PartialShape([]))),
        "ReadValue", "a state between images can't be explained",
    ),
    "random": (
        lambda x: o.add(x, o.random_uniform(ints(1, 3, 5, 7), f32(0), f32(1), "f32")),
        "RandomUniform", "draws random numbers: each run gives other scores; export the network in evaluation mode",
    ),
    "detections": (
        detections, "DetectionOutput",
        r"chooses boxes inside the graph in a form that xai-export does not read \(boxes for each class, .*\); convert the "
        r"network up to its decoded boxes and scores \(--decoder boxes-scores\), or give the ONNX file that the IR was made of",
    ),
    "suppression": (suppression, "MatrixNms", "chooses or reads boxes inside the graph"),


    "video": (video, "NV12toRGB", r"takes a video frame in NV12, .* as it was before set_color_format\(NV12_\.\.\.\)"),
    "multinomial": (multinomial, "Multinomial", "draws random numbers: each run gives other scores"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    build, kind, message = REFUSED[name]
    with pytest.raises(GraphError, match=rf"^the node '.*' \({kind}\): .*{message}"):
        translate(ov.Core().read_model(saved(tmp_path, build, 1)), 1 << 30)


def test_an_unknown_number_of_dimensions(tmp_path: Path) -> None:
    x = o.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    ov.save_model(ov.Model([o.relu(x)], [x], "net"), tmp_path / "net.xml")
    with pytest.raises(
        GraphError,
        match=r"^the number of dimensions of the input 'x' is not known; .*--input-shape C,H,W, .*model\.reshape",
    ):
        translate(ov.Core().read_model(tmp_path / "net.xml"), 1 << 30)
