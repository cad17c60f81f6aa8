"""Files of other kinds are named by their content, with what to do, in one line."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
from xai_exporters.cli import main


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.onnx"))
    return stream.getvalue()


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("net.onnx", b"", "the file is empty"),
    "HTML": (
        "net.onnx",
        b"\n<!DOCTYPE html><html><head><title>Sign in</title>",
        "a page of HTML.*fetch the file itself",
    ),
    "LFS": (
        "net.onnx",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer.*git lfs pull",
    ),
    "XML": ("net.xml", b"<?xml version='1.0'?>\n<annotation/>", "an XML file; name the network"),
    "TFLite": ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(60), "a damaged or truncated TFLite file"),
    "ORT": ("net.ort", b"\x1c\0\0\0ORTM" + bytes(60), "ORT format"),
    "HDF5": (
        "net.h5",
        b"\x89HDF\r\n\x1a\n" + bytes(60) + b"model_config",
        "a Keras model .HDF5.; convert it with tf2onnx: python -m tf2onnx.convert --keras net.h5 --output net.onnx, and name .* in "
        r"Keras, keras.saving.load_model\('net.h5', compile=False\).export\('net'\), and name that folder",
    ),
    "weights of Keras": (
        "net.weights.h5",
        b"\x89HDF\r\n\x1a\n" + bytes(60),
        "an HDF5 file without a network, such as Keras' weights; build the network in Keras, load them, save it",
    ),
    "Keras": (
        "my net.keras",
        zipped("config.json", "metadata.json", "model.weights.h5"),
        "a Keras model; convert it with tf2onnx: python -m tf2onnx.convert --keras 'my net.keras' --output 'my net'.onnx, and",
    ),
    "zipped bundle": ("b.zip", zipped("b.xai/manifest.json", "b.xai/head.onnx"), "a zip archive of a bundle"),
    "npz": ("a.npz", zipped("a.npy", "b.npy"), r"NumPy arrays \(\.npz\); name the network"),
    "pickle": (
        "net.pkl",
        pickle.dumps({"a": 1}),
        "a Python pickle, which runs code as it is read, so it is not opened",
    ),
    "pickle of texts": (
        "net.pkl",
        pickle.dumps({"a": [1] * 5000}, 0),
        "a Python pickle, which runs code as it is read",
    ),
    "pickle without a number": ("net.pth", pickle.dumps({"a": 1}, 1), "a Python pickle, which runs code as it is read"),
    "text that begins like one": ("net.txt", b"categories of the network\n(cat, dog)\n", "damaged, or no network"),
    "zip": ("net.zip", zipped("folder/readme.txt", "net.onnx"), "a zip archive with 'net.onnx' in it; unpack it"),
    "gzip": ("net.onnx.gz", b"\x1f\x8b\x08" + bytes(60), "a gzip archive; unpack it"),
    "tar": ("net.tar", tarred(), "a tar archive; unpack it"),
    "SavedModel": (
        "model1.pb",
        b"\x08\x01\x12\xa0\xdf\x11\n\xad\x16\x12" + bytes(20),
        "call it saved_model.pb, in one folder with its folder variables",
    ),
    "TensorFlow": ("net.pb", b"\n\x0f\n\x05input\x12\x0bPlaceholder" + bytes(9), "damaged or truncated"),
    "TensorRT": ("net.engine", b"ptrt" + bytes(60), "a TensorRT engine; it is built for one GPU"),
    "plan": ("net.plan", bytes(range(1, 60)), "a TensorRT engine"),
    "Core ML": ("net.mlmodel", b"\x08\x04\x12\x10" + bytes(60), "a Core ML model"),
    "ncnn": ("net.param", b"7767517\n3 3\nInput data 0 1 data\n", "ncnn's .param file"),
    "Caffe": ("net.caffemodel", b"\n\x07AlexNet" + bytes(60), "a Caffe model"),
    "prototxt": ("net.prototxt", b'name: "AlexNet"\nlayer {\n', "a Caffe prototxt"),
    "ExecuTorch": ("net.pte", b"\x1c\0\0\0ET12" + bytes(60), "an ExecuTorch program; export the network to ONNX"),
    "RKNN": ("net.rknn", b"RKNN" + bytes(60), "an RKNN model; it is built for one kind of NPU"),
    "Hailo": ("net.hef", b"\x01HEF" + bytes(60), "a Hailo HEF file; it is built for one kind of NPU"),
    "DLC": ("net.dlc", zipped("model", "model.params", "dlc.metadata"), "a Qualcomm DLC file; export the network"),
    "MNN": ("net.mnn", b"\x20\0\0\0" + bytes(60), "an MNN model; export the network to ONNX"),
    "Darknet": ("yolo.cfg", b"[net]\nwidth=416\n", "a Darknet network, the layers without weights; convert it"),
    "Darknet weights": ("yolo.weights", b"\0\0\0\0\x02\0\0\0" + bytes(60), "Darknet's weights; convert them and"),
    "TensorFlow.js": ("model.json", b'{"format": "graph-model", "modelTopology": {}}', "a TensorFlow.js network; name"),
    "TensorFlow.js, as older ones begin": ("model.json", b'{"weightsManifest": []}', "a TensorFlow.js network; name"),
    "JSON of another format": ("a.json", b'{"format": "coco", "images": []}', "a JSON file; name the network"),
    "other weights": ("net.weights", b"\x07\x08\x09" + bytes(60), "damaged, or no network"),
    "other meta": ("net.meta", b"made by hand", "damaged, or no network"),
    "TensorFlow's checkpoint": ("model.ckpt.meta", b"\n\x80\x04" + bytes(60), "a TensorFlow checkpoint's graph; save"),
    "GGUF": ("net.gguf", b"GGUF\x03\0\0\0" + bytes(60), "a GGUF file"),
    "Paddle": (
        "inference.pdmodel",
        b"\x0a\xff\x01\x08\0\x10" + bytes(60),
        "its weights, inference.pdiparams, are missing",
    ),
    "pbtxt": (
        "net.pbtxt",
        b'node {\n  name: "image"\n  op: "Placeholder"\n',
        "a TensorFlow graph as text; save it in binary",
    ),
    "PIR": ("inference.json", b'{"base_code":{"magic":"pir","version":1}}', "a PaddlePaddle program in PIR's form"),
    "Paddle weights": (
        "net.pdiparams",
        bytes(60),
        "the weights of a PaddlePaddle network; name its program, net.pdmodel",
    ),
    "image": ("net.onnx", b"\x89PNG\r\n\x1a\n" + bytes(60), "an image; name the network"),
}


@pytest.mark.parametrize("kind", FILES)
def test_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, told = FILES[kind]
    (tmp_path / name).write_bytes(content)
    check(tmp_path / name, told, capsys)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (["saved_model.pb", "fingerprint.pb"], "OpenVINO can't read it .*Saved Model cannot be parsed"),
        (["manifest.json", "head.onnx"], "a bundle, which is exported already"),
        (["Manifest.json", "Data"], "a Core ML package"),
        (["config.json"], "optimum-cli"),
        ([], "a folder; name the network's file"),
    ],
)
def test_folder(entries: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net").mkdir()
    for entry in entries:
        (tmp_path / "net" / entry).write_bytes(b"content")
    check(tmp_path / "net", told, capsys)


def check(path: Path, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert main([str(path), "-o", str(path.parent / "out.xai")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert re.search(rf"{re.escape(path.name)}: .*{told}", line), line
    assert not (path.parent / "out.xai").exists()
