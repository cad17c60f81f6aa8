"""Explanation: the maps of one method for one target on N images, with all that is needed to show and to keep them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from . import heatmap as _heatmap
from . import volumes
from .captions import SHOWN, caption, in_a_line
from .detections import Detection
from .errors import NotApplicableError, OptionError, SavedExplanationError, ShapeError
from .explained_network import ExplainedNetwork
from .foundation.paths import path_of
from .foundation.printable import printable
from .layer_maps import LayerMaps, of_one_image
from .pictures import OPACITY, Style, colorize, drawn, find_colormap, notebook
from .pictures import draw as _draw
from .pictures.boxes import HotBox, hot_boxes
from .pictures.detected import framed
from .pictures.figure import figure
from .pictures.photo import on_photo
from .preprocess import Images, as_list, as_photo, frame
from .probabilities import has_probabilities, probabilities

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_SHOWN = 12  # pictures in a notebook; `plot` draws all


@dataclass(frozen=True, eq=False)
class Explanation:
    """The result of one method for one target, on N images.

    Attributes:
        heatmap: [N,H,W] float32 in [0,1], at the network's input size; a constant map is all zeros. [N,D,H,W] of volumes.
        raw: [N,h,w] float32, the method's own values before resize and min-max (at input size if the method's formula is at
            that size, as in Score-CAM).
        logits: [N,classes] float32, before a final Softmax or Sigmoid; the probabilities themselves if the network computes them
            in another way.
        outputs: The network's own outputs, by name.
        target: [N] int64, the class explained; for weights, the class of the largest one.
        versus: [N] int64, the class that it is contrasted with, -1 for an image without one; None if no image has one.
        sign: [N] int8, -1 for an image whose target is "not" the class (the map shows what speaks against it), 1 for any other.
        method: The method's name.
        options: All its options, defaults included.
        seconds: Wall time of the method on all N images, including the forward pass that the methods share.
        constant: Per image, why its map is the same everywhere (see `constant_maps`), or None if it is not.
        signed: Per image, whether 0 is neutral in its raw map and values below 0 speak against the class; see `Method.signed`.
        at_pixels: Whether the method goes back to the pixels of the input. Pictures clip such maps.
        sizes: Per image, the (height, width) of the photo in pixels; None if floats or prepared inputs were explained, and for maps
            of a further image of the network.
        thumbnails: Per image, the photo reduced to at most 256 x 256, for notebooks and `plot`: a copy, at most 196 kB. The photos
            themselves are not kept. None where `sizes` is.
        network: The network that was explained.
        score: [N] float32, the number that is explained: the logit of a class, a difference of two, a cosine, a region's mean. None
            in explanations that an earlier version saved.
        titles: Per image, what is explained, for people ("road @ 120,40,60,60", "like other.jpg"); None if the class says it.
        diagnostics: What the method says of its own computation: name -> a number per image. "standard_error": of a segment's
            value, as root mean square over the segments. "score_range": the highest score less the lowest of what a
            method of masks saw; 0: its map shows the masks, not the network.
        shares: [N,classes] float32, of a region the mean probability of each class in it; None for anything but a region.
        layers: The maps of each layer, in the network's order, if the bundle has several and `heatmap` and `raw` are put together
            from them (see `layer_maps`); else none. Those of further images (`layer.input`) are not in `heatmap`; see `of_image`.
        detections: Per image what a detector found, the best one first; none for other networks. Boxes are in pixels of the photo.
        rows: Per image the rows that are explained, see `Detection.row`: one, or two in a contrast.
    """

    heatmap: Array
    raw: Array
    logits: Array
    outputs: dict[str, NDArray[Any]]
    target: NDArray[np.int64]
    versus: NDArray[np.int64] | None
    sign: NDArray[np.int8]
    method: str
    options: dict[str, Any]
    seconds: float
    constant: tuple[str | None, ...]
    signed: tuple[bool, ...]
    at_pixels: bool
    sizes: tuple[tuple[int, int] | None, ...]
    thumbnails: tuple[Pixels | None, ...]
    network: ExplainedNetwork
    score: Array | None = None
    titles: tuple[str | None, ...] = ()
    shares: Array | None = None
    diagnostics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    layers: tuple[LayerMaps, ...] = ()
    detections: tuple[tuple[Detection, ...], ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()

    def of_image(self, name: str) -> Explanation:
        """The explanation with the maps of a further image of the network: of the layers that this image alone reaches.

        Its `overlay` takes the images of that input.

        Raises:
            NotApplicableError: No layer here shows that image.
        """
        own = tuple(one for one in self.layers if one.layer.input == name)
        if not own:
            names = ", ".join(repr(one.name) for one in self.network.others) if self.layers else ""
            raise NotApplicableError(f"no layer here shows a further image {name!r}; layers show {names or 'none'}")
        [spec] = [one for one in self.network.others if one.name == name]
        raw, constant = of_one_image(
            self.layers, self.signed, self.options.get("combine", "max"), *spec.size, name=name
        )
        nothing = (None,) * len(raw)
        return replace(
            self,
            heatmap=_heatmap.heatmap(raw, *spec.size),
            raw=raw,
            constant=constant,
            sizes=nothing,
            thumbnails=nothing,
            network=replace(self.network, input=spec, layer=own[0].layer, others=()),
            layers=tuple(replace(one, layer=replace(one.layer, input=None)) for one in own) if len(own) > 1 else (),
        )

    @property
    def probabilities(self) -> Array | None:
        """[N,classes] float32; None for scores that are no probability.

        They are the network's own output if that holds probabilities. For a network that ends in logits they are their softmax.
        """
        activation = self.network.activation
        if self.network.kind != "classes":
            return self.shares
        if not has_probabilities(activation, self.logits.shape[1]):
            return None
        return probabilities(self.logits, activation)

    def overlay(
        self,
        images: Images,
        opacity: float = OPACITY,
        *,
        colormap: str | None = None,
        grey: bool = False,
        contours: bool = False,
    ) -> list[NDArray[np.uint8]]:
        """The maps laid over the whole images. What the network did not see is dimmed, and the frame of the rest is drawn.

        Positive maps run from 0 to 1 as `heatmap`. Signed maps are drawn from `raw`, so that 0 has the neutral colour. Maps at the
        pixels are cut at their 99th percentile.

        Args:
            images: The uint8 RGB images that were explained, of any size.
            opacity: Largest share of the colour, 0 to 1; it rises from 0 at the value 0 to this at half of the scale.
            colormap: A sequential one for positive maps ("inferno", "viridis", "turbo" ...), a diverging one for signed maps
                ("coolwarm", "RdBu_r" ...).
            grey: Draw the images in grey.
            contours: Draw lines at 25, 50 and 75 % of the scale; not in maps at the pixels.

        Returns:
            One RGB [h,w,3] uint8 picture per image, of the size of the image.

        Raises:
            InputError: These are not the images that were explained.
            OptionError: The opacity lies outside 0 to 1; the colour map does not exist, or is for the other kind of map.
        """
        style = self._style(colormap, opacity, grey, contours)
        return [self.draw(photo, i, style) for i, photo in enumerate(self._photos(images))]

    def plot(self, images: Images | None = None, *, colormap: str | None = None, contours: bool = False) -> Any:
        """The maps over the photos as a matplotlib figure, with captions and a colour bar (extra `plot`).

        Args:
            images: The images that were explained, for pictures of full resolution. None takes the thumbnails; without those, for
                floats and prepared inputs, the maps are drawn alone.
            colormap: As for `overlay`.
            contours: As for `overlay`.

        Returns:
            A `matplotlib.figure.Figure`. A notebook shows it; `figure.savefig("maps.png")` writes it.

        Raises:
            BackendNotInstalledError: matplotlib is not installed.
            InputError: These are not the images that were explained.
            OptionError: The colour map does not exist, or is for the other kind of map.
        """
        style = self._style(colormap, OPACITY, False, contours)
        photos = self.thumbnails if images is None else self._photos(images)
        pictures = [self._picture(photo, i, style) for i, photo in enumerate(photos)]
        return figure(pictures, self._captions(len(pictures)), repr(self)[1:-1], self.signed, style)

    def _repr_html_(self) -> str:
        """For notebooks: the thumbnails under their maps."""
        count = min(len(self.heatmap), _SHOWN)
        more = len(self.heatmap) - count
        pictures = [self._picture(photo, i) for i, photo in enumerate(self.thumbnails[:count])]
        note = f"and {more} more images; plot() draws all" if more else ""
        return notebook.as_html(pictures, self._captions(count), repr(self)[1:-1], note)

    def _repr_png_(self) -> bytes:
        """For notebooks that show no HTML: the same pictures side by side, without captions."""
        pictures = [self._picture(photo, i) for i, photo in enumerate(self.thumbnails[:_SHOWN])]
        return notebook.png(notebook.side_by_side(pictures))

    def _captions(self, count: int) -> list[str]:
        shares = self.probabilities
        captions = []
        for i in range(count):
            chance = "" if shares is None else f" ({100 * shares[i, self.target[i]]:.1f} %)"
            if chance and self.caption(i) != (label := self.network.label(int(self.target[i]))):
                chance = f" ({label}: {chance[2:]}"  # the probability is that of the class, not of its absence
            captions.append(printable(self.caption(i) + chance))
        return captions

    def _picture(self, photo: Pixels | None, image: int, style: Style | None = None) -> Pixels:
        """The map over a photo; alone if there is none."""
        if photo is not None:
            return self.draw(photo, image, style)
        style, signed = style or Style(), self.signed[image]
        values = drawn(self.heatmap[image], self.raw[image], signed, self.at_pixels)
        if values.ndim == 3:
            values = volumes.mosaic(values[volumes.shown(len(values))])
        return colorize(values, style.diverging if signed else style.sequential, signed)

    def _style(self, colormap: str | None, opacity: float, grey: bool, contours: bool) -> Style:
        style = Style(opacity=opacity, grey=grey, contours=contours)
        if colormap is None:
            return style
        if len(set(self.signed)) == 1:
            find_colormap(colormap, self.signed[0])
        return style.with_colormap(colormap)

    def _photos(self, images: Images) -> Iterator[Pixels]:
        """The images as photos, one at a time."""
        batch = as_list(images, self.network.input)
        if len(batch) != len(self.heatmap):
            raise ShapeError(f"{len(batch)} images for {len(self.heatmap)} heatmaps; give the images explained")
        return (as_photo(image, self.network.input) for image in batch)

    def draw(self, photo: Pixels, image: int = 0, style: Style | None = None) -> Pixels:
        """The map of one image over that image, RGB [h,w,3] uint8; the photo may also be enlarged or shrunk."""
        drawn = _draw(
            photo,
            self.heatmap[image],
            self.raw[image],
            self.network.input,
            signed=self.signed[image],
            at_pixels=self.at_pixels,
            style=style,
        )
        size = self.sizes[image]
        if size is None or not self.detections:
            return drawn
        return framed(drawn, self.detections[image], self.rows[image], size)

    def caption(self, image: int = 0) -> str:
        """What is explained in one image, for people: "cat", "cat vs dog" or "not cat"; see `Not`, `Contrast`."""
        if self.titles and (title := self.titles[image]) is not None:
            return title
        label = self.network.label
        versus = -1 if self.versus is None else int(self.versus[image])  # -1: an image without a contrast
        return caption(label(int(self.target[image])), label(versus) if versus >= 0 else None, int(self.sign[image]))

    def to_image_size(self, outside: float = 0.0) -> list[Array]:
        """The heatmaps on the whole photos: the resize and the crop of the preprocessing undone, see `pictures.photo`.

        Args:
            outside: The value of pixels that the network did not see; NaN tells them from cold ones.

        Returns:
            One float32 [h,w] per image, of the size of its photo: in [0,1] inside `preprocess.frame`, `outside` elsewhere. For
            floats and prepared inputs, whose photo is not known, the heatmap itself [H,W].
        """
        return [self._on_photo(i, heat, outside) for i, heat in enumerate(self.heatmap)]

    def boxes(self, threshold: float = 0.5) -> list[list[HotBox]]:
        """Boxes around what is hot: the connected parts (8 neighbours) of {p : value_p >= threshold} on the whole photo.

        The values are those of `to_image_size`. For a signed map they are the positive part of `raw`, divided by its maximum: what
        speaks for the target, with 0 at 0. Either is scaled per image, so a box says where most of an image's own evidence lies,
        not that there is an object. A map that is the same everywhere has no boxes.

        Args:
            threshold: Above 0, at most 1; 0.5 is half of the largest value.

        Returns:
            Per image, the boxes in whole pixels of the photo, sorted by heat: (left, top, right, bottom, heat, peak), where columns
            left to right - 1 and rows top to bottom - 1 are inside, heat is the part's share of the map's sum, and peak its
            largest value. For floats and prepared inputs, whose photo is not known, in pixels of the network's input.

        Raises:
            OptionError: The threshold lies outside this range.
            NotApplicableError: Volumes were explained.
        """
        if self.network.input.depth is not None:
            raise NotApplicableError("boxes lie around what is hot in images; of a volume take the heatmap [D,H,W]")
        if not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
            raise OptionError(f"threshold is above 0 and at most 1, not {threshold!r}")
        # The map on the photo is interpolated: rounding may leave its largest value a little below 1.
        return [hot_boxes(self._on_photo(i, self._positive(i)), threshold - 1e-6) for i in range(len(self.heatmap))]

    def _positive(self, image: int) -> Array:
        """What `boxes` looks at, [H,W] in [0,1]."""
        if not self.signed[image]:
            own: Array = self.heatmap[image]
            return own
        positive: Array = np.maximum(drawn(self.heatmap[image], self.raw[image], signed=True, at_pixels=False), 0)
        positive /= positive.max() or 1
        return positive

    def _on_photo(self, image: int, values: Array, outside: float = 0.0) -> Array:
        """Values [H,W] of one image on its photo; a copy if the photo is not known."""
        size, spec = self.sizes[image], self.network.input
        if size is None:
            return values.copy()
        whole = on_photo(values, *size, spec)
        if outside != 0:
            unseen = np.ones(size, bool)
            unseen[frame(*size, spec).slices] = False
            whole[..., unseen] = outside
        return whole

    def save(self, folder: str | os.PathLike[str], thumbnails: bool = True) -> None:
        """Write everything to a new folder, whole or not at all; `load` gives it back, bit by bit.

        Args:
            folder: It must not exist; its parent must. It gets `header.json` and `arrays.npz`; NumPy reads the latter, too.
            thumbnails: False leaves the small copies of the photos out, if those must not be passed on.

        Raises:
            SavedExplanationError: The folder exists or can't be written, or an array holds no numbers.
        """
        from . import explanation_files as files  # late: few programs save one

        small = {f"thumbnail-{i}": one for i, one in enumerate(self.thumbnails) if thumbnails and one is not None}
        header = files.Header(
            format=files.FORMAT,
            method=self.method,
            options=self.options,
            seconds=self.seconds,
            constant=self.constant,
            signed=self.signed,
            at_pixels=self.at_pixels,
            outputs=tuple(self.outputs),
            sizes=self.sizes,
            thumbnails=tuple(f"thumbnail-{i}" in small for i in range(len(self.thumbnails))),
            network=self.network,
            titles=self.titles,
            diagnostics=dict(self.diagnostics),
            layers=tuple(files.SavedLayer(one.layer, one.constant) for one in self.layers),
            detections=self.detections,
            rows=self.rows,
        )
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        outputs = {f"output-{i}": output for i, output in enumerate(self.outputs.values())}
        layers = {f"layer-{i}": one.raw for i, one in enumerate(self.layers)}
        files.save(path_of(folder, "the folder", SavedExplanationError), header, arrays | outputs | small | layers)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Explanation:
        """An explanation that `save` wrote. A folder from a stranger does no harm: nothing in it is run, and its sizes are bounded.

        Raises:
            SavedExplanationError: The folder is missing, damaged, or no saved explanation.
        """
        from . import explanation_files as files

        header, arrays = files.load(path_of(folder, "the folder", SavedExplanationError))
        return cls(
            **cast(Any, {name: arrays.get(name) for name in _ARRAYS}),
            outputs={name: arrays[f"output-{i}"] for i, name in enumerate(header.outputs)},
            method=header.method,
            options=dict(header.options),
            seconds=header.seconds,
            constant=header.constant,
            signed=header.signed,
            at_pixels=header.at_pixels,
            sizes=header.sizes,
            thumbnails=tuple(arrays.get(f"thumbnail-{i}") for i in range(len(header.thumbnails))),
            network=header.network,
            titles=header.titles,
            diagnostics=header.diagnostics,
            detections=header.detections,
            rows=header.rows,
            layers=tuple(
                LayerMaps(one.layer, arrays[f"layer-{i}"], one.constant) for i, one in enumerate(header.layers)
            ),
        )

    def __repr__(self) -> str:
        """One line: method, images, what is explained, layer, network."""
        captions = [self.caption(i) for i in range(min(len(self.heatmap), SHOWN))]
        own = sum(one.layer.input is None for one in self.layers)
        layers = f"{self.options.get('combine', 'max')} of {own} layers" if own > 1 else None
        return in_a_line(self.method, len(self.heatmap), captions, self.raw.shape[1:], layers, self.network)


_ARRAYS = ("heatmap", "raw", "logits", "target", "versus", "sign", "score", "shares")
