"""The protocol V1: `POST /v1/models/NAME:predict` and `:explain`, with JSON or with one image file as the body."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .asked import Asked, Whole, bytes_of_maps
from .engine import deadline_of
from .json_text import loads
from .limits import Limits
from .parameters import EXPLAINING, PLAIN, known, options_in, shown_by
from .pictures import array_of, decoded, from_base64, from_numbers
from .refusals import BAD_REQUEST, TOO_LARGE, Refusal
from .versions import Version
from .work import Result
from .written import answered, described, predicted_as_json

IMAGE = "image"


def read(body: bytes, query: Mapping[str, str], explain: bool, version: Version, limits: Limits) -> Whole:
    """A request.

    Args:
        body: A JSON object {"instances": [...], "parameters": {...}}; or the bytes of one image file.
        query: The parameters, if the body is an image file. Others than those of the protocol are options of the method.
        explain: An explanation is asked for.
        version: The bundle.
        limits: The server's.

    Raises:
        Refusal, XaiError: It can't be read.
    """
    if body.lstrip()[:1] in (b"{", b"[", b""):
        if query:
            raise Refusal(
                BAD_REQUEST,
                'parameters stand in "parameters", or in the address if the body is an image file',
            )
        written = loads(body)
        if not isinstance(written, dict) or not isinstance(written.get("instances"), list):
            raise Refusal(
                BAD_REQUEST,
                'the body is {"instances": [...], "parameters": {...}}, or the bytes of an image file',
            )
        unknown = next((key for key in written if key not in ("instances", "parameters")), None)
        if unknown is not None:
            raise Refusal(BAD_REQUEST, f"the body has no {unknown[:60]!r}; it has instances and parameters")
        parameters = written.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise Refusal(BAD_REQUEST, 'parameters is an object, as in {"method": "grad-cam"}')
        instances = written["instances"]
    else:
        parameters, instances = _of_query(query, explain), [body]
    if not 1 <= len(instances) <= limits.images:
        status = TOO_LARGE if instances else BAD_REQUEST
        raise Refusal(status, f"a request holds 1 to {limits.images} instances, not {len(instances)}")
    known(parameters, EXPLAINING if explain else PLAIN)
    return _whole(instances, parameters, explain, version, limits)


def _whole(
    instances: Sequence[Any], parameters: Mapping[str, Any], explain: bool, version: Version, limits: Limits
) -> Whole:
    name: str | None = None
    options: Mapping[str, Any] = {}
    if explain:
        name, _, options = version.method(parameters.get("method"), options_in(parameters))
    shown = shown_by(parameters)
    read = [
        _instance(one, f"instance {i}", parameters.get("target"), version, limits) for i, one in enumerate(instances)
    ]
    targets, counts = [], []
    for one in read:
        target, count = version.targets.read(one["target"]) if explain else (None, 1)
        targets.append(target)
        counts.append(count)
    if len(read) > 1 and any(
        count > 1 or isinstance(target, np.ndarray) for target, count in zip(targets, counts, strict=True)
    ):
        _all_alike(read)
    beside = _columns([one["inputs"] for one in read])
    asked = Asked(
        [one["image"] for one in read],
        name,
        options,
        targets,
        [one["target"] for one in read],
        beside,
        [one["source"] for one in read],
        deadline_of(parameters.get("timeout_ms"), limits),
        bytes_of_maps(counts, version.manifest.input.size, shown) if explain else 0,
    )
    return Whole(asked, shown, {"counts": counts})


def _all_alike(instances: Sequence[Mapping[str, Any]]) -> None:
    if any(one["target"] != instances[0]["target"] for one in instances):
        raise Refusal(
            BAD_REQUEST, 'weights and topK are one target for all instances of a request; put it into "parameters"'
        )


def _instance(written: Any, name: str, target: Any, version: Version, limits: Limits) -> dict[str, Any]:
    """One instance: its image, the bytes it came as, its target, and what the network takes beside it."""
    spec = version.manifest.input
    inputs: Mapping[str, Any] = {}
    if isinstance(written, dict) and set(written) != {"b64"}:
        keys = [key for key in written if key not in (IMAGE, spec.name, "target", "inputs")]
        held = [key for key in dict.fromkeys((IMAGE, spec.name)) if key in written]
        if keys or len(held) != 1:
            raise Refusal(
                BAD_REQUEST,
                f'{name}: is {{"b64": "..."}}, numbers, or an object of {IMAGE!r} with "target" and "inputs"; not of '
                f"{', '.join(repr(key[:40]) for key in written) or 'nothing'}",
            )
        target = written.get("target", target)
        inputs = written.get("inputs", {})
        written = written[held[0]]
    if not isinstance(inputs, dict):
        raise Refusal(BAD_REQUEST, f"{name}: inputs is an object of what the network takes beside the image")
    image, source = _image(written, name, version, limits)
    further = {image.name: image for image in version.manifest.further.images}
    beside = {key: _beside(value, f"{name}: {key[:60]}", further.get(key), limits) for key, value in inputs.items()}
    return {"image": image, "source": source, "target": target, "inputs": beside}


def _image(written: Any, name: str, version: Version, limits: Limits) -> tuple[NDArray[Any], bytes | NDArray[Any]]:
    spec = version.manifest.input
    if isinstance(written, dict) and set(written) == {"b64"} and isinstance(written["b64"], str):
        written = from_base64(written["b64"], name)
    if isinstance(written, bytes):
        return decoded(written, spec, limits, name), written
    array = from_numbers(written, spec, name)
    return array, array


def _beside(written: Any, name: str, spec: Any, limits: Limits) -> NDArray[Any]:
    """What the network takes beside an image: a further image, or numbers."""
    if spec is not None and isinstance(written, dict) and set(written) == {"b64"} and isinstance(written["b64"], str):
        return decoded(from_base64(written["b64"], name), spec, limits, name)
    if spec is not None:
        return from_numbers(written, spec, name)
    return array_of(written if isinstance(written, list) else [written], name).reshape(np.shape(written))


def _columns(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What each instance has beside its image, as `Explainer.explain` takes it: name -> one for each."""
    if not any(rows):
        return None
    if any(row.keys() != rows[0].keys() for row in rows):
        raise Refusal(BAD_REQUEST, "every instance has the same inputs beside its image")
    columns: dict[str, Any] = {}
    for key in rows[0]:
        column = [row[key] for row in rows]
        shapes = {one.shape for one in column}
        columns[key] = (
            np.stack(column) if len(shapes) == 1 and column[0].dtype.kind == "f" and column[0].ndim != 3 else column
        )
    return columns


def _of_query(query: Mapping[str, str], explain: bool) -> dict[str, Any]:
    """The parameters of an address; what is none of the protocol's is an option of the method."""
    if not explain:
        names: Sequence[str] = PLAIN
    else:
        names = [name for name in EXPLAINING if name != "options"]
    parameters: dict[str, Any] = {key: value for key, value in query.items() if key in names or not explain}
    if explain:
        parameters["options"] = {key: value for key, value in query.items() if key not in names}
    if "timeout_ms" in parameters:
        try:
            parameters["timeout_ms"] = float(parameters["timeout_ms"])
        except ValueError:
            parameters["timeout_ms"] = math.nan
    return parameters


def write(name: str, version: Version, whole: Whole, result: Result, explain: bool) -> dict[str, Any]:
    """The answer, for JSON.

    Raises:
        Refusal: A picture is asked for, and the request held none.
    """
    if not explain:
        predictions = [predicted_as_json(version, result, i) for i in range(len(whole.asked.images))]
        return {"predictions": predictions, "model": described(name, version)}
    return answered(name, version, whole, result)
