"""Why OpenVINO can't read a file: one line, with the node's name if its operator is unknown and the file's bytes show it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ...passes.supported import CHANCE
from ..tflite.model import TFLite

_UNKNOWN = re.compile(
    r"No translator found for (\S+?) node|No conversion rule found for operations: ([^\s,]+)|No creator found for (\S+?) node"
    r"|due to operation (?P<place>\d+) of type (?P<kind>\S+)"
)
_STATE = re.compile(
    r"already produced by previous operators: (?P<tensor>.*)\. .*operation of type (?P<kind>\S+) and name (?P<place>\d+)"
)
"""An operator reads a tensor that nothing gives: its state, or the scratch memory of an operator for one machine."""
_TYPE = re.compile(r"Unexpected type(?:: (?P<kind>[A-Z0-9_]+))?")
_KINDS = {"BFLOAT16": 18, "RESOURCE": 13, "VARIANT": 14}  # TensorType of tensorflow/lite/schema/schema.fbs
_VARIABLE = (
    "is a variable or a table ({kind}), which no bundle holds: convert the network again without "
    "converter.experimental_enable_resource_variables, which makes constants of variables that are only read. A network that keeps "
    "a state between runs (streaming) has to be exported without it"
)
_OTHER_KIND = (
    "holds elements of a type that OpenVINO's reader does not know{kind}: convert the network in float32, float16 or int8, or the "
    "file is damaged"
)
_STATEFUL = (
    "keeps a state in a tensor that no operator gives, which OpenVINO's reader does not read: export the network without it, or "
    "to ONNX from the framework it was trained in (Keras: python -m tf2onnx.convert)"
)
_OTHER_WAY = {
    "tflite": "; if it is whole, python -m tf2onnx.convert --tflite FILE --output net.onnx may read it: name net.onnx then",
}
_NOISE = ("Exception from src", "Check '", "FrontEnd API failed", "While validating", "Summary:")
_VARIABLES = (b"\x12\x0eReadVariableOp", b"\x12\x0bVarHandleOp", b"\x12\x0aVariableV2")  # NodeDef.op
_UNSET = re.compile(r"Variable or resource `([^`]*)` is not initialized")
_UNTRACKED = "Cannot find requested variable"
_BRANCH = "internal::ConditionalBlock"  # OpenVINO 2026.4 fails if branches read tensors of the outer block
_VERSION = re.compile(rb'<net\b[^>]*\bversion="([0-9]{1,3})"')
_NEWEST_OLD = 9  # version of an IR; OpenVINO reads 10 and 11
_COMPILED = {
    "edgetpu-custom-op": "the Edge TPU", "ethos-u": "the Arm Ethos-U", "NeutronGraph": "NXP's Neutron NPU",
    "DISPATCH_OP": "one kind of NPU (LiteRT, ahead of time)",
}  # custom operator -> its machine  # fmt: skip
_LARGEST = 1 << 31  # bytes that are searched for a node's name


def why_unread(error: Exception, frontend: str, file: str) -> str:
    """The reason in one line, and what to do if that is known.

    Args:
        error: OpenVINO's.
        frontend: The reader that raised it; "" for OpenVINO's core.
        file: What it read.

    Raises:
        MemoryError: There was too little.
    """
    if "bad_alloc" in str(error):
        raise MemoryError
    unknown = _UNKNOWN.search(str(error))
    if unknown is not None:
        place = unknown["place"]
        kind = unknown["kind"] or next(group for group in unknown.groups() if group)
        node = _node(kind, frontend, Path(file), None if place is None else int(place))
        shown = f"the node {node!r} ({kind})" if node else f"a node ({kind})"
        if "Random" in kind:
            return f"{shown}: {CHANCE}"
        if kind in _COMPILED:
            return _compiled(shown, kind)
        if frontend == "tflite" and kind.startswith("Flex"):
            return (
                f"{shown}: one of TensorFlow's own operators (Select TF ops); name the SavedModel that it was converted from, "
                "or convert it without SELECT_TF_OPS"
            )
        return (
            f"{shown}: OpenVINO's reader knows no operator of this type; "
            "export the network without it, or to ONNX from the framework it was trained in"
        )
    if frontend == "tflite" and (state := _STATE.search(str(error))) is not None:
        return _with_state(state["kind"], _node("", frontend, Path(file), int(state["place"])))
    if frontend == "tflite" and (kind_of_tensor := _TYPE.search(str(error))) is not None:
        return _of_a_kind(kind_of_tensor["kind"] or "", Path(file))
    if frontend == "paddle" and _BRANCH in str(error):
        return (
            "OpenVINO can't read its condition (conditional_block): export the network with its branches resolved, a Python "
            "condition in place of a tensor, or to ONNX with paddle2onnx"
        )
    if _UNTRACKED in str(error):
        return (
            "OpenVINO's reader does not find a variable of it, as of networks of Keras 3 that tf.saved_model.save has written; "
            "write it with model.export(FOLDER), or freeze it"
        )
    if (unset := _UNSET.search(str(error))) is not None:
        return (
            f"the value of its variable {unset[1]!r} is missing; copy the whole SavedModel, with its folder variables"
        )
    if "Incorrect weights in bin file" in str(error):
        return "its weights (.bin) are too short for it: cut off, or of another network; copy both files again"
    if "supports frozen formats" in str(error):
        return "no TensorFlow graph (as MediaPipe's .binarypb), damaged or truncated: OpenVINO's reader can't parse it"
    if frontend == "tf" and any(word in _bytes(Path(file)) for word in _VARIABLES) and not Path(file).is_dir():
        return "the graph's weights are not in it but in variables elsewhere; freeze it, or name the folder of the SavedModel"
    old = _VERSION.search(_bytes(Path(file), 4096)) if not frontend else None
    if old is not None and int(old[1]) <= _NEWEST_OLD:
        return f"an IR of version {int(old[1])}, which this OpenVINO does not read; convert the network with a newer OpenVINO"
    return f"OpenVINO can't read it ({reason(error)}){_OTHER_WAY.get(frontend, '')}"


def _with_state(kind: str, node: str) -> str:
    shown = f"the node {node!r} ({kind})" if node else f"a node ({kind})"
    return _compiled(shown, kind) if kind in _COMPILED else f"{shown}: {_STATEFUL}"


def _compiled(shown: str, kind: str) -> str:
    return f"{shown}: compiled for {_COMPILED[kind]}; name the .tflite file that it was compiled from"


def reason(error: Exception) -> str:
    """OpenVINO's message without its source lines, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return "a name or another text in it is not UTF-8"
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(_NOISE)]
    return " ".join((kept or lines or ["no reason given"])[:3])[:300].rstrip(" .:")


