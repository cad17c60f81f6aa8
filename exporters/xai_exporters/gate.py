"""An export's gate: the fused graphs, compared with those of the network with all weights random (see `bundle.sanity`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xai_deploy.format.bundle import Manifest
from xai_deploy.format.randomised import Randomised

from .bundle.sanity import check_images, require_sanity
from .bundle.stage import Draft
from .cut.choose import Choice
from .graph.writing import make_model, to_bytes
from .request import Request
from .roles.material import Material
from .roles.plan import plan_roles


def gate(
    request: Request,
    choice: Choice,
    manifest: Manifest,
    draft: Draft,
    again: Callable[[Request, Randomised], Material],
) -> str:
    """What the sanity check measured, for the manifest.

    Args:
        request: The export; it names a folder of images.
        choice: Where the trained network is cut.
        manifest: The trained network's.
        draft: Its graphs.
        again: Plans the network once more, with random weights.

    Raises:
        VerificationError: The maps of a fused graph hardly change.
    """
    assert request.require_sanity is not None
    if choice.target is not None:  # the same cut, also if `auto` found it
        layers = [choice.name or str(choice.target.name), *(one.name for one in choice.further)]
        there = replace(request, split=",".join(name.replace(",", "\\,") for name in layers))
    else:
        there = request
    material = again(there, Randomised(1, 1, request.randomise_seed, (), ""))
    # random weights predict something else: their graphs are asked for what the trained network predicts
    asked = plan_roles(replace(request, fixed_target=False)).roles
    fused = ((name, role.build(material)) for name, role in asked.items() if role.method is not None)
    random = {name: to_bytes(make_model(graph, {})) for name, graph in fused if graph is not None}
    files = check_images(request.require_sanity)
    return require_sanity(
        files, request.sanity_limit, manifest, lambda role: draft.file(f"{role}.onnx").read_bytes(), random
    )
