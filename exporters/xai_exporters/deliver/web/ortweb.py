"""onnxruntime-web: the two files of it that the page needs, from the npm registry, a package file or a folder.

Wherever they come from, they are taken only if they are byte for byte those of the version that the page was tested with.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xai_deploy.foundation.whole_files import write_whole

from ...errors import RequestError

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org/"

_TIMEOUT = 60  # seconds without a byte

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Asset:
    name: str  # in the package's folder dist/
    size: int
    sha512: str


_ASSETS = (
    _Asset(
        "ort.wasm.bundle.min.mjs",
        73054,
        "d4a705f0258065eaad4dcbcb80a3ed38c5c86e459e87ef8b0c24290e14390115"
        "711c02f554d2f9aebd0e23e3314db98d200365744fc0feaf8ee2048a81232359",
    ),
    _Asset(
        "ort-wasm-simd-threaded.wasm",
        14239897,
        "1adeded62203219fcf5c484cfce5657aa5875689b490423f86cf1ca1dd1cad77"
        "15f630c6337f41db71ee42794e3a00ce0b7c78939a71220b5d83368bf6ea7730",
    ),
)


def runtime_files(source: Path | None = None, say: Callable[[str], None] = lambda step: None) -> dict[str, bytes]:
    """The runtime's files by name.

    Args:
        source: What `npm pack onnxruntime-web@VERSION` gave, or that package unpacked; None: the user's cache, else the npm
            registry (that of the environment variable NPM_CONFIG_REGISTRY, if set).
        say: Called when a download begins.

    Raises:
        RequestError: The files can't be obtained, or are not those of this version.
    """
    if source is not None:
        return _checked(_from_folder(source) if source.is_dir() else _from_package(source), str(source))
    cache = _cache()
    cached = _from_folder(cache)
    if all(_fits(asset, cached) for asset in _ASSETS):
        return cached
    say(f"downloading onnxruntime-web {VERSION} (33 MB)")
    url = _registry() + f"onnxruntime-web/-/{PACKAGE}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            files = _unpack(answer)
    except (OSError, http.client.HTTPException, tarfile.TarError, EOFError, ValueError) as error:
        raise RequestError(
            f"onnxruntime-web {VERSION} can't be downloaded from {url} ({_reason(error)}); on a machine with a network, run "
            f"`npm pack onnxruntime-web@{VERSION}`, and give {PACKAGE} with --ort-web"
        ) from None
    files = _checked(files, url)
    _keep(cache, files)
    return files


def _registry() -> str:
    given = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
    if not given.startswith(("https://", "http://")):
        raise RequestError(f"NPM_CONFIG_REGISTRY is {given!r}; a registry's address begins with https://")
    return given.rstrip("/") + "/"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xai-deploy" / f"onnxruntime-web-{VERSION}"


def _from_folder(folder: Path) -> dict[str, bytes]:
    """The assets that lie in a folder or in its dist/, unpacked or installed by npm."""
    places = [folder / place for place in (".", "dist", "package/dist", "node_modules/onnxruntime-web/dist")]
    files = {}
    for asset in _ASSETS:
        for place in places:
            try:
                with open(place / asset.name, "rb") as file:
                    files[asset.name] = file.read(asset.size + 1)  # one byte more shows a longer file
                break
            except OSError:
                continue
    return files


def _from_package(path: Path) -> dict[str, bytes]:
    try:
        with open(path, "rb") as file:
            return _unpack(file)
    except FileNotFoundError:
        raise RequestError(
            f"{path}: no such file or folder; --ort-web takes {PACKAGE} or its unpacked folder"
        ) from None
    except (OSError, tarfile.TarError, EOFError) as error:
        raise RequestError(
            f"{path}: can't be read as an npm package ({_reason(error)}); --ort-web takes {PACKAGE}"
        ) from None


def _unpack(stream: IO[bytes] | http.client.HTTPResponse) -> dict[str, bytes]:
    """The assets from a package that is read once, from front to end, and no further than needed."""
    wanted = {f"package/dist/{asset.name}": asset for asset in _ASSETS}
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=stream, mode="r|gz") as package:
        for member in package:
            asset = wanted.get(member.name)
            if asset is not None and (file := package.extractfile(member)) is not None:
                files[asset.name] = file.read(asset.size + 1)
                if len(files) == len(wanted):
                    break
    return files


def _fits(asset: _Asset, files: dict[str, bytes]) -> bool:
    data = files.get(asset.name)
    return data is not None and hashlib.sha512(data).hexdigest() == asset.sha512


def _checked(files: dict[str, bytes], where: str) -> dict[str, bytes]:
    for asset in _ASSETS:
        if not _fits(asset, files):
            what = "differs from that" if asset.name in files else "is missing; the page needs that"
            raise RequestError(
                f"{where}: {asset.name} {what} of onnxruntime-web {VERSION}; get it with `npm pack onnxruntime-web@{VERSION}`"
            )
    return files


def _keep(cache: Path, files: dict[str, bytes]) -> None:
    """Keep the files for the next time; a cache that can't be written does no harm."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(cache / name, data)
    except OSError as error:
        log.info("onnxruntime-web is not kept in %s: %s", cache, error)


def _reason(error: BaseException) -> str:
    reason = None if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None)
    reason = reason or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__
