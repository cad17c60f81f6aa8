"""Files that xai-export does not read: their kind, recognised by the content, and advice on what to do."""

from __future__ import annotations

import pickletools
import re
import shlex
import zipfile
from pathlib import Path

from .source_file import SourceFile

_HDF5 = b"\x89HDF\r\n\x1a\n"
_LAYERS = b"model_config"
"""The attribute of an HDF5 file in which Keras keeps a network's layers; a file of weights has none."""
_SEARCHED = 1 << 24  # bytes of a file: Keras writes its attributes first
_PIR = "a PaddlePaddle program in PIR's form (JSON); save it as .pdmodel (FLAGS_enable_pir_api=0), or convert it with paddle2onnx"
_TRAINING = "export the network to ONNX from the framework it was trained in"

_ENGINE = "a TensorRT engine", f"it is built for one GPU and can't be read back; {_TRAINING}"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with git lfs pull"),
    (b"GGUF", "a GGUF file (llama.cpp)", f"such files hold only weights; {_TRAINING}"),
    (b"7767517", "ncnn's .param file", _TRAINING),
    (b"ptrt", *_ENGINE),
    (b"ftrt", *_ENGINE),
    (b"RKNN", "an RKNN model", f"it is built for one kind of NPU and can't be read back; {_TRAINING}"),
    (b"\x01HEF", "a Hailo HEF file", f"it is built for one kind of NPU and can't be read back; {_TRAINING}"),
    (b"\x1f\x8b", "a gzip archive", "unpack it, and name the network in it"),
    (b"BZh", "a bzip2 archive", "unpack it, and name the network in it"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it, and name the network in it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it, and name the network in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the network in it"),
    (b"Rar!", "a RAR archive", "unpack it, and name the network in it"),
    (b"\x93NUMPY", "a NumPy array", "name the network, not an array"),
    (b"\x89PNG", "an image", "name the network; images are for xai-explain"),
    (b"\xff\xd8\xff", "an image", "name the network; images are for xai-explain"),
    (b"GIF8", "an image", "name the network; images are for xai-explain"),
    (b"BM", "an image", "name the network; images are for xai-explain"),
    (b"II*\x00", "an image", "name the network; images are for xai-explain"),
    (b"MM\x00*", "an image", "name the network; images are for xai-explain"),
    (b"\x7fELF", "a program", "name the network's own file"),
    (b"MZ", "a program", "name the network's own file"),
)

_ENDINGS: dict[str, tuple[bytes, str]] = {
    ".pb": (b"", "a damaged TensorFlow graph, or a protobuf file of another kind; export it again"),
    **dict.fromkeys((".engine", ".plan", ".trt"), (b"", "; ".join(_ENGINE))),
    ".mlmodel": (b"", f"a Core ML model; {_TRAINING}"),
    ".mnn": (b"", f"an MNN model; {_TRAINING}"),
    ".weights": (bytes(4), "Darknet's weights; convert them and their .cfg to ONNX, and name that file"),
    ".meta": (b"\n", "a TensorFlow checkpoint's graph; save the network as a SavedModel, and name its folder"),
}
"""A file's extension -> the bytes that it begins with, and what is said. Darknet's first number is the major version 0; a
MetaGraphDef begins with its field 1."""


_SAVED_MODEL = re.compile(rb"\x08\x01\x12[\x80-\xff]*[\x00-\x7f]\n")
"""The beginning of a saved_model.pb: the schema's version 1, then a MetaGraphDef and its length."""


def describe(file: SourceFile) -> str | None:
    """ "a TFLite model; ..." for a file of a known kind, or None."""
    try:
        with open(file.path, "rb") as stream:
            head = stream.read(4096)
    except OSError:
        return None
    if not head:
        return "the file is empty; fetch or export it again"
    for start, what, advice in _STARTS:
        if head.startswith(start):
            return f"{what}; {advice}"
    if head.startswith(_HDF5):
        return _hdf5(file.path)
    if head[8:12] in (b"WEBP", b"avif", b"heic", b"mif1"):
        return "an image; name the network; images are for xai-explain"
    if head[4:8] == b"ORTM":  # a FlatBuffers file has its identifier after the root's offset
        return "a model in ONNX Runtime's ORT format; name the ONNX file that it was made from"
    if re.fullmatch(rb"ET\d\d", head[4:8]):
        return f"an ExecuTorch program; {_TRAINING}"
    if head[257:262] == b"ustar":  # the magic number in the first header of a tar archive
        return "a tar archive; unpack it, and name the network in it"
    if head.startswith(b"PK"):
        return _archive(file.path)
    if re.match(rb"\x80[\x02-\x05]", head) or _is_text_pickle(head):
        return f"a Python pickle, which runs code as it is read, so it is not opened; save a state dict, or {_TRAINING}"
    return _text(head) or _protobuf(head, file.path)


def _is_text_pickle(head: bytes) -> bool:
    """Whether a file begins as pickles of protocol 0 and 1, which have no magic number."""
    if not re.match(rb"[c(\]}){L]", head):
        return False
    names = []
    try:
        for opcode, _, _ in pickletools.genops(head):
            names.append(opcode.name)
    except ValueError:  # the head is not all of it
        pass
    # ordinary text is seldom an instruction, let alone eight
    return names[-1:] == ["STOP"] or len(names) >= 8


