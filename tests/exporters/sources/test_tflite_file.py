"""TFLite as a source: `tflite_file.py`, `tflite/`."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Export, Request, export
from xai_exporters.errors import GraphError, RequestError, SourceError
from xai_exporters.sources import TrainedNetwork, load_source
from xai_exporters.sources.openvino_ir import child
from xai_exporters.sources.openvino_ir.unread import why_unread
from xai_exporters.sources.stated import Stated
from xai_exporters.sources.tflite import metadata
from xai_exporters.sources.tflite.model import TFLite

from xai_deploy import Explainer
from xai_deploy.foundation import runtimes

from ...support.zips import changed
from ..running import HEAD_AND_TAIL
from .written import NET, agree, images, refusal, tflite

LABELS = "cat\ndog\nbig bird\nowl\n"


def saved(folder: Path, data: bytes, name: str = "net.tflite") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(("batch", "name"), [(1, "net.tflite"), (-1, "net.bin")])
def test_computes_the_network(batch: int, name: str, tmp_path: Path) -> None:
    """A file is known by its content, not by its name."""
    network = load_source(Request(saved(tmp_path, tflite.network(NET, batch=batch), name)))
    assert network.kind == "TFLite"
    assert network.framework == "OpenVINO on the TFLite file"
    assert {"maps", "mean", "linear"} <= {node.name for node in network.proto.graph.node}
    x = images(3 if batch == -1 else 1)
    agree(network, x, NET.scores(x))


def test_int8(tmp_path: Path) -> None:
    """Real values are (pixel - 128) / 127.5; of the output, code -128 is 0 and a step is 1 / 256."""
    network = load_source(Request(saved(tmp_path, tflite.network(NET, quantised=True))))
    assert network.kind == "TFLite, int8 input as uint8 pixels"
    assert network.notes == ()
    assert {"maps", "mean", "linear"} <= {node.name for node in network.proto.graph.node}
    x = np.random.default_rng(2).integers(0, 256, (1, NET.height, NET.width, 3)).astype(np.uint8)
    codes = NET.scores((x.astype(np.float64) - 128) / 127.5) * 256 - 128
    agree(network, x, codes, tolerance=8)


def repeating(count: int) -> bytes:
    """A file whose graph names its one tensor `count` times as an input; the tensor's shape is a list of as many numbers."""
    numbers = struct.pack(f"<{count + 1}I", count, *[1] * count)
    words = [
        struct.pack("<I4sHHHHHHI", 20, b"TFL3", 10, 8, 0, 0, 4, 0, 0)[:20],  # vtable at 8: field 2 (graphs) at 4
        struct.pack("<iIII", 12, 4, 1, 12),  # 20: root; 28: one graph, at 44
        struct.pack("<HHHH", 8, 12, 4, 8),  # 36: vtable of the graph: tensors at 4, inputs at 8
        struct.pack("<iIIII", 8, 8, 28, 1, 12),  # 44: graph; 56: one tensor, at 72; inputs at 80
        struct.pack("<HHHH", 6, 8, 4, 0),  # 64: vtable of the tensor: shape at 4
        struct.pack("<iI", 8, 4 + len(numbers)),  # 72: tensor
        struct.pack(f"<{count + 1}I", count, *[0] * count),  # 80: inputs
        numbers,
    ]
    return b"".join(words)


def test_lists_that_name_the_same_bytes(tmp_path: Path) -> None:
    """A file of 160 kB would be read as 400 million numbers."""
    assert TFLite(repeating(3)).input_shapes == [[1, 1, 1]] * 3
    said = refusal(saved(tmp_path, repeating(20_000)))
    assert said.endswith("a damaged or truncated TFLite file (its lists name the same bytes many times)")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Export]:
    """The network in float32 and in int8, exported."""
    folder, done = tmp_path_factory.mktemp("tflite"), {}
    for quantised in (False, True):
        data = tflite.network(NET, quantised, tflite.metadata([127.5], [127.5]))
        source = saved(folder, tflite.with_files(data, {"labels.txt": LABELS}), f"{quantised}.tflite")
        done[quantised] = export(Request(source, output_path=source.with_suffix(".xai"), roles=("gradient",)))
    return done


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("quantised", [False, True])
def test_explains(quantised: bool, backend: str, bundles: dict[bool, Export]) -> None:
    """Grad-CAM of a global mean and a linear layer: relu(sum_k m_kc / (H W) A_k)."""
    done = bundles[quantised]
    explainer = Explainer(done.path, backend)
    assert explainer.bundle.labels == ("cat", "dog", "big bird", "owl")
    spec = done.manifest.input
    assert (spec.layout, spec.dtype) == ("NHWC", "uint8" if quantised else "float32")
    pixels = np.random.default_rng(2).integers(0, 256, (2, NET.height, NET.width, 3)).astype(np.uint8)
    x = pixels if quantised else ((pixels - 127.5) / 127.5).astype(np.float32)
    raw = explainer.explain(x, "grad-cam", [1, 2]).raw
    maps = NET.maps((pixels.astype(np.float64) - (128 if quantised else 127.5)) / 127.5)
    want = np.maximum(np.einsum("nhwk,kn->nhw", maps, NET.matrix[:, [1, 2]]), 0)
    got, want = (m / m.max() for m in (raw, want))
    assert np.abs(got - want).max() < (0.08 if quantised else 1e-4)


