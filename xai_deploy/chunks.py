"""The results of one chunk of images, and how those of several chunks and layers become one explanation's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .at_layer import at_layer, of_image
from .constant_here import why_constant_here
from .detections import Detection
from .errors import NonFiniteOutputError
from .format.bundle import Input, Manifest, TargetLayer
from .forward import ForwardPass
from .in_regions import Scored
from .layer_maps import LayerMaps, of_one_image
from .methods import Method
from .methods.across import Combine, image_of, levels_of
from .preprocess import Pixels
from .targets import Seed

Array = NDArray[np.float32]
Reasons = tuple[str | None, ...]


@dataclass(frozen=True)
class Part:
    """The results of one chunk of n images."""

    scored: list[Scored]  # per target
    outputs: dict[str, NDArray[Any]]
    maps: list[list[Array]]  # per method and layer [T,n,h,w] for T targets
    seconds: list[float]  # per method
    constant: list[list[list[Reasons]]]  # per method, layer and target
    photos: list[tuple[tuple[int, int] | None, Pixels | None]]  # size and thumbnail
    diagnostics: list[dict[str, NDArray[np.floating]]]  # per method, name -> [T,n]
    detections: Sequence[Sequence[Detection]] = ()  # per image, of a detector


@dataclass(frozen=True, eq=False)
class Ran:
    """A method's maps at one layer, [T,n,h,w], and the forward pass that gave them."""

    forward: ForwardPass
    method: Method
    raw: Array

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Whether a map is not the same everywhere, [T,n]."""
        return np.asarray(np.ptp(self.raw, axis=tuple(range(2, self.raw.ndim))) != 0)

    def why_constant(self, seeds: Sequence[Seed], elsewhere: NDArray[np.bool_]) -> list[Reasons]:
        """Per target and image, why a map is the same everywhere; None if it is not.

        Args:
            seeds: The targets'.
            elsewhere: [T,n], whether the method's map of any layer varies.
        """
        by_position, roles = self.method.by_position, self.method.roles
        return [
            tuple(
                why_constant_here(self.forward, one, i, seed, by_position, roles, bool(elsewhere[t, i]))
                for i, one in enumerate(self.raw[t])
            )
            for t, seed in enumerate(seeds)
        ]


def why_constant(ran: Sequence[Ran], seeds: Sequence[Seed]) -> list[list[Reasons]]:
    """Per layer, target and image, why a method's map is the same everywhere."""
    elsewhere = np.any([one.varies for one in ran], axis=0)
    return [one.why_constant(seeds, elsewhere) for one in ran]


def run_method(forward: ForwardPass, method: Method, seeds: Sequence[Seed], manifest: Manifest) -> list[Ran]:
    """A method's maps at each of its layers. If they are several, what it reports has the layer's name: "passes@layer3".

    Raises:
        NonFiniteOutputError: A map holds NaN or infinity.
    """
    ran, reported = [], {}
    levels, image = levels_of(method, manifest), None if method.needs_layer else image_of(method, manifest)
    for level in levels:
        own = at_layer(forward, level) if image is None else of_image(forward, image)
        own.reported = {}
        raw = method.maps(own, seeds)
        where = f"@{forward.opened.levels[level].manifest.target.name}" if len(levels) > 1 else ""
        reported.update({name + where: values for name, values in own.reported.items()})
        if not np.isfinite(raw).all():
            raise NonFiniteOutputError("the map holds NaN or infinity")
        ran.append(Ran(own, method, raw))
    forward.reported = reported
    return ran


@dataclass(frozen=True, eq=False)
class Maps:
    """One method's maps for one target on all images, as in `Explanation`; which image they show, and the first layer."""

    raw: Array
    constant: tuple[str | None, ...]
    layers: tuple[LayerMaps, ...]
    input: Input
    layer: TargetLayer


def joined_maps(
    parts: Sequence[Part], m: int, t: int, method: Method, signed: Sequence[bool], manifest: Manifest
) -> Maps:
    """The maps of method `m` for target `t` from all chunks, put together if there are several layers of the explained image.

    Args:
        parts: The chunks.
        m, t: The numbers of method and target.
        method: The method.
        signed: Per image, whether 0 is neutral in its maps.
        manifest: The bundle's manifest.
    """
    layers = [manifest.layers[level] for level in levels_of(method, manifest)]
    name = image_of(method, manifest)
    spec = manifest.image(layers[0].input if name is None else name)
    maps = tuple(
        LayerMaps(
            layer,
            joined([part.maps[m][k][t] for part in parts]),
            tuple(reason for part in parts for reason in part.constant[m][k][t]),
        )
        for k, layer in enumerate(layers)
    )
    if len(maps) == 1:
        return Maps(maps[0].raw, maps[0].constant, (), spec, layers[0])
    combine: Combine = getattr(method, "combine", "max")
    raw, constant = of_one_image(maps, signed, combine, *spec.size, name=name)
    if name is not None:  # the image that this explanation explains
        maps = tuple(replace(one, layer=replace(one.layer, input=None)) for one in maps)
    return Maps(raw, constant, maps, spec, layers[0])


@contextlib.contextmanager
def naming(method: str) -> Iterator[None]:
    """Name the method in an error about NaN or infinity."""
    try:
        yield
    except NonFiniteOutputError as error:
        raise NonFiniteOutputError(f"{method}: {error}") from None


def joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
