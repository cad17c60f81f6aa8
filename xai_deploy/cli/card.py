"""The card of xai-explain: one page for auditors about the explanations of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..answer import Answer
from ..errors import XaiError
from ..explainer import Explainer
from ..faithful import instability, rounding, rounding_warning
from ..format.randomised import SANITY
from ..foundation.json_report import require_place
from ..foundation.whole_files import write_whole
from ..methods import create
from ..methods.method import Method
from ..preprocess import Pixels
from ..reports import Origin, render, require
from ..reports.thumbnails import show
from .drawing import likelihood

SIDE = 480  # pixels of a picture's longer side, at most

_LIMITS = {
    "relevance": "It divides the score among places by rules. It does not say what the network would decide without a place.",
    "gradient": "It shows where a small change would move the score. It does not say what would be decided without a place.",
    "": "It shows where hiding or keeping a part moves the score. Such pictures are none that the network was trained on.",
}
_ALWAYS = (
    "It does not say whether the decision is right, whether the network would decide so on another picture, or why a person would. "
    "Each map is scaled to its own largest value, so its colours say nothing about how sure the network is."
)


class Card:
    """Collects the explanations of one image, and writes the page.

    Args:
        explainer: The network.
        path: The file to write.
        images: How many images the call explains.
        overwrite: Replace the file.

    Raises:
        XaiError: There are several images, or the file can't be written or exists.
        BackendNotInstalledError: jinja2 is missing.
    """

    def __init__(self, explainer: Explainer, path: str, images: int, overwrite: bool) -> None:
        require()
        if images != 1:
            raise XaiError(f"--report {path}: a card is about one decision; give one image, not {images}")
        require_place(path)
        if Path(path).exists() and not overwrite:
            raise XaiError(f"{path}: exists; give --overwrite, or another file with --report")
        self._explainer, self._path = explainer, Path(path)
        self._facts: dict[str, Any] = {}

    def add(self, image: Mapping[str, Any], photo: Pixels, shown: Sequence[tuple[str, Answer, Pixels]]) -> None:
        """Add the image.

        Args:
            image: Its entry in `results.json`.
            photo: RGB [h,w,3].
            shown: For each map its title, its answer, and the picture of it.
        """
        self._facts = {
            "image": image,
            "photo": show(photo, image["file"], side=SIDE),
            "maps": [
                {
                    "title": title,
                    "asked": answer.caption,
                    "score": answer.score,
                    "probability": answer.probability,
                    "picture": show(picture, f"{image['file']}, {title}, {answer.caption}", side=SIDE),
                    **_said(create(answer.method, {}), self._explainer),
                    "options": ", ".join(f"{key}={value}" for key, value in answer.options.items()) or "none",
                    "errors": [f"{name} {value:.3g}" for name, value in answer.stated_errors.items()],
                    "constant": answer.constant,
                    "signed": answer.signed,
                }
                for title, answer, picture in shown
            ],
        }

    def write(self, report: Mapping[str, Any], command: str) -> None:
        """Write the page.

        Args:
            report: What `results.json` holds.
            command: The command line.
        """
        bundle = self._explainer.bundle
        page = render(
            "card",
            Origin("xai-explain", command, report["versions"]),
            heading=f"Why did {bundle.manifest.name} decide so?",
            report=report,
            predictions=[(one["label"], likelihood(one)) for one in self._facts["image"]["prediction"]],
            always=_ALWAYS,
            manifest=bundle.manifest,
            signature=bundle.signature,
            sanity=bundle.manifest.extensions.get(SANITY, ""),
            **self._facts,
        )
        write_whole(self._path, page)


def _said(method: Method, explainer: Explainer) -> dict[str, Any]:
    """What a method's maps show and do not, by what it runs, and what was measured at export about its graphs."""
    roles = " ".join(method.roles)
    manifest = explainer.bundle.manifest
    measured, unstable = rounding(manifest).items(), instability(manifest)
    return {
        "plainly": method.plainly,
        "shows": method.shows,
        "limit": next(text for word, text in _LIMITS.items() if word in roles),
        "warnings": [
            *([unstable] if unstable else []),
            *(rounding_warning(name, share, manifest) for name, share in measured if name in method.roles),
        ],
    }