@pytest.mark.parametrize("stated", [True, False])
def test_codes_of_normalised_pixels(stated: bool, tmp_path: Path) -> None:
    """Pixels were taken as codes, and the file's normalisation was said to be used. Asked for, it was refused."""
    data = tflite.network(NET, quantised=True, metadata=tflite.metadata([120], [60]) if stated else b"")
    fields = {} if stated else {"mean": (120.0,), "std": (60.0,), "scale": 1.0, "resize": "stretch"}
    source = saved(tmp_path, data)
    done = export(Request(source, output_path=tmp_path / "net.xai", preprocess_fields=fields, roles=HEAD_AND_TAIL))
    assert done.manifest.input.dtype == "float32"
    assert (done.manifest.input.preprocess.mean, done.manifest.input.preprocess.std) == ((120.0,) * 3, (60.0,) * 3)
    assert ("Preprocessing is that of the file's TFLite metadata." in done.notes) == stated
    pixels = np.random.default_rng(2).integers(0, 256, (NET.height, NET.width, 3)).astype(np.uint8)
    codes = np.clip(np.rint((pixels - 120.0) / 60 * 127.5), -128, 127)
    assert (np.abs(codes - (pixels - 128.0)) > 20).mean() > 0.5
    want = NET.scores(codes[None] / 127.5)
    for backend in ("onnxruntime", "openvino"):
        shares = np.exp(Explainer(done.path, backend).predict(pixels))
        np.testing.assert_allclose(shares / shares.sum(), want, atol=8 / 256)


def said(data: bytes) -> TrainedNetwork:
    """What the file says of itself; its graph is not read."""
    return metadata.read(Path("net.tflite"), TFLite(data), None, TrainedNetwork(onnx.ModelProto(), "TFLite"))


def test_metadata() -> None:
    data = tflite.network(NET, metadata=tflite.metadata([1, 2, 3], [4, 5, 6], "my labels.txt"))
    network = said(tflite.with_files(data, {"my labels.txt": LABELS}))
    assert network.labels == ("cat", "dog", "big bird", "owl")
    assert network.labels_from == "my labels.txt"
    assert isinstance(network.preprocess, Stated)
    fields = network.preprocess.fields
    assert (fields["mean"], fields["std"], fields["scale"], fields["color"]) == ((1, 2, 3), (4, 5, 6), 1, "RGB")
    assert said(data).labels == ()  # without the archive
    assert isinstance(said(data).preprocess, Stated)


def test_ultralytics_metadata_stands_as_class_names() -> None:
    """One line that is a mapping: with one class it became the class's name."""
    line = str({"task": "detect", "stride": 32, "imgsz": [64, 96], "names": {0: "face", 1: "a b"}})
    labels = {0: "yolo", 3: [{3: [{0: "boxes", 6: [{0: "temp_meta.txt", 2: tflite.i8(2)}]}]}]}
    data = tflite.network(NET, metadata=tflite.flat(labels, b"M001"))
    network = said(tflite.with_files(data, {"temp_meta.txt": line}))
    assert network.labels == ("face", "a b")
    assert isinstance(network.preprocess, Stated)
    assert (network.preprocess.size, network.preprocess.fields["resize"]) == ((64, 96), "letterbox")
    assert network.preprocess.fields["scale"] == 1 / 255


def test_an_inner_tensor_has_no_names() -> None:
    """Names stand with an output; an inner tensor may belong to another one."""
    data = tflite.with_files(tflite.network(NET, metadata=tflite.metadata([1], [1])), {"labels.txt": LABELS})
    for output, count in ((None, 4), (TFLite(data).outputs[0], 4), ("maps", 0)):
        network = metadata.read(Path("net.tflite"), TFLite(data), output, TrainedNetwork(onnx.ModelProto(), "TFLite"))
        assert len(network.labels) == count


@pytest.mark.parametrize(
    ("mean", "std", "labels", "note"),
    [
        ([1, 2], [4], LABELS, "NormalizationOptions do not fit"),
        ([1], [0], LABELS, "NormalizationOptions do not fit"),
        ([1], [1], "cat\n\ndog\n", "empty ones"),
        ([1], [1], "x" * (2 << 20), "is longer than"),
        (None, None, LABELS, "outside its 64 bytes"),
    ],
    ids=["channels", "zero", "empty", "long", "damaged"],
)
def test_metadata_that_is_not_used(mean: list[float] | None, std: list[float], labels: str, note: str) -> None:
    data = tflite.network(NET, metadata=b"\xff" * 64 if mean is None else tflite.metadata(mean, std))
    network = said(tflite.with_files(data, {"labels.txt": labels}))
    assert network.labels == ()
    assert note in network.notes[0]


