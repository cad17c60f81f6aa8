"""Reports as a browser would read them: tags, texts, pictures; and what holds for every one of them."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>alert(1)<!-- & ' \" {{ 7*7 }} $\\frac$ 猫"
FOREIGN = {
    "script",
    "link",
    "iframe",
    "object",
    "embed",
    "base",
    "form",
    "audio",
    "video",
    "image",
    "use",
    "foreignobject",
}


class Page(HTMLParser):
    """Tags with their attributes, and the text of each element that holds text; fails where the nesting is wrong."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source = data.decode()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attributes}) == len(attributes)
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attributes}) == len(attributes)
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            tooltip = self._open[-1] == "title" and "svg" in self._open
            self.texts.append(("tooltip" if tooltip else self._open[-1], data.strip()))
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for inside, text in self.texts if inside != "style")


def check_self_contained(page: Page, links: frozenset[str] = frozenset()) -> None:
    """No scripts, nothing loaded, both colour schemes, room on a phone; links lead to the files `links` in the same folder only."""
    assert not {name for name, _ in page.tags} & FOREIGN
    hrefs = set()
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key == "href" and tag == "a":
                hrefs.add(value)
            elif key in ("src", "href", "xlink:href", "srcset", "data", "action", "background", "poster"):
                assert (value or "").startswith("data:image/jpeg;base64,"), (tag, key, value)
    assert hrefs <= links
    style = "".join(page.of("style")) + "".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert not re.search(r"@import|url\(|expression", style)
    assert "prefers-color-scheme: dark" in style
    assert "color-scheme: light dark" in style
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.attributes("html") == [{"lang": "en"}]
    assert page.source.startswith("<!doctype html>\n")
    assert len(page.of("title")) == len(page.attributes("h1")) == 1
    assert all(attributes.get("alt") for attributes in page.attributes("img"))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")
    policy = next(
        a["content"] or "" for a in page.attributes("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def picture(url: str | None) -> np.ndarray[Any, Any]:
    """A picture of a page as RGB."""
    assert url is not None
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR))[
        ..., ::-1
    ]


def alike(shown: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    """One picture but for JPEG, from which noise suffers."""
    if shown.shape != wanted.shape:
        return False
    a, b = ((pixels @ [0.299, 0.587, 0.114]).ravel() for pixels in (shown, wanted))
    return float(np.corrcoef(a, b)[0, 1]) > 0.9


def body(path: Path) -> bytes:
    """A report without its footer, which has the date and the command line."""
    page, _, _ = path.read_bytes().partition(b"<footer>")
    return page
