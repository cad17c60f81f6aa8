"""What xai-explain draws: an overlay for each map, and the contact sheet."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..answer import Answer
from ..explainer import Explainer
from ..foundation.options import shortened
from ..images import Pixels, encode_image, fit
from ..pictures import DIVERGING, OPACITY, SEQUENTIAL, Style, find_colormap
from ..pictures.colormaps import colormaps
from .arguments import MethodRequest
from .console import Parser, share
from .contact_sheet import TILE, ContactSheet, Tile
from .sheet_text import NO_BREAK

log = logging.getLogger(__name__)

SMALLEST, LARGEST = 32, 2048  # pixels of --size
_CAPTION = 200  # characters below a map; two names that are contrasted take 100 each
_QUALITY = 90  # of JPEG and WebP


class Drawing:
    """Draws the maps of one call.

    Args:
        arguments: The command line, with the options of `add_options`.
        explainer: Its explainer.
        write: Writes a file of the results.

    Attributes:
        sheet: The contact sheet.
        suffix: The ending of the pictures, with its dot.
        style: How maps are drawn.
    """

    def __init__(
        self, arguments: argparse.Namespace, explainer: Explainer, write: Callable[[str, bytes], None]
    ) -> None:
        self.suffix = f".{arguments.format}"
        self.style = Style(opacity=arguments.opacity, grey=arguments.grey, contours=arguments.contours)
        for name in arguments.colormap or ():
            self.style = self.style.with_colormap(name)
        self._named = {name: find_colormap(name).diverging for name in arguments.colormap or ()}
        self._kinds: set[bool] = set()
        self._size: int | None = arguments.size
        self._tile: int = arguments.size or TILE
        manifest = explainer.bundle.manifest
        self.sheet = ContactSheet(
            Path(f"contact-sheet{self.suffix}"),
            f"{manifest.name}, layer {manifest.layers_title}, {explainer.backend} on {arguments.device}",
            lambda path, page: write(path.name, encode_image(page, self.suffix, _QUALITY, spent=True)),
            self.style,
            self._tile,
            manifest.input.preprocess.crops,
        )

    def overlay(self, answer: Answer, photo: Pixels) -> bytes:
        """The picture of one map, as a file: as large as the photo, or as `--size` says."""
        small = photo if self._size is None else fit(photo, self._size, enlarge=False)
        return encode_image(answer.overlay(small, self.style), self.suffix, _QUALITY, spent=True)

    def show(
        self,
        path: Path,
        photos: Mapping[str, Pixels],
        prediction: Sequence[Mapping[str, Any]],
        answers: Sequence[tuple[MethodRequest, Answer]],
    ) -> list[Pixels]:
        """Add an image and its maps to the contact sheet; each class's probability is said once.

        `photos` holds the image first, and by the network's inputs those that other maps are drawn on.

        Returns:
            The image and its maps as the sheet shows them.
        """
        self._kinds |= {answer.signed for _, answer in answers}
        tiles = {name: fit(photo, self._tile) for name, photo in photos.items()}
        tile = next(iter(tiles.values()))
        best = prediction[0]
        shown = {best["label"]: likelihood(best)}
        named = (a for _, a in answers if a.title is None and a.caption not in shown and a.label not in shown)
        shown.update((a.label, likelihood(a.as_json())) for a in named)
        maps = [
            Tile(
                answer.overlay(tiles[answer.network.input.name], self.style),
                shortened(answer.caption, _CAPTION),
                tuple(f"{key}={value}" for key, value in method.options.items()),
                method.name,
                answer.signed,
                answer.at_pixels,
            )
            for method, answer in answers
        ]
        notes = tuple(f"{shortened(label, _CAPTION)} {value.replace(' ', NO_BREAK)}" for label, value in shown.items())
        self.sheet.add(Tile(tile, path.name, notes), maps, shortened(best["label"], _CAPTION))
        return [tile, *(shown_map.picture for shown_map in maps)]

    def finish(self) -> None:
        """Write the last page of the contact sheet; warn of a colour map that no map has taken."""
        self.sheet.flush()
        for name, diverging in self._named.items():
            if diverging not in self._kinds:
                kind = "signed" if diverging else "positive"
                log.warning("--colormap %s: not used, since no map here is %s", name, kind)


def likelihood(entry: Mapping[str, Any]) -> str:
    """An entry's probability in percent, its logit if it has no probability, or its value if it is no class."""
    if entry.get("value") is not None:
        return f"{entry['value']:.3g}"
    if entry["probability"] is None:
        return f"logit {entry['logit']:.3g}"
    return f"{100 * entry['probability']:.1f} %"


def _side(text: str) -> int:
    """The type of an argument: the longest side of a picture."""
    value = int(text)
    if not SMALLEST <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"between {SMALLEST} and {LARGEST} pixels, not {text}")
    return value


def add_options(parser: Parser) -> None:
    """The options of the pictures."""
    add = parser.add_argument
    add(
        "--colormap",
        action="append",
        metavar="NAME",
        help=f"colours of positive maps (default: {SEQUENTIAL}), or of signed maps (default: {DIVERGING}): "
        + ", ".join(colormaps),
    )
    add(
        "--opacity",
        type=share,
        default=OPACITY,
        metavar="F",
        help=f"largest share of the colour, 0 to 1; it rises with the value (default: {OPACITY})",
    )
    add(
        "--contours",
        action="store_true",
        help="draw lines at 25, 50 and 75 %% of the scale (not in maps at the pixels)",
    )
    add("--grey", action="store_true", help="draw the photo in grey")
    add("--format", choices=("png", "jpg", "webp"), default="png", help="format of the pictures (default: png)")
    add(
        "--size",
        type=_side,
        metavar="N",
        help=f"longest side of the pictures in pixels (default: as the photo; {TILE} on the contact sheet)",
    )
