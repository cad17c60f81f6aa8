"""COCO json: {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"image_id", "category_id", "bbox"}],
"categories": [{"id", "name"}]}.

bbox is [x, y, w, h] in pixels from the image's upper left corner: the box [x, x + w] x [y, y + h]. Without "categories" the
label is the category_id. Crowd regions (iscrowd 1) and boxes without area are skipped and counted; COCO itself has a few
such boxes. Polygons and masks (segmentation) are not read. An image without annotations has no object in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ...errors import TruthError
from .annotations import Annotations, Entry, Format, Label, Record, Source, formats
from .reading import counted, number, quoted

_DEEP = "brackets nest too deeply"
_CROWD, _EMPTY = "crowd regions (iscrowd) skipped", "boxes without area skipped"


@formats.register("COCO json")
class Coco(Format):
    """One file for a whole set of images."""

    expects = 'a file {"images": [...], "annotations": [...], "categories": [...]}'

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return source.text is not None and source.text[:1000].lstrip().startswith(("{", "["))

    @classmethod
    def read(cls, source: Source) -> Annotations:
        path = source.path
        document = _decode(source.text or "", path)
        images = {}
        for where, item in _items(document, "images", path):
            key = _identity(item, "id", where)
            if key in images:
                raise TruthError(f"{where}: the id {quoted(key)} occurs twice; give each image its own")
            images[key] = (where, item)
        names = _categories(document, path)
        entries: dict[int | str, list[Entry]] = {key: [] for key in images}  # also for images without annotations
        seen = set()
        skipped: Counter[str] = Counter()
        for where, item in _items(document, "annotations", path):
            if "id" in item:
                key = _identity(item, "id", where)
                if key in seen:
                    raise TruthError(f"{where}: the id {quoted(key)} occurs twice; give each annotation its own")
                seen.add(key)
            image = _identity(item, "image_id", where)
            if image not in images:
                raise TruthError(f"{where}: image_id {quoted(image)} is not the id of any image; correct or remove it")
            if item.get("iscrowd", 0) not in (0, False):
                skipped[_CROWD] += 1
                continue
            left, top, width, height = _bbox(item, where)
            if width == 0 or height == 0:
                skipped[_EMPTY] += 1
                continue
            label = _label(item, names, where)
            entries[image].append(Entry(left, top, left + width, top + height, label, where))
        records = tuple(
            Record(_name(item, where), tuple(entries[key]), where, _size(item, where))
            for key, (where, item) in images.items()
        )
        return Annotations(records, problems=counted([(skipped[what], what) for what in (_CROWD, _EMPTY)], path))


def _decode(text: str, path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise TruthError(f"{path}: holds {constant}, which is not valid JSON; correct it")

    try:
        document = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise TruthError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); save it again") from None
    except RecursionError:
        raise TruthError(f"{path}: not COCO json: {_DEEP}") from None
    except ValueError:  # an integer with more digits than Python converts (4300)
        raise TruthError(f"{path}: not valid JSON (a number is too long); correct it") from None
    if isinstance(document, list):
        raise TruthError(f'{path}: is a list, like COCO\'s detection results; give the file with "images"')
    return dict(document)


def _items(document: dict[str, Any], key: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a list, each with its place in the file for messages."""
    items = document.get(key)
    if not isinstance(items, list):
        raise TruthError(f"{path}: not COCO json: {key!r} is missing or not a list")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise TruthError(f"{path}, {key}[{index}]: expected an object, got {quoted(item)}")
        own = f" (id {quoted(item['id'])})" if "id" in item else ""
        yield f"{path}, {key}[{index}]{own}", item


def _identity(item: dict[str, Any], key: str, where: str) -> int | str:
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TruthError(f"{where}: {key!r} is missing, or neither an integer nor text: {quoted(value)}")
    return value


def _categories(document: dict[str, Any], path: Path) -> dict[int | str, str] | None:
    if "categories" not in document:
        return None
    names: dict[int | str, str] = {}
    for where, item in _items(document, "categories", path):
        key, name = _identity(item, "id", where), item.get("name")
        if key in names:
            raise TruthError(f"{where}: the id {quoted(key)} occurs twice; give each category its own")
        if not isinstance(name, str):
            raise TruthError(f"{where}: 'name' is missing, or not text: {quoted(name)}")
        names[key] = name
    return names


def _label(item: dict[str, Any], names: dict[int | str, str] | None, where: str) -> Label:
    if names is None:
        return _identity(item, "category_id", where) if "category_id" in item else None
    key = _identity(item, "category_id", where)
    if key not in names:
        raise TruthError(
            f"{where}: category_id {quoted(key)} is not the id of any category; correct it, or add the category"
        )
    return names[key]


def _bbox(item: dict[str, Any], where: str) -> list[float]:
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise TruthError(f"{where}: 'bbox' is missing, or not [x, y, width, height]")
    if text := next((value for value in box if isinstance(value, str)), None):
        raise TruthError(f"{where}: {quoted(text)} is not a number; correct it")
    numbers = [number(value, where) for value in box]
    if min(numbers[2:]) < 0:
        raise TruthError(f"{where}: bbox has a negative width or height; correct it to [x, y, width, height]")
    return numbers


def _name(item: dict[str, Any], where: str) -> str:
    name = item.get("file_name")
    if not isinstance(name, str):
        raise TruthError(f"{where}: 'file_name' is missing, or not text: {quoted(name)}")
    return name


def _size(item: dict[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width), or None if the file does not say."""
    sides = [item.get("height"), item.get("width")]
    if sides == [None, None]:
        return None
    height, width = (number(side, where) for side in sides)
    if height < 1 or width < 1 or height % 1 or width % 1:
        raise TruthError(f"{where}: an image of {width:g} x {height:g} pixels; correct 'width' and 'height'")
    return int(height), int(width)
