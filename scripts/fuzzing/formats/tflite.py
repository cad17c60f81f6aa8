"""TFLite: the network in float32 or int8, with metadata and labels (tensorflow/lite/schema/schema.fbs, metadata_schema.fbs)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers

from . import Array, Net

_FLOAT32, _INT32, _INT16, _INT8 = 0, 2, 7, 9
_CONV, _LINEAR, _LOGISTIC, _RESHAPE, _SOFTMAX, _CUSTOM, _MEAN, _SUB = 3, 9, 14, 22, 25, 32, 40, 41


class Scalar:
    """A field's number and its type: "Int8", "Uint32", ..."""

    def __init__(self, kind: str, value: float) -> None:
        self.kind, self.value = kind, value


def i8(value: int) -> Scalar:
    """A byte."""
    return Scalar("Int8", value)


def i32(value: int) -> Scalar:
    """32 bits."""
    return Scalar("Int32", value)


def flat(table: dict[int, Any], identifier: bytes) -> bytes:
    """A buffer with this root table: field -> Scalar, text, bytes, array, table or list of tables."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, table), identifier)
    return bytes(builder.Output())


def _table(builder: Any, table: dict[int, Any]) -> int:
    places = {n: _placed(builder, value) for n, value in table.items() if not isinstance(value, Scalar)}
    builder.StartObject(max(table, default=-1) + 1)
    for n, value in table.items():
        if isinstance(value, Scalar):
            getattr(builder, f"Prepend{value.kind}Slot")(n, value.value, None)
        else:
            builder.PrependUOffsetTRelativeSlot(n, places[n], 0)
    return int(builder.EndObject())


def _placed(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, bytes):
        return int(builder.CreateByteVector(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, dict):
        return _table(builder, value)
    places = [_table(builder, entry) for entry in value]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def network(
    net: Net,
    quantised: bool = False,
    metadata: bytes = b"",
    custom: str = "",
    batch: int = 1,
    pair: bool = False,
    wide: Sequence[str] = (),
    edit: Callable[[dict[int, Any]], None] = lambda table: None,
) -> bytes:
    """The file. Quantised, its input is (pixel - 128) / 127.5, and its output has a scale of 1 / 256.

    Args:
        net: The network.
        quantised: int8 instead of float32.
        metadata: The buffer of TFLITE_METADATA.
        custom: The name of an operator in place of softmax.
        batch: The number of images; -1 is open.
        pair: It takes a second image, `other`, and subtracts the means of both; in float32.
        wide: Tensors of the quantised network in int16, as converters write int16x8.
        edit: Called with the table of each tensor, which it may change.
    """
    arrays = _arrays(net, pair)
    tensors, buffers = _tensors(net, quantised, batch, arrays)
    for tensor in tensors:
        if tensor[3] in wide:
            tensor[1] = i8(_INT16)
            tensor[4][3] = np.array([0], np.int64)
    for tensor in tensors:
        edit(tensor)
    place = {name: i for i, name in enumerate(arrays)}
    codes = [_CONV, _MEAN, _LINEAR, _CUSTOM if custom else _SOFTMAX, *([_SUB] if pair else [])]
    conv = {0: i8(0), 1: i32(1), 2: i32(1), 3: i8(1), 4: i32(1), 5: i32(1)}
    operators = [
        _operator(place, 0, "image filters conv_bias", "maps", 1, conv),
        _operator(place, 1, "maps axes", "mean", 27, {0: i8(0)}),
        *(_second(place, conv) if pair else []),
        _operator(place, 2, f"{'apart' if pair else 'mean'} matrix linear_bias", "linear", 8, {0: i8(0)}),
        _operator(place, 3, "linear", "scores", 0 if custom else 9, {0: Scalar("Float32", 1.0)}),
    ]
    inputs = ("image", "other") if pair else ("image",)
    ends = [np.array([place[name] for name in names], np.int32) for names in (inputs, ("scores",))]
    model: dict[int, Any] = {
        0: Scalar("Uint32", 3),
        1: [{0: i8(c), **({1: custom} if c == _CUSTOM else {}), 2: i32(1), 3: i32(c)} for c in codes],
        2: [{0: tensors, 1: ends[0], 2: ends[1], 3: operators, 4: "main"}],
        3: "written by hand",
        4: buffers,
    }
    return _finished(model, metadata)


def _second(place: dict[str, int], conv: dict[int, Any]) -> list[dict[int, Any]]:
    """The operators of a second image: its means are subtracted from those of the first one."""
    return [
        _operator(place, 0, "other filters conv_bias", "maps2", 1, conv),
        _operator(place, 1, "maps2 axes", "mean2", 27, {0: i8(0)}),
        _operator(place, 4, "mean mean2", "apart", 28, {0: i8(0)}),
    ]


def one_custom(name: str, options: bytes, image: Array, weights: Sequence[Array], shape: Sequence[int]) -> bytes:
    """A file of one custom operator, of an image and of weights."""
    arrays = (image, *weights, np.zeros(shape, np.float32))
    tensors = [{0: np.array(a.shape, np.int32), 2: Scalar("Uint32", i), 3: f"t{i}"} for i, a in enumerate(arrays)]
    for end in (tensors[0], tensors[-1]):
        end[2] = Scalar("Uint32", 0)
    last, used = np.array([len(weights) + 1], np.int32), np.arange(len(weights) + 1, dtype=np.int32)
    operator = {0: Scalar("Uint32", 0), 1: used, 2: last, 5: options}
    graph = {0: tensors, 1: np.array([0], np.int32), 2: last, 3: [operator], 4: "main"}
    code = {0: i8(_CUSTOM), 1: name, 2: i32(1), 3: i32(_CUSTOM)}
    buffers: list[dict[int, Any]] = [{}, *({0: a.tobytes()} for a in weights)]
    return flat({0: Scalar("Uint32", 3), 1: [code], 2: [graph], 3: "written by hand", 4: buffers}, b"TFL3")


LIST = "TFLite_Detection_PostProcess"
"""The operator, and as TensorFlow names it, its first output: boxes."""


def detector(
    encode: Array, classify: Array, anchors: Array, options: dict[str, Any], size: int, metadata: bytes = b""
) -> bytes:
    """An SSD of one level with TFLite's own suppression at its end: boxes and scores of each position, convolutions of 1 x 1.

    Args:
        encode: Weights of the boxes' encodings, [4,1,1,3].
        classify: Those of the scores before their logistic function, [C,1,1,3].
        anchors: [size * size,4].
        options: Of TFLite_Detection_PostProcess.
        size: Height and width of the image.
        metadata: The buffer of TFLITE_METADATA.
    """
    rows = size * size
    arrays: dict[str, Any] = {
        "image": (size, size, 3), "encode": encode, "classify": classify, "no_4": np.zeros(4, np.float32),
        "no_c": np.zeros(len(classify), np.float32), "shape_4": np.array([1, rows, 4], np.int32),
        "shape_c": np.array([1, rows, len(classify)], np.int32), "anchors": anchors, "maps_4": (size, size, 4),
        "maps_c": (size, size, len(classify)), "encoded": (rows, 4), "logits": (rows, len(classify)),
        "scores": (rows, len(classify)), LIST: (10, 4), f"{LIST}:1": (10,), f"{LIST}:2": (10,), f"{LIST}:3": (),
    }  # fmt: skip
    tensors: list[dict[int, Any]] = []
    buffers: list[dict[int, Any]] = [{}]
    for name, content in arrays.items():
        fixed = isinstance(content, np.ndarray)
        dims = content.shape if fixed else (1, *content)
        kind = _INT32 if name.startswith("shape") else _FLOAT32
        tensors.append({0: np.array(dims, np.int32), 1: i8(kind), 2: Scalar("Uint32", len(buffers) * fixed), 3: name})
        if fixed:
            buffers.append({0: content.tobytes()})
    place = {name: i for i, name in enumerate(arrays)}
    conv = {0: i8(0), 1: i32(1), 2: i32(1), 3: i8(0), 4: i32(1), 5: i32(1)}
    operators = [
        _operator(place, 0, "image encode no_4", "maps_4", 1, conv),
        _operator(place, 0, "image classify no_c", "maps_c", 1, conv),
        _operator(place, 1, "maps_4 shape_4", "encoded", 17, {0: np.array([1, rows, 4], np.int32)}),
        _operator(place, 1, "maps_c shape_c", "logits", 17, {0: np.array([1, rows, len(classify)], np.int32)}),
        _operator(place, 2, "logits", "scores", 0, {}),
        {**_operator(place, 3, "encoded scores anchors", LIST, 0, {}), 5: bytes(flexbuffers.Dumps(options))},
    ]
    ends = np.arange(place[LIST], place[LIST] + 4, dtype=np.int32)
    operators[-1][2] = ends
    codes = [(_CONV, ""), (_RESHAPE, ""), (_LOGISTIC, ""), (_CUSTOM, LIST)]
    model: dict[int, Any] = {
        0: Scalar("Uint32", 3),
        1: [{0: i8(c), **({1: name} if name else {}), 2: i32(1), 3: i32(c)} for c, name in codes],
        2: [{0: tensors, 1: np.array([0], np.int32), 2: ends, 3: operators, 4: "main"}],
        3: "written by hand",
        4: buffers,
    }
    return _finished(model, metadata)


def _finished(model: dict[int, Any], metadata: bytes) -> bytes:
    if metadata:
        model[6] = [{0: "TFLITE_METADATA", 1: Scalar("Uint32", len(model[4]))}]
        model[4].append({0: metadata})
    return flat(model, b"TFL3")


def _arrays(net: Net, pair: bool) -> dict[str, Array | tuple[int, ...]]:
    """The tensors: their content, or their size without the batch."""
    filters, matrix = np.ascontiguousarray(net.filters.transpose(3, 0, 1, 2)), np.ascontiguousarray(net.matrix.T)
    maps, classes = len(filters), len(matrix)
    image = (net.height, net.width, filters.shape[3])
    second = {"other": image, "maps2": (*image[:2], maps), "mean2": (maps,), "apart": (maps,)} if pair else {}
    return {
        "image": image,
        "filters": filters,
        "conv_bias": np.zeros(maps, np.float32),
        "axes": np.array([1, 2], np.int32),
        "maps": (net.height, net.width, maps),
        "mean": (maps,),
        "matrix": matrix,
        "linear_bias": np.zeros(classes, np.float32),
        "linear": (classes,),
        "scores": (classes,),
        **second,
    }


def _tensors(
    net: Net, quantised: bool, batch: int, arrays: dict[str, Array | tuple[int, ...]]
) -> tuple[list[dict[int, Any]], list[dict[int, Any]]]:
    """The tables of the tensors, and of their buffers."""
    tensors: list[dict[int, Any]] = []
    buffers: list[dict[int, Any]] = [{}]
    for name, content in arrays.items():
        scale, zero = scales(net)[name] if quantised else (0.0, 0)
        kind = _INT32 if name == "axes" or (quantised and name.endswith("bias")) else _INT8 if quantised else _FLOAT32
        fixed = isinstance(content, np.ndarray)
        dims = content.shape if isinstance(content, np.ndarray) else (abs(batch), *content)
        table = {0: np.array(dims, np.int32), 1: i8(kind), 2: Scalar("Uint32", len(buffers) if fixed else 0), 3: name}
        if isinstance(content, np.ndarray):
            codes = np.rint(content / scale).astype(np.int8) if kind == _INT8 else content
            buffers.append({0: (codes.astype(np.int32) if kind == _INT32 else codes).tobytes()})
        elif batch == -1:
            table[7] = np.array([-1, *dims[1:]], np.int32)  # shape_signature
        if scale:
            table[4] = {2: np.array([scale], np.float32), 3: np.array([zero], np.int64)}
        tensors.append(table)
    return tensors, buffers


def scales(net: Net) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each tensor of the network in int8."""
    filters, matrix = (float(np.abs(w).max()) / 127 for w in (net.filters, net.matrix))
    image, maps, linear = 1 / 127.5, 5 / 255, 5 / 127
    return {
        "image": (image, 0),
        "filters": (filters, 0),
        "conv_bias": (image * filters, 0),
        "axes": (0.0, 0),
        "maps": (maps, -128),
        "mean": (maps, -128),
        "matrix": (matrix, 0),
        "linear_bias": (maps * matrix, 0),
        "linear": (linear, 0),
        "scores": (1 / 256, -128),
    }


def _operator(
    place: dict[str, int], code: int, inputs: str, output: str, kind: int, options: dict[int, Any]
) -> dict[int, Any]:
    ends = [np.array([place[name] for name in names.split()], np.int32) for names in (inputs, output)]
    table = {0: Scalar("Uint32", code), 1: ends[0], 2: ends[1]}
    return {**table, 3: Scalar("Uint8", kind), 4: options} if kind else table


def metadata(mean: Sequence[float], std: Sequence[float], labels: str = "labels.txt") -> bytes:
    """A ModelMetadata: the image's NormalizationOptions, and the scores' file of labels."""
    options = {0: np.array(mean, np.float32), 1: np.array(std, np.float32)}
    image = {0: "image", 4: [{0: Scalar("Uint8", 1), 1: options}]}
    scores = {0: "scores", 6: [{0: labels, 2: i8(2)}]}
    return flat({0: "net", 3: [{2: [image], 3: [scores]}]}, b"M001")


def with_files(data: bytes, files: dict[str, str]) -> bytes:
    """A zip archive of associated files after the graph."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return stream.getvalue()
