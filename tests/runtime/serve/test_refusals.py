"""What a client sends wrongly: a status of 4xx and one line that says what, where, what to do."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy.serve.refusals import Refusal

from .. import tiny
from .conftest import Start
from .test_v1 import X, b64, png
from .test_v2 import LENGTH, tensor

ONE = X[0].tolist()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces this many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


V1: list[tuple[Any, int, str]] = [
    (b"", 400, "is no JSON"),
    (b"{", 400, "is no JSON"),
    (b"[" * 100_000, 400, "is no JSON"),
    (b'{"instances": [NaN]}', 400, "is no JSON"),
    ([], 400, '{"instances": [...], "parameters": {...}}'),
    ({}, 400, '{"instances": [...], "parameters": {...}}'),
    ({"instances": []}, 400, "1 to 4 instances, not 0"),
    ({"instances": [ONE] * 5}, 413, "1 to 4 instances, not 5"),
    ({"instances": [ONE], "method": "grad-cam"}, 400, "has no 'method'; it has instances and parameters"),
    ({"instances": [ONE], "parameters": 3}, 400, "parameters is an object"),
    ({"instances": [ONE], "parameters": {"steps": 3}}, 400, "no parameter 'steps'; there are timeout_ms, method"),
    ({"instances": [ONE], "parameters": {"options": 3}}, 400, "options is an object"),
    ({"instances": [ONE], "parameters": {"method": 3}}, 400, "no method '3'; there are grad-cam"),
    ({"instances": [ONE], "parameters": {"method": "gradcam"}}, 400, "did you mean 'grad-cam'?"),
    ({"instances": [ONE], "parameters": {"method": "rise"}}, 400, "start xai-serve with -m rise to serve it"),
    ({"instances": [ONE], "parameters": {"options": {"a": 1}}}, 400, "grad-cam: no option 'a'; it has none"),
    ({"instances": [ONE], "parameters": {"map": "hot"}}, 400, "map is 'raw', 'heatmap', not 'hot'"),
    ({"instances": [ONE], "parameters": {"encoding": []}}, 400, "encoding is 'list', 'npy', 'png', 'none', not '[]'"),
    ({"instances": [ONE], "parameters": {"encoding": "png"}}, 400, "needs the picture that is explained"),
    ({"instances": [ONE], "parameters": {"form": "vertex", "encoding": "png"}}, 400, "form 'vertex' holds numbers"),
    ({"instances": [ONE], "parameters": {"timeout_ms": 0}}, 400, "timeout_ms is a number above 0"),
    ({"instances": [ONE], "parameters": {"timeout_ms": "1"}}, 400, "timeout_ms is a number above 0"),
    ({"instances": [ONE], "parameters": {"target": 99}}, 400, "class 99 does not exist"),
    ({"instances": [ONE], "parameters": {"target": "zebra"}}, 400, "zebra"),
    ({"instances": [ONE], "parameters": {"target": True}}, 400, "a target is a class, a text, weights or an object"),
    ({"instances": [ONE], "parameters": {"target": {"a": 1}}}, 400, "a target as an object is"),
    ({"instances": [ONE], "parameters": {"target": {"not": {"not": {"not": {"not": {"not": 1}}}}}}}, 400, "target"),
    ({"instances": [ONE], "parameters": {"target": [1, 2]}}, 400, "weights as a target have one value for each class"),
    ({"instances": [ONE], "parameters": {"target": [[1], []]}}, 400, "a target's list holds numbers"),
    ({"instances": [ONE], "parameters": {"target": {"class": 1, "number": 1}}}, 400, "boxes, as a detector does"),
    ({"instances": [ONE, ONE], "parameters": {"target": "top2"}}, 200, ""),
    ({"instances": [{"image": ONE, "target": "top2"}, ONE]}, 400, "weights and topK are one target for all"),
    ({"instances": [None]}, 400, "instance 0: takes nested lists of numbers, not null"),
    ({"instances": ["abc"]}, 400, "instance 0: takes nested lists of numbers, not a text"),
    ({"instances": [[]]}, 400, "instance 0: takes numbers, not nothing"),
    ({"instances": [[[1], [1, 2]]]}, 400, "instance 0: the lists differ in length"),
    ({"instances": [[10**25]]}, 400, ""),
    ({"instances": [[1, 2, 3]]}, 400, f"taken as preprocessed, [3, {tiny.HEIGHT}, {tiny.WIDTH}] (CHW), not [3]"),
    ({"instances": [{"picture": 1}]}, 400, "not of 'picture'"),
    ({"instances": [{}]}, 400, "not of nothing"),
    ({"instances": [{"image": ONE, "inputs": 3}]}, 400, "inputs is an object"),
    ({"instances": [{"image": ONE, "inputs": {"depth": [1]}}]}, 400, "no further input 'depth'; it has none"),
    ({"instances": [{"b64": "?"}]}, 400, "instance 0: is no base64"),
    ({"instances": [{"b64": ""}]}, 400, "instance 0: is empty"),
    ({"instances": [b64(b"hello")]}, 400, "instance 0: not a PNG, JPEG"),
    ({"instances": [b64(bomb(1_500, 1_000))]}, 413, "announces 1500 x 1000 pixels, the limit is 1000000"),
    (b"GIF89a", 400, "truncated or damaged"),
    ({"instances": [(np.sign(X[0]) * 3e38).tolist()]}, 422, "NaN or infinity"),
]


@pytest.mark.parametrize(
    ("body", "status", "line"), V1, ids=lambda value: None if isinstance(value, int) else str(value)[:60]
)
def test_v1(start: Start, body: Any, status: int, line: str) -> None:
    running = start(images=4, pixels=1_000_000, methods={"grad-cam": {}})
    if status == 200:
        assert running.ask("net:explain", body)
        return
    assert line in running.refused(status, body)


V2: list[tuple[Any, int, str]] = [
    ({}, 400, 'the body is {"inputs":'),
    ({"inputs": []}, 400, 'the body is {"inputs":'),
    ({"inputs": [3]}, 400, "an input is"),
    ({"inputs": [{"name": "image", "shape": [1], "datatype": "FP31", "data": [1]}]}, 400, "no datatype 'FP31'"),
    (
        {"inputs": [{"name": "image", "shape": [0], "datatype": "FP32", "data": []}]},
        400,
        "shape is a list of whole numbers",
    ),
    ({"inputs": [{"name": "image", "shape": [1 << 40], "datatype": "FP32", "data": []}]}, 400, "shape is a list"),
    (
        {"inputs": [{"name": "image", "shape": [60000, 60000], "datatype": "FP32", "data": []}]},
        413,
        "3600000000 numbers",
    ),
    (
        {"inputs": [{"name": "image", "shape": [2], "datatype": "FP32", "data": [1]}]},
        400,
        "takes 2 numbers; data holds 1",
    ),
    ({"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": ["a"]}]}, 400, "other than numbers"),
    (
        {"inputs": [{"name": "image", "shape": [1], "datatype": "UINT8", "data": [256]}]},
        400,
        "a number in data is no UINT8",
    ),
    ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [3]}]}, 400, "image files as base64"),
    ({"inputs": [tensor(X, "other")]}, 400, "one input 'image' (or 'image'), not 'other'"),
    ({"inputs": [tensor(X), tensor(X)]}, 400, "two inputs have the same name"),
    ({"inputs": [tensor(X), tensor(X, "b")]}, 400, "no further input 'b'"),
    ({"inputs": [tensor(X[:, :2])]}, 400, "a preprocessed image for this network has shape"),
    ({"inputs": [tensor(np.repeat(X, 2, axis=0))]}, 413, "6 images; a request holds 1 to 4"),
    ({"inputs": [tensor(X)], "id": 3}, 400, "id is a text"),
    ({"inputs": [tensor(X)], "outputs": [{"name": "b"}]}, 400, "no output 'b'; there are scores"),
    ({"inputs": [tensor(X)], "outputs": [{"name": "saliency_map"}]}, 400, "give the parameter explain"),
    ({"inputs": [tensor(X)], "outputs": 3}, 400, "outputs is a list"),
    ({"inputs": [tensor(X)], "outputs": [{"name": 3}]}, 400, 'outputs is a list of {"name": ...}'),
    (
        {"inputs": [tensor(X)], "outputs": [{"name": "scores"}] * 3},
        400,
        "output 'scores' is asked for 3 times; name each output once",
    ),
    ({"inputs": [tensor(X)], "parameters": {"explain": "yes"}}, 400, "the parameter explain is true or false"),
    ({"inputs": [tensor(X)], "parameters": {"method": "grad-cam"}}, 400, "for an explanation give explain"),
    (
        {"inputs": [tensor(X)], "parameters": {"explain": True, "target": "top2"}},
        400,
        "ask V1 (:explain) for 2 at a time",
    ),
    ({"inputs": [tensor(X)], "parameters": {"explain": True, "timeout": "x"}}, 400, "a number of microseconds"),
    (
        {"inputs": [tensor(X)], "parameters": {"timeout": -1}},
        400,
        "timeout is a number of microseconds above 0, not '-1'",
    ),
    (
        {"inputs": [tensor(X)], "outputs": [{"name": "scores", "parameters": {"classification": 3}}]},
        400,
        "scores: this server gives no classification; ask for the output as it is",
    ),
    ({"inputs": [tensor(X)], "parameters": {"explain": True, "target": "{"}}, 400, "is no JSON, and no label"),
]


@pytest.mark.parametrize(
    ("body", "status", "line"), V2, ids=lambda value: None if isinstance(value, int) else str(value)[:60]
)
def test_v2(start: Start, body: Any, status: int, line: str) -> None:
    running = start(images=4, methods={"grad-cam": {}})
    assert line in running.refused(status, body, "v2/models/net/infer")


@pytest.mark.parametrize(
    ("length", "size", "line"),
    [
        ("x", 10, "inference-header-content-length is 'x'"),
        ("99999", 10, "inference-header-content-length is '99999'"),
        (None, 11, "binary_data_size is 11, and 10 bytes follow"),
        (None, -1, "binary_data_size is -1"),
        (None, 4, "10 bytes follow the JSON, of which the inputs take 4"),
        (None, 10, "takes 4 bytes, not 10"),
    ],
)
def test_binary(start: Start, length: str | None, size: int, line: str) -> None:
    running = start(methods={"grad-cam": {}})
    one = {"name": "image", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [one]}).encode()
    reply = running.client.post(
        "/v2/models/net/infer", content=head + bytes(10), headers={LENGTH: length or str(len(head))}
    )
    assert reply.status_code == 400
    assert line in reply.json()["error"]


def test_no_file_of_the_servers_is_read(start: Start, tmp_path: Path) -> None:
    """A text that names a file of labels on a command line names none here."""
    running = start(methods={"lime": {"samples": "5"}})
    secret = tmp_path / "labels.npy"
    np.save(secret, np.zeros((tiny.HEIGHT, tiny.WIDTH), np.int64))
    body = {"instances": [ONE], "parameters": {"method": "lime", "options": {"segments": str(secret)}}}
    assert "segments are grid:N or slic:N on a server" in running.refused(400, body)


def test_options_are_bounded(start: Start) -> None:
    running = start()
    for options, line in (
        ({"steps": 10**9}, "steps is at most 1000 on this server"),
        ({"steps": "100000"}, "steps is at most 1000 on this server"),
        ({"steps": -5}, "steps"),
        ({"steps": "nan"}, "steps"),
        ({"steps": [1]}, "option 'steps' is a number, a text, true, false or null"),
    ):
        body = {"instances": [ONE], "parameters": {"method": "integrated-gradients", "options": options}}
        assert line in running.refused(400, body)


def test_a_number_that_names_an_image_or_a_layer(start: Start) -> None:
    """It is no size, whose cost nobody knows."""
    running = start(methods={"grad-cam": {}})
    for options, line in (
        ({"image": 2}, "no image 2: the network takes"),
        ({"layer": 7}, "no layer 7: the bundle has"),
    ):
        body = {"instances": [ONE], "parameters": {"method": "grad-cam", "options": options}}
        assert line in running.refused(400, body)
    body = {"instances": [ONE], "parameters": {"method": "grad-cam", "options": {"image": 1}}}
    assert running.ask("net:explain", body)["explanations"][0]["explanations"][0]["options"]["image"] == 1


def test_what_the_server_fixes_is_free(start: Start) -> None:
    """The person who starts the server may name files and steps of any size; requests may not go beyond them."""
    running = start(methods={"occlusion": {"stride": "3"}, "lime": {"samples": "5000"}})
    body = {"instances": [ONE], "parameters": {"method": "occlusion", "options": {"stride": 1}}}
    assert running.ask("net:explain", body)["explanations"][0]["explanations"][0]["options"]["stride"] == 1
    body["parameters"]["options"] = {"size": 3}  # type: ignore[index]
    assert "nobody knows what size costs; start xai-serve with -m occlusion:size=3" in running.refused(400, body)
    body["parameters"] = {"method": "lime", "options": {"samples": 20_001}}
    assert "samples is at most 20000" in running.refused(400, body)


def test_bodies_are_bounded(start: Start, tmp_path: Path) -> None:
    """By what the header says, and by what arrives."""
    running = start(body=10_000)
    assert "larger than 10000 bytes" in running.refused(413, b"{" + b" " * 20_000)

    def parts() -> Any:
        for _ in range(30):
            yield b" " * 1000

    reply = running.client.post("/v1/models/net:predict", content=parts())
    assert reply.status_code == 413
    file, _ = png(tmp_path)
    assert running.client.post("/v1/models/net:predict", content=file).status_code == 200


def test_long_lines_keep_their_ends() -> None:
    line = Refusal(400, "label '" + "a" * 5000 + "': give a class").line
    assert len(line) == 1000
    assert line.startswith("label 'aaa")
    assert line.endswith("aaa': give a class")


def test_places(start: Start) -> None:
    running = start()
    for method, place, status, line in (
        ("get", "/nothing", 404, "there is nothing at /nothing"),
        ("get", "/v1/models/net:explain", 404, "no model 'net:explain'"),
        ("post", "/v1/models/other:explain", 404, "no model 'other'; this server has net"),
        ("post", "/v2/models/net/versions/1/infer", 404, "net: no version '1'"),
        ("delete", "/v1/models/net", 405, "DELETE is not possible at /v1/models/net"),
        ("post", "/v1/models/net:explain?a=1", 400, "parameters stand in"),
    ):
        reply = running.client.request(method, place, content=b"{}" if method == "post" else None)
        assert reply.status_code == status, reply.text
        assert line in reply.json()["error"]


def test_base64_of_a_data_url(start: Start, tmp_path: Path) -> None:
    running = start()
    file, _ = png(tmp_path)
    url = "data:image/png;base64," + base64.b64encode(file).decode()
    assert running.ask("net:predict", {"instances": [{"b64": url}]})["predictions"]


@pytest.mark.parametrize(
    "target",
    ["1" + " vs 1" * 1000, {"class": "a" * 5000}, {"class": 1, "where": "a" * 5000}, {"not": "b" * 5000}],
    ids=["contrast", "class", "place", "not"],
)
def test_a_text_in_a_target_is_short(start: Start, target: Any) -> None:
    running = start(methods={"grad-cam": {}})
    line = running.refused(400, {"instances": [ONE], "parameters": {"target": target}})
    assert "a target's text has at most 4096 characters, not 500" in line


def test_a_text_in_a_target_has_few_cuts(start: Start) -> None:
    running = start(methods={"grad-cam": {}})
    line = running.refused(400, {"instances": [ONE], "parameters": {"target": "1" + " VS 1" * 17}})
    assert "a target's text has at most 16 times ' vs ', not 17" in line
