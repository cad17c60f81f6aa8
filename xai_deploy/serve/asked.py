"""What a request asks for, whatever protocol it came in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from ..errors import OptionError, UnknownMethodError
from ..foundation.options import options_of, unknown
from ..methods import Method, create, methods
from .limits import Limits

Form = Literal["xai", "vertex"]

_WHICH = ("image", "layer")  # numbers that say which one, not how much
_SEGMENTS = re.compile(r"(grid|slic):[1-9][0-9]{0,2}")


@dataclass(frozen=True, eq=False)
class Asked:
    """What a request asks for.

    Attributes:
        images: The images: uint8 pixels, or floats as the network takes them.
        method: The method; None: a prediction only.
        options: Its options.
        targets: One for each image, as `Explainer.explain` takes it.
        inputs: What the network takes beside the images; None if it takes nothing.
        written: The target of each image as the client wrote it.
        sources: Each image as it was sent, for records: the bytes of a file, or numbers.
        timeout: Seconds that the request may take.
        maps: Bytes that the maps of its answer take; see `bytes_of_maps`.
    """

    images: Sequence[NDArray[Any]]
    method: str | None
    options: Mapping[str, Any]
    targets: Sequence[Any]
    written: Sequence[Any]
    inputs: Mapping[str, Any] | None
    sources: Sequence[bytes | NDArray[Any]]
    timeout: float
    maps: int = 0

    @property
    def held(self) -> int:
        """Bytes in memory while it waits and runs."""
        return (
            sum(image.nbytes for image in self.images)
            + sum(len(one) for one in self.sources if isinstance(one, bytes))
            + self.maps
        )


@dataclass(frozen=True)
class Shown:
    """How an explanation is sent.

    Attributes:
        map: "raw", the method's own values, or "heatmap", [H,W] in [0,1] at the input's size.
        encoding: "list" of floats, "npy" (base64), "png" (base64: the map over the picture), or "none".
        form: "xai", or "vertex": as Vertex Explainable AI answers.
    """

    map: Literal["raw", "heatmap"] = "raw"
    encoding: Literal["list", "npy", "png", "none"] = "list"
    form: Form = "xai"


def checked_method(
    name: object, options: Mapping[str, Any], served: Mapping[str, Mapping[str, Any]], limits: Limits
) -> Method:
    """A method that a stranger asks for.

    Args:
        name: Its name.
        options: The stranger's options; those that the server fixes hold for the others.
        served: The methods that may be named, with the options that the server fixes.
        limits: The server's.

    Raises:
        UnknownMethodError: It is not served.
        OptionError: It has no such option; or the option names a file, or asks for more than the server takes on.
    """
    if not isinstance(name, str) or name not in served:
        known = unknown("method", str(name), served)
        asleep = isinstance(name, str) and name in methods
        raise UnknownMethodError(f"{known}; start xai-serve with -m {name} to serve it" if asleep else known)
    for key, value in options.items():
        if not isinstance(value, str | int | float | bool) and value is not None:
            raise OptionError(f"{name}: option {key!r} is a number, a text, true, false or null")
    method, ours = create(name, {**served[name], **options}), options_of(create(name, served[name]))
    for key, value in options_of(method).items():
        own = ours.get(key)
        if value == own or isinstance(value, bool) or key in _WHICH:
            continue
        if key == "segments" and not _SEGMENTS.fullmatch(str(value)):
            raise OptionError(f"{name}: segments are grid:N or slic:N on a server, not {value!r}")
        if isinstance(value, int) and own is None:
            raise OptionError(f"{name}: nobody knows what {key} costs; start xai-serve with -m {name}:{key}={value}")
        most = max(limits.size_of_options, 4 * own if isinstance(own, int | float) else 0)
        if isinstance(value, int | float) and not -most <= value <= most:
            raise OptionError(f"{name}: {key} is at most {most} on this server, not {value}")
    return method


def times(method: Method, known: Method) -> float:
    """How many times as long a method may take as with other options: the product of the integer options that are larger.

    With half the stride, in both directions, there are four times as many places.
    """
    factor, before = 1.0, options_of(known)
    for key, value in options_of(method).items():
        other = before.get(key)
        if key != "seed" and type(value) is int and type(other) is int and value > 0 and other > 0:
            factor *= max(1.0, (other / value) ** 2 if key == "stride" else value / other)
    return factor


def bytes_of_maps(counts: Sequence[int], size: Sequence[int], shown: Shown) -> int:
    """What the maps of an explanation take: each is as large as the input, in float32.

    Args:
        counts: How many targets each image's target stands for: "top3" for three.
        size: The input's size.
        shown: How they are sent; as a list, a number takes about 12 characters more.
    """
    as_text = 12 if shown.map == "heatmap" and shown.encoding == "list" else 0
    return sum(counts) * math.prod(size) * (4 + as_text)


@dataclass(frozen=True, eq=False)
class Whole:
    """A request, read: what it asks for, and how the answer is sent.

    Attributes:
        asked: What it asks for.
        shown: How explanations are sent.
        extra: What the protocol has to send back with the answer.
    """

    asked: Asked
    shown: Shown = Shown()
    extra: Mapping[str, Any] = field(default_factory=dict)
