"""One explanation as a line of JSON: what a record holds, and how it is written and read.

A line is a JSON object in ASCII, so that no character in a name can look like the end of the line. It holds the fields of `Record`.
`previous` is the sha256 of the line before, without its line end; a chain's first line holds the sha256 of the chain's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordsError
from ..explanation_files import Value
from ..foundation import schema
from .statistics import Statistics

SCHEMA = 1
LINE_LIMIT = 1 << 28  # bytes
_MOST_PIXELS = 1 << 26  # of a network's input: a record from a stranger may claim any size
_MOST_WHOLE = (1 << 63) - 1  # int64

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """The network that a map explains, and what ran it.

    Attributes:
        bundle: The bundle's name.
        digest: The digest of its manifest; "" if it is not known.
        signature: Who signed the bundle, as the key's or the signature's digest; None if nobody did, or it is not known.
        layer: Where the network was cut.
        size: The network's input, (height, width) or (depth, height, width), in pixels.
        preprocessing: The sha256 of how an image becomes the input; "" if it is not known.
        backend: The runtime.
        device: The device that ran it.
        precision: Its arithmetic.
        versions: Package -> version.
    """

    bundle: str
    digest: str
    signature: str | None
    layer: str
    size: tuple[int, ...]
    preprocessing: str
    backend: str
    device: str
    precision: str
    versions: dict[str, str]


@dataclass(frozen=True)
class RecordedInput:
    """The image that was explained.

    Attributes:
        sha256: Of the file's bytes, or of the shape, type and values of an array.
        of: Which of the two; None: the image was not given.
        file: The file's name, if there was one.
        beside: The sha256 of what the network took beside the image; "" if it took nothing.
        image: The file's bytes, or the array as a `.npy` file, in base64; None unless the recorder keeps images.
    """

    sha256: str
    of: Literal["file", "array"] | None
    file: str | None = None
    beside: str = ""
    image: str | None = None


@dataclass(frozen=True)
class Predicted:
    """A class that the network predicts, or an object that it detects; for numbers that are no classes, a number.

    Attributes:
        index: The class; None for a number.
        label: Its label, or what the number is.
        probability: None if the network has none.
        logit: The class's logit, or the number; None if it is not known.
        box: Of a detection, (left, top, right, bottom) in pixels of the photo.
    """

    index: int | None
    label: str
    probability: float | None
    logit: float | None
    box: tuple[float, ...] | None = field(default=None, metadata=schema.LATER)


@dataclass(frozen=True)
class Explained:
    """What was explained, and who chose it.

    Attributes:
        index: The class.
        label: Its label.
        versus: The class that it is contrasted with, or None.
        versus_label: The label of that class, or None.
        sign: -1 if the map shows what speaks against the class.
        title: What is explained, for people, if the classes do not say it.
        asked: What the caller asked for, as text; None if the caller left the choice to the network.
        chosen_by: "network": the predicted class, or one of the K best; "caller": a class, a region, a contrast that was named.
        probability: Of the class; None if the network has none.
        logit: Of the class.
        score: The number that is explained, if it is known.
    """

    index: int
    label: str
    versus: int | None
    versus_label: str | None
    sign: int
    title: str | None
    asked: str | None
    chosen_by: Literal["network", "caller"]
    probability: float | None
    logit: float | None
    score: float | None


_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class RecordedMap:
    """A map as float16.

    Attributes:
        shape: (h, w) or (d, h, w).
        scale: The largest absolute value. Raw values are `scale` times the numbers, to 2^-11 of it: gradients of 1e-9 would be 0 in
            float16 otherwise.
        data: The numbers, little-endian float16, row by row, in base64.
        sha256: Of these numbers' bytes.
        signed: 0 is neutral, and values below it speak against the target.
        constant: Why the map is the same everywhere, or None if it is not.
    """

    shape: tuple[int, ...]
    scale: float
    data: str
    sha256: str
    signed: bool
    constant: str | None = None

    @classmethod
    def of(cls, raw: NDArray[Any], signed: bool, constant: str | None) -> RecordedMap:
        """A raw map as a record keeps it.

        Raises:
            RecordsError: It is no map, or holds NaN or infinity.
        """
        values = np.asarray(raw)
        if values.ndim not in (2, 3) or values.size == 0 or values.dtype.kind not in "fiub":
            raise RecordsError(f"a map to record is [h,w] or [d,h,w], not {values.dtype} {list(values.shape)}")
        values = values.astype(np.float64)
        scale = float(np.abs(values).max())
        if not scale <= _LARGEST:
            raise RecordsError("a map to record holds NaN, infinity or a number beyond float32")
        numbers = (values / scale if scale else values).astype("<f2").tobytes()
        data = base64.b64encode(numbers).decode("ascii")
        return cls(values.shape, scale, data, hashlib.sha256(numbers).hexdigest(), signed, constant)

    def fault(self) -> str | None:
        """What is wrong with the data; None if they are what was recorded."""
        try:
            numbers = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            return "its map is no base64"
        if len(self.shape) not in (2, 3) or min(self.shape) < 1 or 2 * math.prod(self.shape) != len(numbers):
            return "its map has another size than it says"
        if hashlib.sha256(numbers).hexdigest() != self.sha256:
            return "its map does not have the sha256 that it says"
        if not (0 <= self.scale <= _LARGEST and np.isfinite(self.numbers).all()):
            return "its map holds NaN, infinity or a number beyond float32"
        return None

    @property
    def numbers(self) -> NDArray[np.float16]:
        """The map divided by `scale`."""
        return np.frombuffer(base64.b64decode(self.data), "<f2").reshape(self.shape)

    @property
    def raw(self) -> Array:
        """The raw values, to 2^-11 of the largest one."""
        values: Array = self.numbers.astype(np.float32) * np.float32(self.scale)
        return values


@dataclass(frozen=True)
class Record:
    """A record.

    Attributes:
        schema: 1.
        chain: The name of the chain that it is a link of.
        number: Its place in the chain, from 0 on.
        previous: The sha256 of the record before.
        lost: How many explanations of this chain were not recorded up to here, because its queue was full.
        id: Its own name, 32 hexadecimal digits.
        time: When it was made, UTC.
        source: The network and the runtime.
        input: The image.
        prediction: The best classes or detections, best first.
        target: What was explained.
        method: The method's name.
        options: All its options.
        seed: The option `seed`, if the method draws random numbers.
        seconds: Wall time of the explanation; None if it is not known.
        map: The method's own values.
        statistics: The map in a few numbers; None if it is the same everywhere.
        stated_error: What the method says of its own error, by name.
        fields: What the caller adds.
    """

    schema: int
    chain: str
    number: int
    previous: str
    lost: int
    id: str
    time: str
    source: Source
    input: RecordedInput
    prediction: tuple[Predicted, ...]
    target: Explained
    method: str
    options: dict[str, Value | tuple[Value, ...]]
    seed: int | None
    seconds: float | None
    map: RecordedMap
    statistics: Statistics | None
    stated_error: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Value] = field(default_factory=dict)

    def fault(self) -> str | None:
        """What is wrong with its numbers, beside their types: readers make arrays and pictures of them. None if nothing is."""
        size, target = self.source.size, self.target
        if len(size) != len(self.map.shape) or min(size) < 1 or math.prod(size) > _MOST_PIXELS:
            return f"the network's input has no such size: {list(size)[:4]}"
        numbers: dict[str, list[int | None]] = {
            "seed": [self.seed],
            "class": [target.index, *(one.index for one in self.prediction), target.versus],
            "number": [self.number],
            "lost": [self.lost],
        }
        for name, values in numbers.items():
            least = 0 if name in ("number", "lost") else -_MOST_WHOLE - 1
            if any(value is not None and not least <= value <= _MOST_WHOLE for value in values):
                return f"its {name} is out of range"
        return None if target.sign in (-1, 1) else "its sign is neither 1 nor -1"


LINK = ("schema", "chain", "number", "previous", "lost")
"""The keys that only the chain knows; they come first in a line."""
_CONTENT = {f.name for f in fields(Record)} - set(LINK)


def encode(content: dict[str, Any]) -> bytes:
    """The content of a record, without its link, as JSON.

    Raises:
        RecordsError: A value is NaN, infinite, or nothing that JSON knows.
    """
    assert content.keys() == _CONTENT, sorted(content.keys() ^ _CONTENT)
    try:
        plain = schema.dump(content)
        data = json.dumps(plain, allow_nan=False, separators=(",", ":")).encode("ascii")
        record = schema.load(Record, json.loads(data) | dict(zip(LINK, (SCHEMA, "", 0, "", 0), strict=True)), "record")
        if (fault := record.fault()) is not None:
            raise ValueError(fault)
    except (ValueError, TypeError) as error:
        raise RecordsError(f"this can't be recorded ({error})") from None
    return data


def link(content: bytes, chain: str, number: int, previous: str, lost: int) -> bytes:
    """What `encode` gave as a line of a chain, without the line end."""
    values = dict(zip(LINK, (SCHEMA, chain, number, previous, lost), strict=True))
    return json.dumps(values, separators=(",", ":")).encode("ascii")[:-1] + b"," + content[1:]


def decode(line: bytes) -> Record:
    """A line, also a stranger's.

    Raises:
        ValueError: It is no record; the message says why.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise ValueError("is no record")
    if document["schema"] != SCHEMA:
        raise ValueError(f"has schema {document['schema']}, and this version reads {SCHEMA}; update xai-deploy")
    try:
        record = schema.load(Record, document, "record")
    except schema.SchemaError as error:
        raise ValueError(f"is no record: {str(error).removeprefix('record: ')}") from None
    if (fault := record.map.fault() or record.fault()) is not None:
        raise ValueError(fault)
    return record
