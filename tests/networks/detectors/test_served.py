"""Detectors over HTTP: targets name detections, answers hold them, and the maps are the Explainer's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Box, Contrast, DetectionLimits
from xai_deploy.cli.serve import _record
from xai_deploy.images import encode_image
from xai_deploy.records import Recorder, records
from xai_deploy.serve import Limits, grpc_messages
from xai_deploy.serve.grpc_side import GrpcSide

from ...runtime.serve.conftest import Running
from .conftest import ALL, Made

Serve = Callable[..., Running]
METHODS: dict[str, dict[str, str]] = {"layer-cam": {}, "hires-cam": {}}


@pytest.fixture
def serve(made: Callable[[str], Made]) -> Iterator[Serve]:
    """(name, backend) -> a running service, warmed up; closed after the test."""
    running: list[Running] = []

    def start(name: str, backend: str = "onnxruntime", limits: Any = ALL) -> Running:
        running.append(Running(made(name).bundle, backend, Limits(), METHODS, detections=limits))
        running[-1].service.models.load("net")
        return running[-1]

    yield start
    for one in running:
        one.service.close()


def picture(seed: int, height: int = 90, width: int = 120) -> tuple[dict[str, str], np.ndarray[Any, Any]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"b64": base64.b64encode(encode_image(pixels)).decode()}, pixels


def corners(found: Any) -> list[Any]:
    return [one["box"] for one in found]


@pytest.mark.parametrize(
    ("name", "backend"), [("yolov8", "openvino"), ("end-to-end", "onnxruntime"), ("boxes-scores", "onnxruntime")]
)
def test_every_way_to_name_a_detection(serve: Serve, made: Callable[[str], Made], name: str, backend: str) -> None:
    """The row of a target, its map and its title are the Explainer's; boxes are in pixels of each instance's own photo."""
    running, own = serve(name, backend), made(name).explainers[("onnxruntime", "openvino").index(backend)]
    (sent, pixels), (other, more) = picture(1), picture(2, 64, 75)
    best = own.explain(pixels, "layer-cam").detections[0]
    left, top, right, bottom = best[1].box
    near = [left, top, right - left, bottom - top]
    for asked, python in (
        (None, None),
        ("box 1", Box(number=1)),
        (f"{best[0].index}", Box(best[0].index)),
        (f"@{','.join(map(str, near))}", Box(near=tuple(near))),  # type: ignore[arg-type]
        ("box 0:left vs box 1:left", Contrast(Box(part="left"), Box(number=1, part="left"))),
        ({"number": 1, "part": "height"}, Box(number=1, part="height")),
        ({"class": best[0].index, "number": 0}, Box(best[0].index)),
        ({"near": near}, Box(near=tuple(near))),  # type: ignore[arg-type]
        ({"target": {"number": 1}, "versus": "box 0"}, Contrast(Box(number=1), Box(number=0))),
    ):
        told = running.explain([{"image": sent, "target": asked}, {"image": other}], method="layer-cam")["explanations"]
        for i, (photo, target) in enumerate(((pixels, python), (more, None))):
            expected = own.explain(photo, "layer-cam", target)
            [shown] = told[i]["explanations"]
            assert shown["rows"] == list(expected.rows[0])
            assert shown["title"] == expected.titles[0]
            assert shown["size"] == list(photo.shape[:2])
            most = max(1.0, float(np.abs(expected.raw).max()))
            np.testing.assert_allclose(shown["map"]["values"], expected.raw[0], atol=1e-5 * most)
            np.testing.assert_allclose(
                corners(shown["detections"]), [one.box for one in expected.detections[0]], atol=1e-2
            )


def test_predictions_are_all_detections(serve: Serve, made: Callable[[str], Made]) -> None:
    running, own = serve("yolov8"), made("yolov8").explainers[0]
    (sent, pixels), (other, more) = picture(1), picture(2, 200, 75)
    told = running.ask("net:predict", {"instances": [sent, other]})["predictions"]
    for one, photo in zip(told, (pixels, more), strict=True):
        expected = own.explain(photo, "layer-cam").detections[0]
        assert len(expected) == len(one["prediction"]) > 5
        assert [(found["row"], found["class"]) for found in one["prediction"]] == [(f.row, f.index) for f in expected]
        np.testing.assert_allclose(corners(one["prediction"]), [f.box for f in expected], atol=1e-2)
        assert one["prediction"][0]["probability"] == pytest.approx(expected[0].score, abs=1e-5)


def test_numbers_have_boxes_in_the_networks_pixels(serve: Serve, made: Callable[[str], Made]) -> None:
    running, x = serve("yolov8"), made("yolov8").images[:1]
    expected = made("yolov8").explainers[0].explain(x, "layer-cam").detections[0]
    [one] = running.ask("net:predict", {"instances": [x[0].tolist()]})["predictions"]
    np.testing.assert_allclose(corners(one["prediction"]), [f.box for f in expected], atol=1e-3)


async def grpc_answer(running: Running, sent: dict[str, str], asked: dict[str, Any]) -> Any:
    """The output `answer` of V2 over gRPC, without a socket."""

    class Context:
        def invocation_metadata(self) -> tuple[()]:
            return ()

        def time_remaining(self) -> None:
            return None

    messages = grpc_messages.build()
    request = messages["ModelInferRequest"](model_name="net")
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    data = base64.b64decode(sent["b64"])
    request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    for name, value in asked.items():
        setattr(request.parameters[name], "bool_param" if isinstance(value, bool) else "string_param", value)

    async def sent_once() -> AsyncIterator[bytes]:
        yield request.SerializeToString()

    written = await GrpcSide(running.service).ModelInfer(sent_once(), Context())
    reply = messages["ModelInferResponse"].FromString(written)
    at = [one.name for one in reply.outputs].index("answer")
    return json.loads(reply.raw_output_contents[at][4:])


def test_in_the_other_forms(serve: Serve, made: Callable[[str], Made]) -> None:
    """V2's answer, gRPC's, Vertex's, and a picture with frames."""
    running, own = serve("yolov8"), made("yolov8").explainers[0]
    sent, pixels = picture(1)
    expected = own.explain(pixels, "layer-cam", "box 1")
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [sent["b64"]]}
    asked = {"explain": True, "method": "layer-cam", "target": '{"number": 1}'}
    reply = running.client.post("/v2/models/net/infer", json={"inputs": [tensor], "parameters": asked})
    assert reply.status_code == 200, reply.text
    outputs = {one["name"]: one["data"] for one in reply.json()["outputs"]}
    facts = json.loads(outputs["answer"][0])
    assert facts["rows"] == list(expected.rows[0])
    np.testing.assert_allclose(corners(facts["detections"]), [f.box for f in expected.detections[0]], atol=1e-2)
    np.testing.assert_allclose(outputs["saliency_map"], expected.heatmap.ravel(), atol=1e-4)
    over_grpc = asyncio.run(grpc_answer(running, sent, asked))
    assert (over_grpc["rows"], over_grpc["detections"]) == (facts["rows"], facts["detections"])
    vertex = running.explain([sent], method="layer-cam", target="box 1", form="vertex")
    [attribution] = vertex["explanations"][0]["attributions"]
    assert attribution["outputIndex"] == [expected.rows[0][0], int(expected.target[0])]
    assert attribution["outputDisplayName"] == expected.titles[0]
    assert attribution["instanceOutputValue"] == pytest.approx(float(expected.score[0]), abs=1e-4)  # type: ignore[index]
    assert vertex["predictions"][0]["prediction"][1]["row"] == expected.detections[0][1].row
    shown = running.explain([sent], method="layer-cam", encoding="png")["explanations"][0]["explanations"][0]
    plain = own.explain(pixels, "layer-cam").overlay(pixels)
    assert base64.b64decode(shown["map"]["b64"]) == encode_image(plain[0])