def test_an_archive_whose_entries_overlap() -> None:
    data = tflite.with_files(
        tflite.network(NET, metadata=tflite.metadata([1], [1])), {"labels.txt": LABELS, "more": ""}
    )
    network = said(changed(data, "labels.txt", larger=8))
    assert network.labels == ()
    assert network.notes == (
        "net.tflite: its metadata is not used: its archive of associated files is an archive whose entries overlap ('more').",
    )


def test_a_custom_operator(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, tflite.network(NET, custom="Mine")))
    assert (
        "the node 'scores' (Mine): OpenVINO's reader knows no operator of this type; export the network without it"
        in text
    )


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("edgetpu-custom-op", "compiled for the Edge TPU; name the .tflite file that it was compiled from"),
        ("ethos-u", "compiled for the Arm Ethos-U; name the .tflite file that it was compiled from"),
        (
            "FlexErf",
            r"one of TensorFlow's own operators (Select TF ops); name the SavedModel that it was converted from",
        ),
    ],
)
def test_an_operator_of_one_machine_or_of_tensorflow(kind: str, told: str, tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, tflite.network(NET, custom=kind)))
    assert f"the node 'scores' ({kind}): {told}" in text


@pytest.mark.parametrize(("place", "shown"), [(1, "the node 'mean' (RFFT2D): "), (99, "a node (RFFT2D): ")])
def test_a_standard_operator_that_openvino_does_not_know(place: int, shown: str, tmp_path: Path) -> None:
    """It has no name in the file, but OpenVINO 2026.4 says its place among the operators."""
    path = saved(tmp_path, tflite.network(NET))
    error = RuntimeError(
        "Check 'false' failed at src/frontends/tensorflow_lite/src/frontend.cpp:109:\n"
        f"The translation is incomplete due to operation {place} of type RFFT2D\n"
    )
    assert why_unread(error, "tflite", str(path)).startswith(f"{shown}OpenVINO's reader knows no operator of this type")


STATE = (
    "FrontEnd API failed with GeneralFailure:\n"
    "This tensor should be either input, constant or should be already produced by previous operators: {tensor}. "
    "Error is encountered while working with operation of type {kind} and name {place}\n"
)


@pytest.mark.parametrize(
    ("kind", "place", "told"),
    [
        ("SVDF", 1, "the node 'mean' (SVDF): keeps a state in a tensor that no operator gives"),
        ("ethos-u", 0, "the node 'maps' (ethos-u): compiled for the Arm Ethos-U; name the .tflite file"),
        ("DISPATCH_OP", 99, "a node (DISPATCH_OP): compiled for one kind of NPU"),
    ],
)
def test_an_operator_with_a_state(kind: str, place: int, told: str, tmp_path: Path) -> None:
    """OpenVINO 2026.4 names the tensor and the operator's place; an operator for one machine has scratch memory."""
    error = RuntimeError(STATE.format(tensor="lstm/zeros", kind=kind, place=place))
    assert why_unread(error, "tflite", str(saved(tmp_path, tflite.network(NET)))).startswith(told)


def test_what_openvino_fails_at(tmp_path: Path) -> None:
    """Its reader moves transpositions, and OpenVINO 2026.4 fails so at a DeepLab of Coral's."""
    text = why_unread(
        RuntimeError("[TSConcatForward] END: node: opset1::Concat 78\n"), "tflite", str(tmp_path / "net.tflite")
    )
    assert text.startswith(
        "OpenVINO can't read it ([TSConcatForward] END: node: opset1::Concat 78); if it is whole, python -m tf2onnx"
    )


def test_another_schema(tmp_path: Path) -> None:
    data = bytearray(tflite.network(NET))
    [root] = struct.unpack_from("<I", data)
    vtable = root - struct.unpack_from("<i", data, root)[0]
    struct.pack_into("<I", data, root + struct.unpack_from("<H", data, vtable + 4)[0], 99)
    assert "a TFLite file of schema version 99; runtimes read version 3 alone" in refusal(saved(tmp_path, bytes(data)))


