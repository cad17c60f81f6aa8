"""The page in a browser, as the tests see it."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from xai_deploy import resample

if TYPE_CHECKING:  # not needed where the browser's tests are skipped
    from playwright.sync_api import Browser, Page

ANCHORS = [
    [48, 18, 59],
    [70, 97, 219],
    [40, 165, 250],
    [36, 232, 165],
    [164, 252, 60],
    [238, 207, 58],
    [240, 100, 20],
    [122, 4, 3],
]
PALETTE = np.rint(
    [[np.interp(i / 255, np.linspace(0, 1, 8), c) for c in np.array(ANCHORS).T] for i in range(256)]
).astype(np.uint8)
WAIT = 60_000  # milliseconds; a busy machine compiles the runtime in seconds


def mixture(image: NDArray[np.uint8], heat: NDArray[np.float32], opacity: float) -> NDArray[np.uint8]:
    """The page's picture: a heatmap in its colours over the part of an image [h,w,3] that the network saw, mixed evenly."""
    steps = np.clip(resample.resize(heat, *image.shape[:2]), 0, 1) * 255
    mixed: NDArray[np.uint8] = np.rint((1 - opacity) * image + opacity * PALETTE[np.rint(steps).astype(int)]).astype(
        np.uint8
    )
    return mixed


class Opened:
    """A page at work: what it asked for over the network, and what it complained of."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(permissions=["camera"], **options)
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)

    def ready(self) -> Page:
        """The page, once it takes pictures."""
        from playwright.sync_api import expect

        expect(self.page.get_by_role("status")).to_have_text("Ready. Choose a picture.")
        return self.page

    def last(self, after: int = 0) -> dict[str, Any]:
        """The explanation after the one of this number; polled, since the page's own rules forbid playwright's waiting in it."""
        until = time.monotonic() + WAIT / 1000
        while time.monotonic() < until:
            busy = self.page.get_by_role("main").get_attribute("aria-busy")
            count = self.page.evaluate("xai.last?.count ?? 0")
            if count > after and busy == "false":
                found: dict[str, Any] = self.page.evaluate(
                    """() => ({...xai.last, likelihoods: Array.from(xai.last.likelihoods),
                       map: {...xai.last.map, data: Array.from(xai.last.map.data)},
                       heatmap: {...xai.last.heatmap, data: Array.from(xai.last.heatmap.data)}})"""
                )
                return found
            time.sleep(0.02)
        raise AssertionError(f"no explanation: {self.page.get_by_role('alert').inner_text()!r}, {self.complaints}")

    def pixels(self) -> NDArray[np.uint8]:
        """What the canvas shows, RGB."""
        url = self.page.evaluate("document.getElementById('canvas').toDataURL('image/png')")
        png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
        shown: NDArray[np.uint8] = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
        return shown
