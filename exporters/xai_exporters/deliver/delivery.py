"""What is made of a bundle's fused graphs for hosting: a model repository for a server, a page for a browser."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from xai_deploy.format.bundle import Bundle, fused_method

from ..bundle.stage import Put
from ..cut.scores.logits import explained
from ..errors import RequestError
from ..graph.writing import make_model, to_bytes
from ..request import Request
from ..roles.fuse.graph import form_of, plain_graph
from ..roles.material import Material
from .openvino_ir import kind_of, to_ir
from .repositories.repository import check_repository, write_repository
from .repositories.served import Served, safe_name
from .web.ortweb import runtime_files
from .web.samples import read_samples
from .web.site import check_site, write_site


def check_delivery(request: Request, bundles: Sequence[Path], say: Callable[[str], None]) -> None:
    """Refuse early what would be refused at the end.

    Args:
        request: What is asked for.
        bundles: The destinations of the bundle and of those with random weights.
        say: Called when a download begins.

    Raises:
        RequestError: No such kind of server, one folder for two things, a sample that is no picture, or the page's runtime can't
            be obtained.
        OutputError: A destination exists, or its folder does not.
    """
    places = {"--serve-repo": request.serve_repo and request.serve_repo[1], "--web": request.web}
    folders = [("the bundle", _real(bundle)) for bundle in bundles]
    folders += [(what, _real(folder)) for what, folder in places.items() if folder is not None]
    for (one, first), (other, second) in itertools.combinations(folders, 2):
        # a folder inside another would be replaced with it
        if first.is_relative_to(second) or second.is_relative_to(first):
            raise RequestError(
                f"{one} and {other} need separate folders, neither inside the other, not {first} and {second}"
            )
    if request.serve_repo is not None:
        kind, folder = request.serve_repo
        check_repository(kind, folder, request.overwrite)
    if request.web is not None:
        check_site(request.web, request.overwrite)
        read_samples(request.web_samples)
        runtime_files(request.ort_web, say)  # they are in the cache from now on


def _real(path: Path) -> Path:
    # Path.resolve would raise at a loop of links, which has an error message of its own
    return Path(os.path.realpath(path))


def deliver(request: Request, bundle: Bundle, material: Material, put: Put, say: Callable[[str], None]) -> None:
    """Hand what was asked for to `put`, folder by folder.

    Raises:
        RequestError: The page's runtime can't be obtained, or a browser can't run the network.
        GraphError: The server can't serve a model.
        OutputError: A folder can't be written.
    """
    if request.web is not None:
        say("making the page")
        samples = read_samples(request.web_samples)
        runtime = runtime_files(request.ort_web, say)
        write_site(request.web, bundle, runtime, request.overwrite, put, request.web_title, samples)
    if request.serve_repo is not None:
        kind, folder = request.serve_repo
        say("laying out the server's repository")
        write_repository(kind, folder, served_models(request, bundle, material), request.overwrite, put)


def served_models(request: Request, bundle: Bundle, material: Material) -> list[Served]:
    """The plain network and each fused one beside it, called NAME and NAME-METHOD."""
    manifest = bundle.manifest
    plain = to_bytes(make_model(plain_graph(material, form_of(request))))
    fused = {m: bundle.graph(r) for r in manifest.graphs if (m := fused_method(r)) is not None}
    models = {"": plain} | fused
    name, scores = safe_name(manifest.name), explained(manifest.outputs)
    served = []
    for method, model in models.items():
        ir = None
        if request.format == "openvino":
            ir = to_ir(model, manifest.input, kind_of(manifest, False), bundle.labels, request.embed_preprocess)
        served.append(Served(safe_name(f"{name}-{method}"), model, bundle.labels, ir, scores.name))
    if len({one.name for one in served}) < len(served):
        raise RequestError("--serve-repo: two methods would have the same name on the server; fuse one at a time")
    return served
