"""Write the page: assets, runtime, fused graphs and one configuration, as static files for any host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from xai_deploy.format.bundle import Bundle

from ...bundle.stage import Put, write_folder
from ...errors import OutputError
from ..overwrite import check_ours
from .configuration import configuration
from .networks import networks
from .samples import Sample

_CONFIG = "config.json"

_LICENCE = """onnxruntime-web, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def check_site(destination: Path, overwrite: bool) -> None:
    """Refuse early what would be refused at the end.

    Raises:
        OutputError: The destination exists and is not to be replaced, or its folder does not exist.
    """
    if destination.exists() or destination.is_symlink():
        if not overwrite:
            raise OutputError(
                f"{destination}: exists already; give --overwrite to replace it, or another folder with --web"
            )
        check_ours(destination, _CONFIG, "page", {"page": "xai-deploy"})
    if not destination.absolute().parent.is_dir():
        raise OutputError(f"{destination.parent}: no such folder; create it first")


def write_site(
    destination: Path,
    bundle: Bundle,
    runtime: Mapping[str, bytes],
    overwrite: bool = False,
    put: Put = write_folder,
    title: str | None = None,
    samples: Sequence[Sample] = (),
) -> None:
    """Write the page of a bundle's fused graphs, whole or not at all.

    Args:
        destination: The folder to make.
        bundle: Holds the graphs `fused-METHOD`.
        runtime: What `runtime_files` gives.
        overwrite: Replace an existing page.
        put: What writes the folder.
        title: The page's title; None: the network's name.
        samples: Pictures that the page offers; see `read_samples`.

    Raises:
        RequestError: The bundle has no fused graph, or one that a browser can't run.
        OutputError: The folder can't be written.
    """
    check_site(destination, overwrite)
    page = resources.files(__package__) / "page"
    files = {file.name: file.read_bytes() for file in page.iterdir() if file.name.endswith((".html", ".css", ".js"))}
    # A module's name ends in .js here: many servers do not know .mjs, and browsers refuse modules of unknown type
    fetched = {
        f"onnxruntime/{name.removesuffix('.mjs')}{'.js' * name.endswith('.mjs')}": data
        for name, data in runtime.items()
    }
    graphs = networks(bundle)
    fetched |= {network.file: network.data for network in graphs}
    files |= fetched | {"onnxruntime/LICENSE.txt": _LICENCE.encode()}
    offered = []
    for number, sample in enumerate(samples, 1):
        names = {"picture": f"samples/{number}{sample.suffix}", "thumbnail": f"samples/{number}-small.jpg"}
        files |= {names["picture"]: sample.picture, names["thumbnail"]: sample.thumbnail}
        offered.append({"name": sample.name, **names})
    config = configuration(bundle, graphs, title or bundle.manifest.name)
    # sizes, from which the page tells how far loading has come: a server may compress, and then its own number is another
    config |= {"samples": offered, "bytes": {name: len(data) for name, data in fetched.items()}, "files": sorted(files)}
    files[_CONFIG] = (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode()
    put(destination, files)
