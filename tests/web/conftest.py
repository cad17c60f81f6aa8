"""A page of the reference network, a server for it, and a browser; what a machine lacks is said where tests skip."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xai_exporters import Request, export
from xai_exporters.config import load_config
from xai_exporters.deliver.web import runtime_files, write_site
from xai_exporters.errors import RequestError

from xai_deploy.format.bundle import Bundle

from .opened import WAIT, Opened

if TYPE_CHECKING:  # not needed where the browser's tests are skipped
    from playwright.sync_api import Browser

METHODS = ("grad-cam", "reciprocam", "relevance-cam", "gradient")
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}

PAGE = Path(__file__).resolve().parents[2] / "exporters" / "xai_exporters" / "deliver" / "web" / "page"

Site = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="session")
def runtime() -> dict[str, bytes]:
    """onnxruntime-web: from XAI_ORT_WEB (a package file or folder), the user's cache or the npm registry."""
    given = os.environ.get("XAI_ORT_WEB")
    try:
        return runtime_files(Path(given) if given else None)
    except RequestError as error:
        if given or "can't be downloaded" not in str(error):  # a wrong file or a wrong checksum is a failure
            raise
        pytest.skip(f"no onnxruntime-web: {error}")


@pytest.fixture(scope="session")
def digits(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Exports the reference network with fused graphs, each form once."""
    folder = tmp_path_factory.mktemp("digits")
    config = load_config(root / "models" / "clutter_digits" / "export.toml")

    @functools.cache
    def bundle(name: str, methods: tuple[str, ...] = METHODS, **options: Any) -> Bundle:
        request = Request(
            source=root / "models" / "clutter_digits" / "clutter_digits.onnx",
            split="stage3",
            output_path=folder / f"{name}.xai",
            fuse=methods,
            input_gradient="gradient" in methods,  # the engine's own way to it
            **{
                **config,
                **options,
                "preprocess_fields": config["preprocess_fields"] | dict(options.get("preprocess_fields", ())),
            },
        )
        return Bundle.open(export(request).path)

    return bundle


@pytest.fixture(scope="session")
def site(digits: Callable[..., Bundle], runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A page of the reference network: (its folder, its bundle)."""
    folder = tmp_path_factory.mktemp("sites")

    @functools.cache
    def make(name: str = "plain", **options: Any) -> tuple[Path, Path]:
        bundle = digits(name, **options)
        write_site(folder / name, bundle, runtime)
        return folder / name, bundle.path

    return make


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine: (its address, the paths asked for so far)."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            super().end_headers()

        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Any]:
    """Runs an expression over the page's modules with `input` in hand: JSON in, JSON out."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node, which runs the page's modules outside a browser, is not installed")
    folder = tmp_path_factory.mktemp("node")
    for file in PAGE.glob("*.js"):
        shutil.copy(file, folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def run(script: str, data: Any) -> Any:
        lines = ['import { readFileSync } from "node:fs";']
        for module in ("classes", "colors", "detections", "heatmap", "places", "preprocess", "resample", "save"):
            lines.append(f'import * as {module} from "./{module}.js";')
        lines += ['const input = JSON.parse(readFileSync(0, "utf8"));', f"console.log(JSON.stringify({script}));"]
        (folder / "run.js").write_text("\n".join(lines))
        done = subprocess.run(
            [program, "run.js"], cwd=folder, input=json.dumps(data), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium: that of XAI_CHROMIUM, of the PATH, or playwright's own."""
    names = [os.environ.get("XAI_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    # A container has no sandbox for root; a camera that shows a test picture
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium on the PATH (or in XAI_CHROMIUM)")
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, site: Site) -> Iterator[Opened]:
    """The plain page of the reference network. Nothing may leave this machine, nor the page complain."""
    folder, _ = site()
    with served(folder) as (address, _):
        opened = Opened(browser, address)
        yield opened
        opened.context.close()
        assert [url for url in opened.requests if not url.startswith((address, "blob:", "data:"))] == []
        assert opened.complaints == []


@pytest.fixture(scope="session")
def sample(root: Path) -> Path:
    return root / "models" / "clutter_digits" / "samples" / "03_three.png"


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """A JPEG of a few hundred pixels whose EXIF says that it lies on its side."""
    from PIL import Image

    path = tmp_path_factory.mktemp("photograph") / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sample) as image:
        enlarged = image.convert("RGB").resize((301, 257), Image.Resampling.BICUBIC)
    enlarged.save(path, quality=90, exif=exif)
    return path
