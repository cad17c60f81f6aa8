"""Targets as clients write them in JSON -> as `Explainer.explain` takes them. No text of a client's names a file here.

| JSON | what is explained |
|-|-|
| nothing, null, -1 | the predicted class |
| 281, "tabby cat", "cat vs dog", "not cat", "cat vs top3", "road@120,40,60,60", "#3" | as on the command line |
| [0.5, 0, -0.5, ...] | the weight of each class |
| {"class": "road", "where": [x, y, width, height] or [[x, y], ...] or "all" or "predicted" or {"b64": mask.png}} | a region |
| "box 0", "car#1", "@120,40,60,60", "car@120,40,60,60", "car:left", "box 0 vs box 1" | of a detector: as on the command line |
| {"class": "car", "number": 1, "near": [x, y, width, height], "part": "left"} | of a detector: the same, or some of these |
| {"like": {"b64": other.jpg} or [numbers]} | how alike the image is to another, or to an embedding |
| {"not": target}, {"target": target, "versus": target} | the other direction, a contrast |
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import images
from ..errors import TargetError
from ..explainer import Explainer
from ..images.read import InMemory
from ..targets import Box, Contrast, Like, Not, Region, read
from ..targets.one_class import written_class
from ..targets.places import as_mask
from .limits import Limits
from .nested import as_array
from .pictures import decoded, from_base64

_LONGEST = 4096  # characters of a text in a target
_CUTS = 16  # " vs " in it
_BOX = {"class", "number", "near", "part"}
_KEYS = ({"class"}, {"class", "where"}, {"where"}, {"like"}, {"not"}, {"target", "versus"})


class Targets:
    """What clients may ask about one network.

    Args:
        explainer: Explains it.
        limits: The server's.
    """

    def __init__(self, explainer: Explainer, limits: Limits) -> None:
        self._explainer, self._limits = explainer, limits
        self._space = dataclasses.replace(explainer.space, files=False)

    def read(self, written: Any) -> tuple[Any, int]:
        """A target of one image, and how many it stands for: "top3" for three.

        Raises:
            TargetError: It is none, or names a file.
        """
        if isinstance(written, str) and written[:1] in ("{", "[") and not self._space.is_label(written):
            try:
                written = json.loads(written)  # V2's parameters hold no objects
            except (ValueError, RecursionError):
                raise TargetError(f"target {written[:60]!r}: is no JSON, and no label") from None
        value = self._value(written)
        return value, len(read([value], 1, self._space))

    def _value(self, written: Any, depth: int = 0) -> Any:
        if isinstance(written, Mapping) and depth < 4:
            return self._from_object(written, depth + 1)
        if isinstance(written, list):
            return _floats(written, "a target's list holds numbers, one for each class")
        if isinstance(written, str):
            _check_text(written)
            return written_class(written, self._space)
        if written is None or (isinstance(written, int) and not isinstance(written, bool)):
            return written
        raise TargetError(f"a target is a class, a text, weights or an object, not {json.dumps(written)[:60]}")

    def _from_object(self, written: Mapping[str, Any], depth: int) -> Any:
        box = set(written) <= _BOX and set(written) - {"class"}
        if not box and set(written) not in _KEYS:
            forms = '{"class", "where"}, {"class", "number", "near", "part"}, {"like"}, {"not"} or {"target", "versus"}'
            held = ", ".join(repr(key[:40]) for key in list(written)[:5])
            raise TargetError(f"a target as an object is {forms}, not one of {held or 'nothing'}")
        if "like" in written:
            return Like(self._reference(written["like"]))
        if "not" in written:
            return Not(self._value(written["not"], depth))
        if "versus" in written:
            return Contrast(self._value(written["target"], depth), self._value(written["versus"], depth))
        index = written.get("class")
        if not (index is None or (isinstance(index, int | str) and not isinstance(index, bool))):
            of = "detection" if box else "region"
            raise TargetError(f"the class of a {of} is an index or a label, not {json.dumps(index)[:60]}")
        if isinstance(index, str):
            _check_text(index)
        if box:
            near = written.get("near")
            needed = "near is a list of numbers: x, y, width, height"
            given = _floats(near, needed).tolist() if isinstance(near, list) else ()
            corner = None if near is None else tuple(given)
            return Box(index, written.get("number", 0), corner, written.get("part", "score"))
        return Region(index, self._place(written["where"])) if "where" in written else index

    def _place(self, where: Any) -> Any:
        if isinstance(where, Mapping):
            file = InMemory(_bytes(where, "the mask"), "the mask")
            return as_mask(images.read_image(file, self._limits.pixels), "the mask")
        if isinstance(where, list) and where:
            numbers = _floats(where, "a region's list holds numbers: x, y, width, height, or corners", rank=None)
            return numbers.tolist()
        if isinstance(where, str):
            _check_text(where)
            return where
        raise TargetError('a region is [x, y, width, height], corners, "all", "predicted" or {"b64": a mask as PNG}')

    def _reference(self, like: Any) -> Any:
        """The embedding of a reference, computed once; of a network without embeddings the reference itself."""
        if isinstance(like, list):
            return _floats(like, "a reference's list holds numbers, those of an embedding")
        if not isinstance(like, Mapping):
            raise TargetError('a reference is {"b64": an image file} or a list of numbers')
        embed = self._space.embed
        if not self._space.normalised or embed is None:
            return like  # the reading of a `Like` says what the network lacks
        return embed(
            decoded(_bytes(like, "the reference"), self._explainer.bundle.manifest.input, self._limits, "the reference")
        )


def _check_text(text: str) -> None:
    if len(text) > _LONGEST:
        raise TargetError(f"a target's text has at most {_LONGEST} characters, not {len(text)}: {text[:40]!r}...")
    if (cuts := text.casefold().count(" vs ")) > _CUTS:  # each is tried as the place between two labels
        raise TargetError(f"a target's text has at most {_CUTS} times ' vs ', not {cuts}: {text[:40]!r}...")


def _bytes(written: Mapping[str, Any], name: str) -> bytes:
    if set(written) != {"b64"} or not isinstance(written["b64"], str):
        raise TargetError(f'{name} is {{"b64": the file as base64}}')
    return from_base64(written["b64"], name)


def _floats(written: list[Any], needed: str, rank: int | None = 1) -> np.ndarray[Any, Any]:
    numbers = as_array(written)
    if numbers is None or numbers.dtype.kind == "b" or numbers.size == 0 or rank not in (None, numbers.ndim):
        raise TargetError(needed)
    return numbers.astype(np.float64)
