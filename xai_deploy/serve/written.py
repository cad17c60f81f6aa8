"""Answers as clients get them: our form, and that of Vertex Explainable AI."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..answer import Answer, origin
from ..images import encode_image
from ..preprocess import as_photo
from .asked import Shown, Whole
from .refusals import BAD_REQUEST, Refusal
from .versions import Version
from .work import Result

_ERRORS = ("gap", "relative_error")
"""Diagnostics that state how far a map is from what the method defines, as a share."""

_SMALL = 4096  # numbers of an output that a prediction lists


def described(name: str, version: Version) -> dict[str, Any]:
    """What answered: name, version, bundle, runtime."""
    return {"name": name, "version": version.number, **origin(version.explainer)}


def approximation_error(answer: Answer) -> float | None:
    """How far the map is from what the method defines, if the method says so; None if it computes its definition."""
    said = answer.diagnostics.items()
    return max((float(value) for name, value in said if name.partition("@")[0] in _ERRORS), default=None)


def predicted_as_json(version: Version, result: Result, image: int) -> dict[str, Any]:
    """The prediction for one image; the numbers themselves if they are no classes."""
    said: dict[str, Any] = {"prediction": result.predictions[image]}
    if version.manifest.scores.kind == "vector":
        said["outputs"] = {
            key: np.ascontiguousarray(values[image])
            for key, values in result.outputs.items()
            if values[image].size <= _SMALL
        }
    return said


def answered(name: str, version: Version, whole: Whole, result: Result) -> dict[str, Any]:
    """The answer to a request for explanations, for JSON.

    Raises:
        Refusal: A picture is asked for, and the request held none.
    """
    if whole.shown.form == "vertex":
        return vertex(name, version, whole, result)
    return {
        "explanations": [
            {
                "prediction": result.predictions[i],
                "explanations": [
                    {
                        **answer.as_json({"map": map_of(answer, whole, i)}),  # type: ignore[dict-item]
                        "approximationError": approximation_error(answer),
                    }
                    for answer in answers
                ],
            }
            for i, answers in enumerate(result.answers)
        ],
        "model": described(name, version),
    }


def map_of(answer: Answer, whole: Whole, image: int) -> dict[str, Any] | None:
    """A map in the encoding asked for."""
    shown = whole.shown
    if shown.encoding == "none":
        return None
    if shown.encoding == "png":
        return {"encoding": "png", "b64": base64.b64encode(overlay(answer, whole, image)).decode()}
    values = values_of(answer, shown)
    told = {"kind": shown.map, "shape": list(values.shape), "encoding": shown.encoding}
    if shown.encoding == "list":
        return {**told, "values": values}
    return {**told, "b64": base64.b64encode(npy(values)).decode()}


def values_of(answer: Answer, shown: Shown) -> np.ndarray[Any, Any]:
    """The map's numbers."""
    return np.ascontiguousarray(answer.raw if shown.map == "raw" else answer.heatmap, np.float32)


def npy(values: np.ndarray[Any, Any]) -> bytes:
    """An array as the bytes of a `.npy` file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def overlay(answer: Answer, whole: Whole, image: int) -> bytes:
    """The map over the picture, as PNG.

    Raises:
        Refusal: The request held numbers, not a picture.
    """
    given = whole.asked.images[image]
    if given.dtype.kind == "f" and answer.network.input.preprocess.range is None:
        raise Refusal(
            BAD_REQUEST,
            "a picture of the map needs the picture that is explained: send an image file or 8-bit pixels, or ask for numbers",
        )
    return encode_image(answer.overlay(as_photo(given, answer.network.input)))


def vertex(name: str, version: Version, whole: Whole, result: Result) -> dict[str, Any]:
    """The answer in the form of Vertex Explainable AI's `explain`.

    `baselineOutputValue` is there for methods that have a baseline, `approximationError` for those that state one.
    """

    def attribution(answer: Answer) -> Mapping[str, Any]:
        values = values_of(answer, whole.shown)
        numbers: Any = values if whole.shown.encoding == "list" else base64.b64encode(npy(values)).decode()
        error, baseline = approximation_error(answer), answer.diagnostics.get("baseline")
        return {
            **({} if baseline is None else {"baselineOutputValue": baseline}),
            "instanceOutputValue": answer.score,
            "featureAttributions": {answer.network.input.name: numbers},
            "outputIndex": [*answer.rows[:1], answer.target],
            "outputDisplayName": answer.caption,
            "outputName": version.manifest.scores.tensor,
            **({} if error is None else {"approximationError": error}),
        }

    return {
        "explanations": [{"attributions": [attribution(one) for one in answers]} for answers in result.answers],
        "predictions": [predicted_as_json(version, result, i) for i in range(len(result.answers))],
        "deployedModelId": version.digest,
        "model": name,
    }
