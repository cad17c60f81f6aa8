"""The protocol V2 (Open Inference Protocol), whatever carries it: tensors in, tensors out.

A request with the parameter `explain` true gets, beside the network's own outputs:

| output | | |
|-|-|-|
| `saliency_map` | FP32 [n,H,W] | the map in [0,1] at the input's size, as fused graphs and `--serve-repo` name it |
| `answer` | BYTES [n] | the rest of the answer as JSON |
| `raw_map` | FP32 [n,h,w] | if asked for by name: the method's own values |
| `overlay` | BYTES [n] | if asked for by name: the map over the picture, PNG |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.bundle import Input
from .asked import Asked, Shown, Whole, bytes_of_maps
from .engine import deadline_of
from .json_text import dumps
from .limits import Limits
from .pictures import DATATYPES, KINDS, as_pixels, check_pixels, decoded
from .refusals import BAD_REQUEST, TOO_LARGE, Refusal
from .versions import Version
from .work import Result
from .written import approximation_error, overlay, values_of

PICTURE = "image"
MAP, RAW, OVERLAY, ANSWER = "saliency_map", "raw_map", "overlay", "answer"
_OURS = {MAP: "FP32", ANSWER: "BYTES", RAW: "FP32", OVERLAY: "BYTES"}
_BY_DEFAULT = (MAP, ANSWER)
_IGNORED = (
    "binary_data_output",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
)  # of clients of other servers
_MOST = 1 << 31  # of a shape


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a request or of an answer.

    Attributes:
        name: Its name.
        datatype: As V2 names it.
        shape: Its shape.
        data: Numbers, or the texts of BYTES.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    data: NDArray[Any] | list[bytes]


def shaped(name: str, datatype: object, shape: object) -> tuple[str, list[int], int]:
    """A tensor's checked datatype and shape, and how many numbers it holds.

    Raises:
        Refusal: There is no such datatype, or this is no shape.
    """
    if not isinstance(datatype, str) or datatype not in (*KINDS, "BYTES"):
        raise Refusal(BAD_REQUEST, f"{name}: no datatype {str(datatype)[:40]!r}; there are {', '.join(KINDS)}, BYTES")
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else []
    if not sizes or len(sizes) > 8 or any(type(size) is not int or not 1 <= size < _MOST for size in sizes):
        raise Refusal(
            BAD_REQUEST, f"{name}: shape is a list of whole numbers above 0, the images first, not {str(shape)[:60]}"
        )
    count = 1
    for size in sizes:
        count *= size
    if count >= _MOST:
        raise Refusal(TOO_LARGE, f"{name}: shape {sizes} holds {count} numbers")
    return datatype, sizes, count


def from_bytes(name: str, datatype: object, shape: object, raw: bytes) -> Tensor:
    """A tensor from its bytes: little-endian numbers, or texts with 4 bytes of length before each.

    Raises:
        Refusal: The bytes do not hold what the shape says.
    """
    kind, sizes, count = shaped(name, datatype, shape)
    if kind == "BYTES":
        return Tensor(name, kind, sizes, _texts(name, raw, count))
    width = np.dtype(KINDS[kind]).itemsize
    if len(raw) != count * width:
        raise Refusal(BAD_REQUEST, f"{name}: {kind} {sizes} takes {count * width} bytes, not {len(raw)}")
    return Tensor(name, kind, sizes, np.frombuffer(raw, np.dtype(KINDS[kind]).newbyteorder("<")).reshape(sizes))


def _texts(name: str, raw: bytes, count: int) -> list[bytes]:
    texts: list[bytes] = []
    at = 0
    while at + 4 <= len(raw) and len(texts) <= count:
        length = int.from_bytes(raw[at : at + 4], "little")
        texts.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if len(texts) != count or at != len(raw):
        raise Refusal(BAD_REQUEST, f"{name}: does not hold {count} texts, each after its length in 4 bytes")
    return texts


def read(
    tensors: Sequence[Tensor],
    parameters: Mapping[str, Any],
    outputs: Sequence[str] | None,
    version: Version,
    limits: Limits,
) -> Whole:
    """A request.

    Args:
        tensors: What the network takes.
        parameters: Of the request: `explain`, `method`, `target`, `timeout` in microseconds; others are options of the method.
        outputs: The outputs asked for; None: all but those that are costly to send.
        version: The bundle.
        limits: The server's.

    Raises:
        Refusal, XaiError: It can't be read.
    """
    given = {key: value for key, value in parameters.items() if key not in _IGNORED}
    explain = given.pop("explain", False)
    if not isinstance(explain, bool):
        raise Refusal(BAD_REQUEST, f"the parameter explain is true or false, not {str(explain)[:40]!r}")
    timeout = _milliseconds(given.pop("timeout", None))
    name: str | None = None
    options: Mapping[str, Any] = {}
    written, target, count = None, None, 1
    if explain:
        written = given.pop("target", None)
        target, count = version.targets.read(written)
        name, _, options = version.method(given.pop("method", None), given)
        if count > 1:
            raise Refusal(BAD_REQUEST, f"a request of V2 has one target; ask V1 (:explain) for {count} at a time")
    elif given:
        raise Refusal(
            BAD_REQUEST, f"a prediction takes no parameter {next(iter(given))[:60]!r}; for an explanation give explain"
        )
    _check_outputs(outputs, explain, version)
    images, sources, beside = _inputs(tensors, version, limits)
    asked = Asked(
        images,
        name,
        options,
        [target] * len(images),
        [written] * len(images),
        beside,
        sources,
        deadline_of(timeout, limits),
        bytes_of_maps([1] * len(images), version.manifest.input.size, Shown(encoding="npy")) if explain else 0,
    )
    return Whole(asked, Shown(), {"outputs": outputs, "counts": [count], "explain": explain})


def _milliseconds(microseconds: Any) -> float | None:
    if microseconds is None:
        return None
    try:
        number = float(microseconds)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not number > 0:
        raise Refusal(
            BAD_REQUEST, f"the parameter timeout is a number of microseconds above 0, not {str(microseconds)[:40]!r}"
        )
    return number / 1000


def asked_for(name: str, parameters: Mapping[str, Any]) -> str:
    """The name of an output that is asked for.

    Raises:
        Refusal: It is asked for in a form that only other servers give.
    """
    for key in parameters:
        if key == "classification" or key.startswith("shared_memory"):
            raise Refusal(BAD_REQUEST, f"{name[:60]}: this server gives no {key[:60]}; ask for the output as it is")
    return name


def _check_outputs(outputs: Sequence[str] | None, explain: bool, version: Version) -> None:
    there = [one.name for one in version.manifest.outputs] + (list(_OURS) if explain else [])
    for name, times in Counter(outputs or ()).items():
        if times > 1:
            raise Refusal(BAD_REQUEST, f"output {name[:60]!r} is asked for {times} times; name each output once")
        if name not in there:
            more = "" if explain or name not in _OURS else "; it belongs to an explanation: give the parameter explain"
            raise Refusal(BAD_REQUEST, f"no output {name[:60]!r}; there are {', '.join(there)}{more}")


def _inputs(
    tensors: Sequence[Tensor], version: Version, limits: Limits
) -> tuple[list[NDArray[Any]], Sequence[bytes | NDArray[Any]], dict[str, Any] | None]:
    """The images, the bytes that they came as, and what the network takes beside them."""
    manifest = version.manifest
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise Refusal(BAD_REQUEST, "two inputs have the same name")
    held = [name for name in dict.fromkeys((manifest.input.name, PICTURE)) if name in by_name]
    if len(held) != 1:
        names = ", ".join(repr(name[:60]) for name in by_name) or "none"
        raise Refusal(BAD_REQUEST, f"the request holds one input {manifest.input.name!r} (or {PICTURE!r}), not {names}")
    images, sources = _images(by_name.pop(held[0]), manifest.input, limits)
    specs = {image.name: image for image in manifest.further.images}
    beside: dict[str, Any] = {}
    for name, tensor in by_name.items():
        if name in specs:
            beside[name] = _images(tensor, specs[name], limits)[0]
        elif isinstance(tensor.data, list):
            raise Refusal(BAD_REQUEST, f"{name[:60]}: takes numbers, not BYTES")
        else:
            beside[name] = tensor.data
    return images, sources, beside or None


def _images(tensor: Tensor, spec: Input, limits: Limits) -> tuple[list[NDArray[Any]], Sequence[bytes | NDArray[Any]]]:
    """BYTES [n]: image files. UINT8 [n,h,w,3]: pixels. Floats [n, ...]: as the network takes them."""
    count = tensor.shape[0]
    if count > limits.images:
        raise Refusal(TOO_LARGE, f"{tensor.name}: {count} images; a request holds 1 to {limits.images}")
    names = [f"{tensor.name} {i}" for i in range(count)]
    if isinstance(tensor.data, list):
        if len(tensor.data) > limits.images:
            raise Refusal(BAD_REQUEST, f"{tensor.name}: BYTES of images have the shape [n], not {list(tensor.shape)}")
        return [decoded(one, spec, limits, name) for one, name in zip(tensor.data, names, strict=False)], tensor.data
    rows: list[NDArray[Any]] = list(tensor.data)
    for row, name in zip(rows, names, strict=True):
        if row.shape != spec.image_shape:
            check_pixels(row, limits, name)
    if tensor.datatype != "UINT8" and rows[0].dtype.kind != "f" and spec.preprocess.range is None:
        rows = [as_pixels(row, name) for row, name in zip(rows, names, strict=True)]
    return rows, rows


def write(whole: Whole, version: Version, result: Result) -> list[Tensor]:
    """The tensors of an answer.

    Raises:
        Refusal: A picture is asked for, and the request held none.
    """
    asked = whole.extra["outputs"]
    own = {one.name for one in version.manifest.outputs}
    names = asked if asked is not None else [*own_in_order(version), *(_BY_DEFAULT if whole.extra["explain"] else ())]
    return [_own(name, result) if name in own else _explained(name, whole, result) for name in names]


def own_in_order(version: Version) -> list[str]:
    """The names of the network's own outputs."""
    return [one.name for one in version.manifest.outputs]