def test_records(serve: Serve, tmp_path: Path) -> None:
    running, (sent, _) = serve("yolov8"), picture(1)
    told = running.explain([sent], target="box 1")["explanations"][0]["explanations"][0]
    with Recorder(tmp_path / "r") as recorder:
        for one in running.records:
            _record(recorder, one)
    [(_, record)] = records(tmp_path / "r")
    assert record.target.asked == "box 1"
    assert [one.box for one in record.prediction] == [pytest.approx(one["box"]) for one in told["detections"][:5]]


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("box 999", "box 999: this image has"),
        ({"near": [1, 2, 3]}, "a box is x, y, width, height"),
        ({"near": "x"}, "a box is x, y, width, height"),
        ({"number": -1}, "a detection's number is 0 or more"),
        ({"number": 1.5}, "a detection's number is 0 or more"),
        ({"part": ["left"]}, "a detection's part is one of"),
        ({"class": [1], "number": 0}, "the class of a detection is an index or a label"),
        ({"class": 1, "where": [1, 2, 3, 4]}, "a target of a detector is a detection"),
        ([1.0, 2.0, 3.0], "weights need a network that gives a score for each class; this one gives detections"),
        ("car", "this bundle has no labels"),
    ],
    ids=str,
)
def test_refused(serve: Serve, target: Any, line: str) -> None:
    assert line in serve("yolov8").refused(400, {"instances": [picture(1)[0]], "parameters": {"target": target}})


def test_nothing_is_found(serve: Serve) -> None:
    """A prediction is empty, an explanation is refused, and a detector that finds nothing in a grey image starts."""
    running, (sent, _) = serve("yolov8", limits=DetectionLimits(score=1.0)), picture(1)
    assert running.ask("net:predict", {"instances": [sent]})["predictions"][0]["prediction"] == []
    assert "the network finds nothing in this image" in running.refused(400, {"instances": [sent]})
