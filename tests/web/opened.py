"""The page in a browser, as the tests see it."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # not needed where the browser's tests are skipped
    from playwright.sync_api import Browser, Page

WAIT = 60_000  # milliseconds; a busy machine compiles the runtime in seconds


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
                    """() => JSON.parse(JSON.stringify(xai.last, (_, value) =>
                         ArrayBuffer.isView(value) ? Array.from(value) : value))"""
                )
                return found
            time.sleep(0.02)
        raise AssertionError(f"no explanation: {self.page.get_by_role('alert').inner_text()!r}, {self.complaints}")

    def pixels(self, canvas: str = "canvas") -> NDArray[np.uint8]:
        """What a canvas shows, RGB."""
        url = self.page.evaluate("(id) => document.getElementById(id).toDataURL('image/png')", canvas)
        png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
        shown: NDArray[np.uint8] = np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
        return shown