def _own(name: str, result: Result) -> Tensor:
    values = np.ascontiguousarray(result.outputs[name])
    return Tensor(name, DATATYPES[values.dtype.name], values.shape, values)


def _explained(name: str, whole: Whole, result: Result) -> Tensor:
    answers = [answers[0] for answers in result.answers]
    count = len(answers)
    if name in (MAP, RAW):
        shown = Shown(map="raw" if name == RAW else "heatmap")
        values = np.stack([values_of(answer, shown) for answer in answers])
        return Tensor(name, _OURS[name], values.shape, values)
    if name == OVERLAY:
        return Tensor(name, "BYTES", (count,), [overlay(answer, whole, i) for i, answer in enumerate(answers)])
    texts = [
        dumps(
            {
                "prediction": result.predictions[i],
                **answer.as_json(),
                "approximationError": approximation_error(answer),
                "bundle": answer.network.digest,
            }
        )
        for i, answer in enumerate(answers)
    ]
    return Tensor(name, "BYTES", (count,), texts)


def metadata(name: str, version: Version) -> dict[str, Any]:
    """What V2 says of a model."""
    manifest = version.manifest
    kind = DATATYPES[manifest.input.dtype]
    further = [(image.name, DATATYPES[image.dtype], list(image.image_shape)) for image in manifest.further.images]
    for one in manifest.further.arrays:
        further.append((one.name, DATATYPES[one.dtype or "float32"], [size or -1 for size in one.shape]))
    size = list(manifest.input.size)
    return {
        "name": name,
        "versions": [version.number],
        "platform": "xai-deploy",
        "inputs": [
            {"name": manifest.input.name, "datatype": kind, "shape": [-1, *manifest.input.image_shape]},
            *({"name": key, "datatype": datatype, "shape": [-1, *shape]} for key, datatype, shape in further),
        ],
        "outputs": [
            *({"name": one.name, "datatype": "FP32", "shape": [-1, *one.shape]} for one in manifest.outputs),
            {"name": MAP, "datatype": "FP32", "shape": [-1, *size]},
            {"name": ANSWER, "datatype": "BYTES", "shape": [-1]},
        ],
    }