def folder(path: Path) -> str:
    """The kind of a folder (a SavedModel, a Core ML package, a bundle), and what to do."""
    names = {entry.name for entry in path.iterdir()}
    if "manifest.json" in names and "head.onnx" in names:
        return "a bundle, which is exported already; give it to xai-explain"
    if "Manifest.json" in names and "Data" in names:
        return f"a Core ML package; {_TRAINING}"
    if "config.json" in names:
        how = "name the weights in it, with --arch hf:FOLDER, or export it with optimum-cli export onnx"
        return f"a folder of Hugging Face's; {how}"
    return "a folder; name the network's file"


def _archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except Exception:  # zipfile lets every error that the damage causes through
        return None
    if {"config.json", "model.weights.h5"} <= names or any(name.endswith("model.weights.h5") for name in names):
        return f"a Keras model; {_keras(path)}"
    if {"manifest.json", "head.onnx"} <= {name.rpartition("/")[2] for name in names}:
        return "a zip archive of a bundle, which is exported already; unpack it, and give the folder to xai-explain"
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz); name the network, not arrays"
    if "dlc.metadata" in names:
        return f"a Qualcomm DLC file; {_TRAINING}"
    models = sorted(n for n in names if n.endswith((".onnx", ".pt", ".pth", ".safetensors", ".tflite", ".pb")))
    if models:
        return f"a zip archive with {models[0]!r} in it; unpack it, and name the network"
    return None


def _hdf5(path: Path) -> str:
    with open(path, "rb") as stream:
        if _LAYERS in stream.read(_SEARCHED):
            return f"a Keras model (HDF5); {_keras(path)}"
    return (
        "an HDF5 file without a network, such as Keras' weights; build the network in Keras, load them, save it with "
        "model.save('net.keras'), and convert that: python -m tf2onnx.convert --keras net.keras --output net.onnx"
    )


def _keras(path: Path) -> str:
    """What a user types where Keras is installed."""
    line = f"python -m tf2onnx.convert --keras {shlex.quote(path.name)} --output {shlex.quote(path.stem)}.onnx"
    folder = f"keras.saving.load_model({path.name!r}, compile=False).export({path.stem!r})"
    return f"convert it with tf2onnx: {line}, and name that file; or in Keras, {folder}, and name that folder"


def _text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lowered = start[:512].lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a page of HTML, as a download gives that failed or wants a login; fetch the file itself"
    if lowered.startswith(b"<?xml") or lowered.startswith(b"<net"):
        return "an XML file; name the network"
    if re.match(rb"\s*(name\s*:\s*\"|layer\s*\{|input\s*:\s*\")", start):
        return f"a Caffe prototxt, the layers without weights; {_TRAINING}"
    if re.match(rb"\s*\{\s*\"base_code\"\s*:\s*\{\s*\"magic\"\s*:\s*\"pir\"", start):
        return _PIR
    if re.match(rb"\s*node\s*\{\s*name\s*:", start):
        return "a TensorFlow graph as text; save it in binary form, as .pb (tf.io.write_graph(..., as_text=False))"
    if re.match(rb"\[(net|network)\]", lowered):
        return "a Darknet network, the layers without weights; convert it and its .weights to ONNX, and name that file"
    if re.match(rb"\{\s*\"(modeltopology|weightsmanifest|format\"\s*:\s*\"(graph|layers)-model)\"", lowered):
        return (
            f"a TensorFlow.js network; name the SavedModel or the Keras network that it was made from, or {_TRAINING}"
        )
    if lowered.startswith(b"{"):
        return "a JSON file; name the network"
    return None


def _protobuf(head: bytes, path: Path) -> str | None:
    """Formats without a magic number, recognised by names in the first bytes, or by the file's extension."""
    ending = path.suffix.lower()
    if ending == ".pb" and _SAVED_MODEL.match(head):
        return (
            "the graph of a TensorFlow SavedModel under another name; call it saved_model.pb, in one folder with its folder "
            "variables, and name that folder"
        )
    if ending in _ENDINGS:
        start, told = _ENDINGS[ending]
        if head.startswith(start):
            return told
    if ending == ".caffemodel" or re.match(
        rb"\n.{1,80}[\"2\xa2\x06].{0,8}\n.{1,40}\x12.{1,20}(Data|Input|Convolution)", head, re.DOTALL
    ):
        return f"a Caffe model; {_TRAINING}"
    if ending == ".pdiparams":
        return f"the weights of a PaddlePaddle network; name its program, {path.with_suffix('.pdmodel').name}"
    if ending == ".pdmodel":
        return "a damaged PaddlePaddle program; save it again with paddle.jit.save"
    if ending == ".pdparams":
        return "PaddlePaddle's weights without a network; save the network with paddle.jit.save, and name its .pdmodel"
    if ending == ".bin":
        graph = path.with_suffix(".xml")
        if graph.is_file():
            return f"the weights of an OpenVINO IR; name its graph, {graph.name}"
        return (
            "weights without a network (of OpenVINO IR, ncnn or another); name the network's ONNX file, or a state dict"
        )
    return None
