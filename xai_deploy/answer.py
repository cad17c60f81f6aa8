"""One explanation of one image as data, as xai-explain writes it, a server sends it and a record keeps it."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from .captions import caption as _caption
from .detections import Detection
from .explained_network import ExplainedNetwork
from .explainer import Explainer
from .explanation import Array, Explanation
from .heatmap import heatmap
from .methods import create
from .methods.across import shown
from .pictures import Style, draw
from .pictures.detected import framed
from .preprocess import Pixels
from .probabilities import has_probabilities, probabilities
from .version import __version__

BEST = 5  # how many classes a prediction lists
_MARK = 80  # characters of a title in a file name
_ERRORS = ("gap", "relative_error", "standard_error")


@dataclass(frozen=True, eq=False)
class Answer:
    """The map of one method for one image and one target, with the facts that belong to it.

    Attributes:
        method: The method's name.
        options: All its options, defaults included.
        target: The class explained.
        label: Its label, or "class 3".
        versus: The class that it is contrasted with, or None.
        versus_label: The label of that class, or None.
        sign: -1 if the target is "not" the class: the map shows what speaks against it. Else 1.
        probability: The network's own probability of the class explained, also if the target is "not" that class; None if
            the network has none.
        logit: The logit of the class explained.
        score: The number that is explained: the logit, a difference of two, a cosine, a region's mean.
        seconds: Wall time of the method on all images of the call, divided by their number. It covers all targets of the call.
        constant: Why the map is the same everywhere, or None if it is not.
        heatmap: [H,W] float32 in [0,1], at the network's input size.
        raw: [h,w] float32, the method's own values.
        signed: 0 is neutral in `raw`, and values below 0 speak against the class, or for the class that it is contrasted with.
        at_pixels: Whether the method goes back to the pixels of the input. Pictures clip such maps.
        network: What the answer keeps of the bundle.
        diagnostics: What the method says of its own computation, see `Explanation.diagnostics`; empty for most methods.
        size: (height, width) of the photo; None for a prepared input.
        detections: What a detector found, the best one first; none for other networks.
        rows: The rows that are explained: one of `detections`, or two in a contrast.
        title: What is explained, for people, if the classes do not say it: "road @ 120,40,60,60". None if they do.
    """

    method: str
    options: dict[str, Any]
    target: int
    label: str
    versus: int | None
    versus_label: str | None
    sign: int
    probability: float | None
    logit: float
    seconds: float
    constant: str | None
    heatmap: Array
    raw: Array
    signed: bool
    at_pixels: bool
    network: ExplainedNetwork
    score: float | None = None
    title: str | None = None
    size: tuple[int, int] | None = None
    detections: tuple[Detection, ...] = ()
    rows: tuple[int, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """What is explained, for people: "cat", "cat vs dog" or "not cat"."""
        if self.title is not None:
            return self.title
        return _caption(self.label, self.versus_label, self.sign)

    @property
    def mark(self) -> str:
        """What is explained, in a file name: "281", "281-vs-207" or "not-281"; "road-all" for a title.

        A title that has other letters than A to Z, or is too long for a name, ends in a part of its digest: it would be lost.
        Titles that differ in their spaces and punctuation may have one mark.
        """
        if self.title is not None:
            safe = re.sub(r"[^A-Za-z0-9.,=-]+", "-", self.title).strip("-.")
            if self.title.isascii() and len(safe) <= _MARK:
                return safe
            digest = hashlib.sha256(self.title.encode("utf-8", "surrogateescape")).hexdigest()[:8]
            return f"{safe[: _MARK - len(digest) - 1]}-{digest}".lstrip("-")
        against = "" if self.versus is None else f"-vs-{self.versus}"
        return f"{'not-' if self.sign < 0 else ''}{self.target}{against}"

    @property
    def stated_errors(self) -> dict[str, float]:
        """Of the diagnostics, those that say how far the map may be from what the method defines; of several layers each."""
        return {name: float(v) for name, v in self.diagnostics.items() if name.partition("@")[0] in _ERRORS}

    def as_json(self, files: Mapping[str, str] | None = None) -> dict[str, Any]:
        """All but the arrays, for JSON.

        Args:
            files: Key -> name of a file that holds an array or a picture. These become entries of the same object.
        """
        return {
            "method": self.method,
            "options": self.options,
            "target": self.target,
            "label": self.label,
            "versus": self.versus,
            "versus_label": self.versus_label,
            "sign": self.sign,
            "title": self.title,
            "probability": self.probability,
            "logit": self.logit,
            "score": self.score,
            "seconds": self.seconds,
            **(files or {}),
            "signed": self.signed,
            "constant": self.constant,
            "diagnostics": dict(self.diagnostics),
            **self._found(),
        }

    def _found(self) -> dict[str, Any]:
        """The detections, for JSON; nothing for other networks."""
        if self.network.kind != "rows":
            return {}
        found = [one.as_json(self.network.label(one.index)) for one in self.detections]
        return {"size": self.size, "detections": found, "rows": list(self.rows)}

    def overlay(self, photo: Pixels, style: Style | None = None) -> Pixels:
        """The map laid over the whole photo, RGB [h,w,3] uint8; see `Explanation.overlay`.

        Args:
            photo: The image that was explained, RGB [h,w,3] uint8; it may be enlarged or shrunk.
            style: Colours, opacity, contours.
        """
        drawn = draw(
            photo, self.heatmap, self.raw, self.network.input, signed=self.signed, at_pixels=self.at_pixels, style=style
        )
        return framed(drawn, self.detections, self.rows, self.size) if self.size and self.detections else drawn


def answer(explainer: Explainer, explanation: Explanation, image: int = 0) -> Answer:
    """The answer for one image of an explanation.

    Args:
        explainer: The explainer that made the explanation.
        explanation: An explanation of N images.
        image: The image's index among them, 0 to N-1.
    """
    target = int(explanation.target[image])
    versus = -1 if explanation.versus is None else int(explanation.versus[image])  # -1: an image without a contrast
    return Answer(
        method=explanation.method,
        options=explanation.options,
        target=target,
        label=label(explainer, target),
        versus=versus if versus >= 0 else None,
        versus_label=label(explainer, versus) if versus >= 0 else None,
        sign=int(explanation.sign[image]),
        **likelihood(explainer, explanation.logits[image], target, _shares(explanation, image)),
        score=None if explanation.score is None else float(explanation.score[image]),
        title=explanation.titles[image] if explanation.titles else None,
        diagnostics={name: values[image] for name, values in explanation.diagnostics.items()},
        seconds=explanation.seconds / len(explanation.target),
        constant=explanation.constant[image],
        heatmap=explanation.heatmap[image],
        raw=explanation.raw[image],
        signed=explanation.signed[image],
        at_pixels=explanation.at_pixels,
        network=replace(explainer.network, input=explanation.network.input),
        size=explanation.sizes[image],
        detections=explanation.detections[image] if explanation.detections else (),
        rows=explanation.rows[image] if explanation.rows else (),
    )


def restored(explainer: Explainer, entry: Mapping[str, Any], raw: Array) -> Answer:
    """An answer from what was written of it.

    Args:
        explainer: An explainer of the same bundle.
        entry: What `Answer.as_json` gave.
        raw: [h,w] float32, the method's own values.
    """
    said = {key: value for key in ("layer", "image") if (value := entry["options"].get(key)) is not None}
    method, manifest = create(entry["method"], said), explainer.bundle.manifest
    spec = manifest.image(shown(method, manifest))
    rest = {
        "heatmap": heatmap(raw[None], *spec.size)[0],
        "raw": raw,
        "at_pixels": method.at_pixels,
        "size": tuple(entry["size"]) if entry.get("size") else None,
        "detections": tuple(Detection.of_json(one) for one in entry.get("detections", ())),
        "rows": tuple(entry.get("rows", ())),
        "network": replace(explainer.network, input=spec),
    }
    return Answer(**{field.name: entry[field.name] for field in fields(Answer) if field.name not in rest}, **rest)


def prediction(explainer: Explainer, logits: Array, shares: Array | None = None) -> list[dict[str, Any]]:
    """The best classes of one image, best first, for JSON; of a region, the best classes in it.

    Args:
        explainer: The explainer that made the logits.
        logits: [classes].
        shares: [classes], the mean probabilities in a region; None for anything but a region.

    Returns:
        At most `BEST` objects of class, label, probability (None if the network has none) and logit.
    """
    best = np.argsort(-logits, kind="stable")[:BEST]  # among equal logits, the lower index comes first
    return [
        {
            "class": int(index),
            "label": label(explainer, int(index)),
            **likelihood(explainer, logits, int(index), shares),
        }
        for index in best
    ]


def detected(explainer: Explainer, found: Sequence[Detection]) -> list[dict[str, Any]]:
    """Detections of one image as a prediction, for JSON."""
    return [{**one.as_json(label(explainer, one.index)), "probability": one.score, "logit": None} for one in found]


def predicted(
    explainer: Explainer, explanation: Explanation, image: int, answers: Sequence[Answer]
) -> list[dict[str, Any]]:
    """What the network says of one image of an explanation: its best classes or detections, or the numbers explained.

    Args:
        explainer: The explainer that made the explanation.
        explanation: An explanation of N images.
        image: The image's index among them.
        answers: All answers about that image, by method, then target; the first method's name the numbers.
    """
    if explainer.network.kind == "rows":
        return detected(explainer, explanation.detections[image][:BEST])
    if explainer.network.kind != "vector":
        return prediction(explainer, explanation.logits[image], _shares(explanation, image))
    # not by caption: references in several folders may have one file name
    first = [one for one in answers if (one.method, one.options) == (answers[0].method, answers[0].options)]
    return [
        {"class": None, "label": one.caption, "probability": None, "logit": None, "value": one.score} for one in first
    ]


def likelihood(explainer: Explainer, logits: Array, index: int, shares: Array | None = None) -> dict[str, Any]:
    """The probability of class `index` (None if the network has none) and its logit, from what `prediction` takes."""
    manifest, logit = explainer.bundle.manifest, float(logits[index])
    if manifest.scores.kind == "classes" and has_probabilities(manifest.activation, len(logits)):
        shares = probabilities(logits, manifest.activation)
    if _is_side(explainer, index):
        shares = None
    return {"probability": None if shares is None else float(shares[index]), "logit": logit}


def _shares(explanation: Explanation, image: int) -> Array | None:
    own: Array | None = None if explanation.shares is None else explanation.shares[image]
    return own


def label(explainer: Explainer, index: int) -> str:
    """The label of a class; "class 3" if it has none, "box" if it is a coordinate of a detector's row."""
    return "box" if _is_side(explainer, index) else explainer.network.label(index)


def _is_side(explainer: Explainer, index: int) -> bool:
    rows = explainer.bundle.manifest.scores.rows  # a coordinate is no class, and has no probability
    return rows is not None and index >= rows.classes


def origin(explainer: Explainer) -> dict[str, Any]:
    """The origin of answers, for JSON: the bundle, the runtime, the device, the versions of the packages in use."""
    manifest = explainer.bundle.manifest
    return {
        "bundle": {
            "name": manifest.name,
            "layer": manifest.layers_title,
            "digest": manifest.digest,
            "activation": manifest.activation,
            "batch": manifest.batch,
        },
        "backend": explainer.backend,
        "device": explainer.device,
        "precision": explainer.precision,
        "versions": {
            "xai-deploy": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            explainer.backend: explainer.backend_version,
        },
    }
