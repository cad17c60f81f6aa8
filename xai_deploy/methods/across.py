"""Methods in networks that are cut at several layers: two more options, and the layers at which a method runs.

Such a method has an option `layer`, which names one layer, and `combine`, which says how the maps of all layers are put together.
Its formula knows of neither: it is asked for a map at each layer. Methods that need no layer have no such options.

In networks that take several images every method has one more: `image` names the image whose places the map shows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_args

from ..errors import NotApplicableError, OptionError
from ..format.bundle import Manifest

Combine = Literal["max", "mean", "sum"]
EACH = "each"
"""The value of `combine` that stands for a map of each layer by itself, where methods are chosen."""

_PLAIN = re.compile(r"[A-Za-z_][\w.\-]*")  # fits METHOD:layer=NAME and file names


@lru_cache
def with_layers(cls: type[Any]) -> type[Any]:
    """The class of a method with the options `combine` and `layer`."""
    fields = [
        ("combine", Combine, dataclasses.field(default="max")),
        ("layer", str | int | None, dataclasses.field(default=None)),
    ]
    made: type[Any] = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=True)
    made.__doc__, made.__module__ = cls.__doc__, cls.__module__
    return made


@lru_cache
def with_image(cls: type[Any]) -> type[Any]:
    """The class of a method with the option `image`."""
    fields = [("image", str | int | None, dataclasses.field(default=None))]
    made: type[Any] = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=True)
    made.__doc__, made.__module__ = cls.__doc__, cls.__module__
    return made


def class_for(cls: type[Any], name: str, options: Mapping[str, object]) -> type[Any]:
    """The class of a method that takes these options.

    Raises:
        OptionError: They name a layer, and a way to put several together.
    """
    given = {"combine", "layer"} & options.keys()
    if "image" in options:
        return with_image(class_for(cls, name, {key: value for key, value in options.items() if key != "image"}))  # type: ignore[arg-type]
    if not given or not cls.needs_layer:
        return cls
    if len(given) == 2 and options["layer"] not in (None, "none"):
        raise OptionError(f"{name}: layer={options['layer']} gives one map; leave combine out")
    if options.get("combine") not in (None, *get_args(Combine)):
        raise OptionError(f"{name}: combine is {', '.join(get_args(Combine))}, not {options['combine']!r}")
    return with_layers(cls)  # type: ignore[arg-type]


def without_layers(options: Mapping[str, object]) -> dict[str, object]:
    """The options but those about layers and images."""
    return {key: value for key, value in options.items() if key not in ("combine", "layer", "image")}


def image_of(method: Any, manifest: Manifest) -> str | None:
    """The further image that a method's option `image` names; None: the image that is explained.

    Raises:
        OptionError: The network takes no such image.
    """
    wanted = getattr(method, "image", None)
    if wanted is None:
        return None
    names = manifest.further.order or (manifest.input.name,)
    number = int(wanted) if str(wanted).isdecimal() and str(wanted) not in names else 0
    if 1 <= number <= len(names):
        wanted = names[number - 1]
    if str(wanted) not in names:
        raise OptionError(f"no image {wanted!r}: the network takes {', '.join(names)} (or their numbers, from 1)")
    return None if wanted == manifest.input.name else str(wanted)


def levels_of(method: Any, manifest: Manifest) -> tuple[int, ...]:
    """The numbers of the layers at which a method runs: the one that its option names, or all. (0,) if it needs no layer.

    Raises:
        OptionError: The bundle has no such layer, or only one, whose map can't be combined.
    """
    image = image_of(method, manifest)
    if not method.needs_layer:
        return (0,)
    names, wanted = [layer.name for layer in manifest.layers], getattr(method, "layer", None)
    if hasattr(method, "image"):
        return _showing(image, wanted, manifest)
    if wanted is None:
        if hasattr(method, "combine") and len(names) == 1:
            raise OptionError(f"combine puts the maps of several layers together, and this bundle has one, {names[0]}")
        return tuple(range(len(names)))
    if isinstance(wanted, int) and 1 <= wanted <= len(names):
        return (wanted - 1,)
    if str(wanted) in names:
        return (names.index(str(wanted)),)
    raise OptionError(f"no layer {wanted!r}: the bundle has {', '.join(names)} (or their numbers, from 1)")


def shown(method: Any, manifest: Manifest) -> str | None:
    """The further image whose places a method's map shows; None: the image that is explained."""
    return image_of(method, manifest) or manifest.layers[levels_of(method, manifest)[0]].input


def _showing(image: str | None, layer: str | int | None, manifest: Manifest) -> tuple[int, ...]:
    """The numbers of the layers that show an image.

    Raises:
        OptionError: A layer is named, too.
        NotApplicableError: There is none.
    """
    if layer is not None:
        raise OptionError(f"layer={layer} says which image the map shows; leave image out")
    levels = tuple(number for number, one in enumerate(manifest.layers) if one.input == image)
    if not levels:
        shown = ", ".join(dict.fromkeys(repr(one.input or manifest.input.name) for one in manifest.layers))
        raise NotApplicableError(
            f"no layer of this bundle shows the image {image!r}; its layers show {shown}. Export the network again with a layer of "
            "each branch (--split A,B)"
        )
    return levels


def spelled(manifest: Manifest, level: int) -> str | int:
    """A layer as the option `layer` takes it everywhere: its name if that is plain, else its number from 1."""
    name = manifest.layers[level].name
    return name if _PLAIN.fullmatch(name) else level + 1


def seen_by(method: Any, manifest: Manifest) -> list[tuple[str, Manifest]]:
    """What each layer at which a method runs sees of a bundle, and " at LAYER" if there are several; or what its image sees."""
    levels, image = levels_of(method, manifest), image_of(method, manifest)
    if image is not None and not method.needs_layer:
        return [(f" of {image}", manifest.explaining(image))]
    several = len(manifest.layers) > 1
    return [(f" at {manifest.layers[i].name}" if several else "", manifest.at(i)) for i in levels]


def at_each(name: str, method: Any, options: Mapping[str, object], manifest: Manifest) -> list[Mapping[str, object]]:
    """The options that ask for a method's map at each layer at which the bundle has its graphs.

    Raises:
        NotApplicableError: There is no such layer.
    """
    rest, image = without_layers(options), {key: value for key, value in options.items() if key == "image"}
    if not method.needs_layer or len(manifest.layers) == 1:
        return [{**rest, **image}]
    cls: Any = type(method)
    own = levels_of(with_image(cls)(**image), manifest) if image else range(len(manifest.layers))
    fitting = [level for level in own if all(role in manifest.at(level).graphs for role in method.roles)]
    if not fitting:
        raise NotApplicableError(
            f"{name}: no layer of this bundle has the graphs that it needs ({', '.join(method.roles)})"
        )
    return [{**rest, "layer": spelled(manifest, level)} for level in fitting]
