"""V2 over REST: a JSON object, with the numbers in it or as bytes after it (the extension for binary tensors)."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .json_text import dumps, loads
from .nested import as_array
from .pictures import KINDS, from_base64
from .refusals import BAD_REQUEST, Refusal
from .v2 import ANSWER, Tensor, asked_for, from_bytes, shaped

LENGTH = "inference-header-content-length"
"""The header that says how many bytes of the body are JSON."""


class Request:
    """A request's parts.

    Args:
        body: The body.
        length: The value of the header `LENGTH`, or None.

    Attributes:
        id: The request's own, which the answer repeats.
        parameters: Of the request.
        tensors: The inputs.
        outputs: The names of the outputs asked for, or None.

    Raises:
        Refusal: It can't be read.
    """

    def __init__(self, body: bytes, length: str | None) -> None:
        size = len(body) if length is None else _length(length, len(body))
        written = loads(body[:size])
        if not isinstance(written, dict) or not isinstance(written.get("inputs"), list) or not written["inputs"]:
            raise Refusal(BAD_REQUEST, 'the body is {"inputs": [{"name", "shape", "datatype", "data"}, ...]}')
        self.id = written.get("id")
        if self.id is not None and not isinstance(self.id, str):
            raise Refusal(BAD_REQUEST, "id is a text")
        self.parameters = _object(written, "parameters")
        self._raw, self._at = body[size:], 0
        self.tensors = [self._tensor(one) for one in written["inputs"]]
        if self._at != len(self._raw):
            raise Refusal(BAD_REQUEST, f"{len(self._raw)} bytes follow the JSON, of which the inputs take {self._at}")
        asked = written.get("outputs")
        if asked is not None and not (isinstance(asked, list) and all(isinstance(one, dict) for one in asked)):
            raise Refusal(BAD_REQUEST, 'outputs is a list of {"name": ...}')
        own = [(one.get("name"), _object(one, "parameters")) for one in asked or ()]
        if any(not isinstance(name, str) for name, _ in own):
            raise Refusal(BAD_REQUEST, 'outputs is a list of {"name": ...}')
        self.outputs = [asked_for(name, parameters) for name, parameters in own] or None
        self._binary = {name: parameters.get("binary_data") for name, parameters in own}

    def _tensor(self, written: Any) -> Tensor:
        if not isinstance(written, dict) or not isinstance(written.get("name"), str):
            raise Refusal(BAD_REQUEST, 'an input is {"name", "shape", "datatype", "data"}')
        name = written["name"]
        size = _object(written, "parameters").get("binary_data_size")
        if size is not None:
            left = len(self._raw) - self._at
            if type(size) is not int or not 0 <= size <= left:
                raise Refusal(
                    BAD_REQUEST, f"{name[:60]}: binary_data_size is {str(size)[:40]}, and {left} bytes follow"
                )
            if "data" in written:
                raise Refusal(BAD_REQUEST, f"{name[:60]}: has both data and binary_data_size")
            self._at += size
            return from_bytes(
                name, written.get("datatype"), written.get("shape"), self._raw[self._at - size : self._at]
            )
        return _from_json(name[:200], written)

    def body_of(self, name: str, number: str, tensors: Sequence[Tensor]) -> tuple[bytes, int | None]:
        """The answer's body, and how many bytes of it are JSON if others follow."""
        outputs, after = [], []
        for tensor in tensors:
            told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            chosen = self._binary.get(tensor.name)
            if chosen if chosen is not None else self.parameters.get("binary_data_output") is True:
                raw = to_bytes(tensor)
                told["parameters"] = {"binary_data_size": len(raw)}
                after.append(raw)
            else:
                told["data"] = _as_json(tensor)
            outputs.append(told)
        head = {"model_name": name, "model_version": number, "outputs": outputs}
        text = dumps(head if self.id is None else {**head, "id": self.id})
        return b"".join([text, *after]), len(text) if after else None


def _object(written: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = written.get(key)
    if value is not None and not isinstance(value, dict):
        raise Refusal(BAD_REQUEST, f"{key} is an object")
    return value or {}


def _length(text: str, total: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= total):
        raise Refusal(BAD_REQUEST, f"the header {LENGTH} is {text[:40]!r}, and the body has {total} bytes")
    return int(text)


def _from_json(name: str, written: Mapping[str, Any]) -> Tensor:
    kind, sizes, count = shaped(name, written.get("datatype"), written.get("shape"))
    data = written.get("data")
    if not isinstance(data, list):
        raise Refusal(BAD_REQUEST, f"{name}: data is a list")
    if kind == "BYTES":
        texts = data
        while texts and all(isinstance(one, list) for one in texts):
            texts = list(itertools.chain.from_iterable(texts))
        if len(texts) != count or not all(isinstance(one, str) for one in texts):
            raise Refusal(BAD_REQUEST, f"{name}: BYTES {sizes} in JSON are {count} texts: image files as base64")
        return Tensor(name, kind, sizes, [from_base64(one, f"{name} {i}") for i, one in enumerate(texts)])
    array = as_array(data)
    wanted = np.dtype(KINDS[kind])
    if array is None or array.size != count:
        held = "something other than numbers" if array is None else f"{array.size} numbers"
        raise Refusal(BAD_REQUEST, f"{name}: {kind} {sizes} takes {count} numbers; data holds {held}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
    if wanted.kind != "f" and not np.array_equal(cast, array):
        raise Refusal(BAD_REQUEST, f"{name}: a number in data is no {kind}")
    return Tensor(name, kind, sizes, cast.reshape(sizes))


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor as bytes; see `v2.from_bytes`."""
    if isinstance(tensor.data, list):
        return b"".join(len(one).to_bytes(4, "little") + one for one in tensor.data)
    return tensor.data.astype(tensor.data.dtype.newbyteorder("<"), copy=False).tobytes()


def _as_json(tensor: Tensor) -> Any:
    """Flat data. Texts are JSON, or base64 of what is no text."""
    if not isinstance(tensor.data, list):
        flat = tensor.data.ravel()
        return flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return [one.decode() if tensor.name == ANSWER else base64.b64encode(one).decode() for one in tensor.data]