def _of_a_kind(kind: str, path: Path) -> str:
    """What is said of a TFLite file with a tensor whose elements OpenVINO's reader does not know; `kind`: their type, or ""."""
    name = ""
    with contextlib.suppress(ValueError):  # the file is damaged
        name = TFLite(_bytes(path)).of_type(_KINDS[kind]) if kind in _KINDS else ""
    said = _VARIABLE if kind in ("RESOURCE", "VARIANT") else _OTHER_KIND
    told = kind if said is _VARIABLE else f" ({kind})" if kind else ""
    return f"{f'the tensor {name!r}' if name else 'a tensor'} {said.format(kind=told)}"


def _node(kind: str, frontend: str, path: Path, place: int | None = None) -> str:
    """The name of the first node of a type: of TensorFlow its own, of TFLite and Paddle that of a tensor that it gives. `place` is
    its place among a TFLite file's operators, if OpenVINO says that: it does for operators of the standard, which have no name."""
    if frontend == "tflite":
        try:
            content = TFLite(_bytes(path))
            return content.output_of(kind) if place is None else content.output_at(place)
        except ValueError:
            return ""
    name = kind.encode()
    if len(name) > 127:
        return ""
    # protobuf: NodeDef {1: name, 2: op}; OpDesc {2: {parameter, 2: its tensors}, 3: type}
    before, mark = (b"\n", b"\x12") if frontend == "tf" else (b"\x12", b"\x1a")
    data = _bytes(path / "saved_model.pb" if path.is_dir() else path)
    at = data.find(mark + bytes([len(name)]) + name)
    for length in range(1, 128):
        if at > length + 1 and data[at - length - 2 : at - length] == before + bytes([length]):
            return "".join(c if c.isprintable() else " " for c in data[at - length : at].decode("utf-8", "replace"))
    return ""


def _bytes(path: Path, most: int = _LARGEST) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(min(most, os.fstat(file.fileno()).st_size))  # read(n) takes n bytes at once
    except OSError:
        return b""