def upsampled(x: Any, weights: Any, bias: Any, stride: tuple[int, int], same: bool) -> Any:
    """MediaPipe's Convolution2DTransposeBias, as transpose_conv_bias.cc writes it: [N,H,W,I] * [O,h,w,I] + [O]."""
    (_, height, width, _), (_, h, w, _) = x.shape, weights.shape
    pads = [max(0, k - (n - 1) % s - 1) if same else 0 for k, n, s in zip((h, w), (height, width), stride, strict=True)]
    full = np.zeros((len(x), stride[0] * (height - 1) + h, stride[1] * (width - 1) + w, len(bias)))
    for row in range(height):
        for column in range(width):
            top, left = row * stride[0], column * stride[1]
            full[:, top : top + h, left : left + w] += np.einsum("ni,ohwi->nhwo", x[:, row, column], weights)
    begin, size = [p // 2 for p in pads], [n - p for n, p in zip(full.shape[1:3], pads, strict=True)]
    return full[:, begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]] + bias


@pytest.mark.parametrize(("stride", "same"), [((2, 2), True), ((2, 3), True), ((3, 2), False), ((1, 1), True)])
def test_a_custom_operator_with_a_public_definition(stride: tuple[int, int], same: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, weights, bias = (rng.normal(size=size).astype(np.float32) for size in ((1, 5, 4, 3), (2, 3, 4, 3), (2,)))
    want = upsampled(x, weights, bias, stride, same)
    options = struct.pack("<3i", 1 if same else 2, stride[1], stride[0])
    path = saved(tmp_path, tflite.one_custom("Convolution2DTransposeBias", options, x, (weights, bias), want.shape))
    model = child._read("tflite", str(path), "")
    [got] = runtimes.openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x]).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_damaged_options_of_a_custom_operator(tmp_path: Path) -> None:
    weights, image = np.ones((1, 2, 2, 3), np.float32), np.ones((1, 5, 4, 3), np.float32)
    for options in (b"", struct.pack("<3i", 1, 0, -1)):
        data = tflite.one_custom(
            "Convolution2DTransposeBias", options, image, (weights, weights[0, 0, 0]), (1, 5, 4, 1)
        )
        with pytest.raises(SourceError, match="the options of Convolution2DTransposeBias are damaged"):
            child._read("tflite", str(saved(tmp_path, data)), "")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9])
def test_truncated(keep: float, tmp_path: Path) -> None:
    data = tflite.network(NET)
    assert "a damaged or truncated TFLite file" in refusal(saved(tmp_path, data[: int(len(data) * keep)]))


def test_elements_of_a_type_that_openvino_does_not_know(tmp_path: Path) -> None:
    data = bytearray(tflite.network(NET))
    place = data.index(b"linear_bias") - 9  # the type in the tensor's table, which its name follows
    assert data[place] == 0
    data[place] = 8  # complex64
    text = refusal(saved(tmp_path, bytes(data)))
    assert "the node 'linear_bias' (Constant): holds elements of a type that OpenVINO does not know" in text


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            13,
            "the tensor 'linear_bias' is a variable or a table (RESOURCE), which no bundle holds: convert the network again ",
        ),
        (14, "the tensor 'linear_bias' is a variable or a table (VARIANT), "),
        (
            18,
            "the tensor 'linear_bias' holds elements of a type that OpenVINO's reader does not know (BFLOAT16): convert ",
        ),
        (20, "a tensor holds elements of a type that OpenVINO's reader does not know: convert "),
    ],
)
def test_elements_that_no_bundle_holds(kind: int, said: str, tmp_path: Path) -> None:
    """Numbers of the schema's TensorType; 20 is newer than OpenVINO 2026.4, which does not name it."""
    data = bytearray(tflite.network(NET))
    data[data.index(b"linear_bias") - 9] = kind
    text = refusal(saved(tmp_path, bytes(data)))
    assert said in text
    assert ("experimental_enable_resource_variables" in text) == (kind < 18)


@pytest.mark.parametrize(
    ("wide", "said"),
    [
        (("image",), "the input 'image' holds INT16; .* an input of floats .*inference_input_type = tf.float32"),
        (("scores",), r"the output 'scores' holds codes of 16 bits \(int16\); .*inference_output_type = tf.float32"),
    ],
)
def test_codes_of_16_bits_outside(wide: tuple[str, ...], said: str, tmp_path: Path) -> None:
    path = saved(tmp_path, tflite.network(NET, quantised=True, wide=wide))
    with pytest.raises(GraphError, match=said):
        export(Request(path, preprocess="none"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_damaged_file_gives_one_line(tmp_path: Path) -> None:
    bad, rng = bytearray(tflite.network(NET)), np.random.default_rng(5)
    for place in rng.integers(8, len(bad), 10):
        bad[place] = rng.integers(0, 256)
    with contextlib.suppress(SourceError):  # any other error, or a crash, fails the test
        load_source(Request(saved(tmp_path, bytes(bad))))


def test_arch_is_refused(tmp_path: Path) -> None:
    assert "a TFLite file holds its own network" in refusal(
        saved(tmp_path, tflite.network(NET)), RequestError, arch="resnet50"
    )
