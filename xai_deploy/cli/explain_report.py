"""The report of xai-explain: one HTML page with each image, its predictions and its maps side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ..captions import caption
from ..explainer import Explainer
from ..methods import create
from ..pictures import Style
from ..preprocess import Pixels
from ..reports import Origin, render, require
from ..reports.thumbnails import Shown, color_bar, show
from .drawing import likelihood

PAGE = "report.html"
PICTURES = 400  # on a page, at most: some 6 MB
MAPS = 24  # of an image


class ReportPage:
    """Collects images as they are explained, and renders the page; what exceeds `PICTURES` is counted, not kept.

    Args:
        explainer: The network.
        style: How the maps are drawn.

    Raises:
        BackendNotInstalledError: jinja2 is missing.
    """

    def __init__(self, explainer: Explainer, style: Style) -> None:
        require()
        self._explainer, self._style = explainer, style
        self._images: list[dict[str, Any]] = []
        self._pictures = 0

    def add(self, image: Mapping[str, Any], titles: Sequence[str], pictures: Sequence[Pixels]) -> None:
        """Add an image.

        Args:
            image: Its entry in `results.json`.
            titles: The method of each of its explanations, with the options that were given.
            pictures: The photo, then a picture of each explanation, RGB [h,w,3].
        """
        entries = image["explanations"]
        if self._images and self._pictures + min(len(pictures), MAPS + 1) > PICTURES:
            return
        photo, *maps = pictures
        self._pictures += min(len(pictures), MAPS + 1)
        self._images.append(
            {
                "file": image["file"],
                "photo": show(photo, image["file"]),
                "predictions": [_bar(entry) for entry in image["prediction"]],
                "maps": [
                    _map(image["file"], title, entry, picture)
                    for title, entry, picture in zip(titles[:MAPS], entries, maps, strict=False)
                ],
                "left_out": max(len(entries) - MAPS, 0),
            }
        )

    def render(
        self, report: Mapping[str, Any], methods: Sequence[tuple[str, Mapping[str, str]]], command: str
    ) -> bytes:
        """The page, as UTF-8.

        Args:
            report: What `results.json` holds.
            methods: The methods that were asked for, with their options as text.
            command: The command line.
        """
        entries = [entry for image in report["images"] for entry in image["explanations"]]
        signed = {entry["signed"] for entry in entries}
        spec = self._explainer.bundle.manifest.input
        return render(
            "explain",
            Origin("xai-explain", command, report["versions"]),
            heading=f"Explanations of {report['bundle']['name']}",
            lead=_lead(report, methods),
            report=report,
            images=self._images,
            constant=[
                (image["file"], entry["method"], entry["label"], entry["constant"])
                for image in report["images"]
                for entry in image["explanations"]
                if entry["constant"] is not None
            ],
            methods=[self._method(name, options, entries) for name, options in methods],
            input=_input(spec),
            cropped=spec.preprocess.crops,
            assumed=spec.preprocess.assumed,
            randomised=self._explainer.bundle.manifest.randomised is not None,
            bars=[
                *([color_bar("lowest value", "highest value", "", self._style.sequential)] if False in signed else []),
                *(
                    [color_bar("against", "for the class", "0", self._style.diverging, signed=True)]
                    if True in signed
                    else []
                ),
            ],
            link=_link,
        )

    def _method(self, name: str, options: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The facts of a method: all its options, the graphs it ran, the time it took."""
        method = create(name, options)
        own = [entry for entry in entries if entry["method"] == name and _has(entry["options"], method)]
        return {
            "name": name,
            "shows": method.shows,
            "options": ", ".join(map(_option, own[0]["options"].items())) if own else "",
            "graphs": ", ".join([*self._explainer.bundle.manifest.parts, *method.roles]),
            "seconds": sum(entry["seconds"] for entry in own) / len(own) if own else None,
        }


def _option(option: tuple[str, Any]) -> str:
    """As it is written on the command line."""
    key, value = option
    return f"{key}={str(value).lower() if isinstance(value, bool) or value is None else value}"


def _has(options: Mapping[str, Any], method: Any) -> bool:
    defaults = {"combine": "max", "layer": None}  # options that a method has in bundles of several layers
    return all(getattr(method, key, defaults.get(key)) == value for key, value in options.items())


def _lead(report: Mapping[str, Any], methods: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """The page in a sentence."""
    images = report["images"]
    names = list(dict.fromkeys(name for name, _ in methods))
    by = names[0] if len(names) == 1 else f"{len(names)} methods"
    if len(images) > 1:
        return f"{len(images)} images, explained by {by}."
    best = images[0]["prediction"][0]
    return f"The network predicts {best['label']} ({_bar(best)[2]}), explained by {by}."


def _bar(entry: Mapping[str, Any]) -> tuple[str, float | None, str]:
    """Label, probability and text of a prediction."""
    p = entry["probability"]
    return entry["label"], p, likelihood(entry)


def _map(file: str, title: str, entry: Mapping[str, Any], picture: Pixels) -> dict[str, Any]:
    shown: Shown = show(picture, f"{file}, {title}, {entry['label']}")
    label, _, text = _bar(entry)
    said = caption(label, entry["versus_label"], entry["sign"])
    # The probability is that of the class, also if the map shows what speaks against it or for it rather than another.
    return {
        "title": title,
        "entry": entry,
        "picture": shown,
        "caption": f"{said}, {text}" if said == label else f"{said} ({label}: {text})",
    }


def _input(spec: Any) -> str:
    """What the network sees of a photo."""
    size = f"{spec.height} x {spec.width} pixels" + (f", in {spec.depth} slices" if spec.depth is not None else "")
    resize = spec.preprocess.resize
    if resize == "stretch":
        return f"the whole photo, stretched to {size}"
    if resize == "letterbox":
        return f"the whole photo within a grey border, {size}"
    return f"the middle of the photo: {spec.preprocess.resized}, then the centre {size}"


def _link(name: str) -> str:
    """A file beside the page as a URL: nothing in it is taken for a scheme, a folder or a query."""
    return quote(os.fsencode(name), safe="")
