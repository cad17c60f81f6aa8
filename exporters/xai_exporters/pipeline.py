"""The whole way: source -> clean graph -> cut -> head and tail -> bundle, verified before it appears."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import onnx
import onnx_ir as ir

from xai_deploy.format.bundle import FUSED, Manifest
from xai_deploy.format.randomised import Randomised

from .bundle.describe import describe, image_input
from .bundle.everywhere import check_everywhere, with_precision
from .bundle.labels import read_labels
from .bundle.stage import Stage, check_destination, randomised_path, staged
from .bundle.verify import Verified, check_backward, noise_images, verify
from .cut.auto import auto_layer
from .cut.costs import Candidate, candidates, no_cut
from .cut.layer import find_layer
from .cut.scores.logits import Logits, drop_foreign_outputs, find_logits
from .cut.split import Cut, plan_cut, split
from .deliver.delivery import check_delivery, deliver
from .deliver.openvino_ir import require_openvino, to_ir
from .errors import BatchError, ExportError, LayerError, RequestError, VerificationError
from .graph.writing import make_model, to_bytes
from .passes.clean import CleanGraph, clean
from .randomise import find_layers, randomise
from .relevance.node_names import note_names
from .request import Request, check
from .roles.material import Material
from .roles.plan import Role, asked_for, build_graphs, check_roles, roles_of
from .sources import Network, load_source
from .sources.look import look
from .sources.stated import note

log = logging.getLogger(__name__)

Say = Callable[[str], None]

_MEASURED = 12
"""Images on which the rounding noise of a network of integers is measured."""


@dataclass(frozen=True)
class Export:
    """What an export did.

    Attributes:
        path, manifest: Of the bundle.
        kind: What the source was.
        verified: How well it is reproduced.
        dead: Role -> why its graph gave only zeros on noise images (see `xai_deploy.constant_maps`).
        batch_was_fixed: The source's was; the bundle's is symbolic, unless its manifest says "one".
        one_because: Why the bundle takes one image at a time; None if it takes several.
        framework: The name of what `verified` compares with besides the source graph.
        layer_note: What users should know about the layer that `auto` chose, or that a name stands for; None if nothing is unusual.
        dropped_outputs: Those that are not one result per image.
        size: Of the bundle's files, in bytes.
        seconds: How long it took.
        notes: What the network was taken for, and where its preprocessing comes from.
        beside: The page and the server's repository.
        randomised: The same of the bundles with random weights, whose source is the network randomised.
    """

    path: Path
    manifest: Manifest
    kind: str
    verified: Verified
    dead: Mapping[str, str]
    batch_was_fixed: bool
    dropped_outputs: tuple[str, ...]
    size: int
    seconds: float
    notes: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    randomised: tuple[Export, ...] = ()
    one_because: str | None = None
    framework: str = "torch"
    layer_note: str | None = None


def export(request: Request, say: Say = lambda step: None) -> Export:
    """Export a network.

    Args:
        request: What to export and how.
        say: Told each step as it begins.

    Raises:
        ExportError: One of its kinds; nothing is left behind.
    """
    started = time.perf_counter()
    check(request)
    check_roles(request)
    path = request.output_path or Path(f"{request.source.stem}.xai")
    steps = [randomised_path(path, step, request.randomise) for step in range(1, (request.randomise or 0) + 1)]
    check_delivery(request, (path, *steps), say)
    if request.format == "openvino":
        require_openvino()
    for destination in (path, *steps):
        check_destination(destination, request.overwrite)
    say("reading the network")
    network = load_source(request)
    look(network, request)
    say("cleaning the graph")
    graph = clean(network.proto, request.input_shape)
    try:
        done = _export_all(request, network, graph, (path, *steps), say)
    except BatchError as error:
        if graph.reason is not None:
            raise
        say("beginning again, for one image at a time")
        graph = clean(network.proto, request.input_shape, str(error))
        done = _export_all(request, network, graph, (path, *steps), say)
    return replace(done, seconds=time.perf_counter() - started)


def _export_all(request: Request, network: Network, graph: CleanGraph, paths: Sequence[Path], say: Say) -> Export:
    """The network's own bundle and those with random weights; either all of them appear or none."""
    path, *steps = paths
    if graph.reason is not None:
        log.warning("the bundle takes one image at a time: %s", graph.reason)
    with staged(request.overwrite) as stage:
        done = _export(request, network, graph.copy() if steps else graph, path, 0, stage, say)
        randomised = []
        for step, destination in enumerate(steps, 1):
            which = f"randomised {step} of {request.randomise}"
            say_which = _prefixed(say, which)
            try:
                randomised.append(
                    _export(
                        replace(request, fuse=()),
                        network,
                        graph.copy(),
                        destination,
                        step,
                        stage,
                        say_which,
                        done.manifest,
                    )
                )
            except ExportError as error:
                raise type(error)(f"{which}: {error}") from error
    return replace(done, randomised=tuple(randomised))


def _prefixed(say: Say, which: str) -> Say:
    return lambda step: say(f"{which}: {step}")


def _export(
    request: Request,
    network: Network,
    graph: CleanGraph,
    path: Path,
    step: int,
    stage: Stage,
    say: Say,
    trained: Manifest | None = None,
) -> Export:
    """Make and verify one bundle, and stage it.

    Args:
        step: 0 for the network itself; from 1 on its weights are random, more at each step.
        stage: Holds the bundle until all are verified.
        trained: The manifest of step 0, for the later steps.
    """
    started = time.perf_counter()
    target, logits, dropped, layer_note = _prepare(graph, network, request)
    if request.keep_batchnorm and not any(node.op_type == "BatchNormalization" for node in graph.graph):
        raise RequestError(
            f"--keep-batchnorm: {request.source} holds no BatchNormalization (any more); the export to ONNX may have merged it"
        )
    random = None
    if request.randomise is not None:
        _check_layers(graph, request)
    if trained is not None and request.randomise is not None:
        seed, share = request.randomise_seed, Fraction(step, request.randomise)
        layers = tuple(randomise(graph.model, share, seed))
        random = Randomised(step, request.randomise, seed, layers, trained.network)
        network = replace(network, proto=ir.to_proto(graph.model), tap=None, reference=None)
    say("cutting")
    note_names(graph.graph)
    cut = plan_cut(graph, target, logits, graph.graph.outputs, request.split)
    parts = split(graph, cut, logits)
    say("deriving the graphs")
    image = image_input(request, network, graph, parts)
    material = Material(graph, cut, logits, parts, image, request.keep_batchnorm)
    graphs, left_out = build_graphs(request, material)
    roles = roles_of(request)
    contents = {f"{role}.onnx": to_bytes(make_model(g, _notes(roles[role], cut))) for role, g in graphs.items()}
    manifest = describe(request, image, graph, cut, logits, parts, graphs)
    manifest = replace(manifest, left_out=left_out, randomised=random)
    if random is not None:
        manifest = replace(manifest, name=f"{manifest.name} (randomised {step} of {request.randomise})")
    images = noise_images(image, 1 if manifest.batch == "one" else 3)
    manifest = with_precision(manifest, contents, graph, logits, noise_images(image, _MEASURED))
    wrong, dead = check_backward(contents, manifest)
    wrong = check_everywhere(contents, manifest, images) | wrong
    for role, reason in wrong.items():
        if asked_for(request, role):
            raise VerificationError(f"the {role} graph can't be used: {reason}")
        del contents[f"{role}.onnx"]
    manifest = replace(
        manifest,
        graphs={role: graph for role, graph in manifest.graphs.items() if role not in wrong},
        composites={role: name for role, name in manifest.composites.items() if role not in wrong},
        left_out=manifest.left_out | wrong,
    )
    labels: list[str] = []
    if request.labels is not None:
        labels = read_labels(request.labels, logits.classes)
        contents["labels.txt"] = ("\n".join(labels) + "\n").encode()
    if request.format == "openvino":
        for role in [role for role in manifest.graphs if role.startswith(FUSED)]:
            xml, weights = to_ir(
                contents[f"{role}.onnx"],
                image,
                manifest.activation,
                labels,
                request.embed_preprocess,
            )
            contents |= {f"{role}.xml": xml, f"{role}.bin": weights}
    say("writing and verifying")
    source = network.proto if network.tap is None else _without_output(network, network.tap)
    bundle = stage.bundle(path, manifest, contents)
    verified = verify(bundle, source, network)
    if not step:
        deliver(request, bundle, material, stage.folder, say)
    size = sum(record.size for record in bundle.manifest.files.values())
    seconds = time.perf_counter() - started
    beside = (
        () if step else tuple(folder for folder in (request.web, (request.serve_repo or (None, None))[1]) if folder)
    )
    line = note(network.preprocess, request.preprocess, request.preprocess_fields, (image.height, image.width))
    notes = (*network.notes, *([line] if line is not None else []))
    return Export(
        path,
        bundle.manifest,
        network.kind,
        verified,
        dead,
        graph.was_fixed,
        dropped,
        size,
        seconds,
        notes,
        beside,
        one_because=graph.reason,
        framework=network.framework,
        layer_note=layer_note,
    )


def _notes(role: Role, cut: Cut) -> dict[str, str]:
    """What a fused file says of itself; "auto" is not what a layer is called."""
    return {**role.notes, "xai_tensor": str(cut.target.name)} if role.notes else {}


def _check_layers(graph: CleanGraph, request: Request) -> None:
    """Refuse what can't be randomised in so many steps.

    Raises:
        RequestError: The network has fewer layers with weights than steps are asked for.
    """
    layers = len(find_layers(graph.graph))
    if not layers:
        raise RequestError(
            f"--randomise: {request.source} has no layer with weights, or none that are not all one number"
        )
    if request.randomise is not None and request.randomise > layers:
        raise RequestError(
            f"--randomise {request.randomise}: {request.source} has {layers} layer(s) with weights, and each step randomises "
            "one more at least"
        )


def list_layers(request: Request, say: Say = lambda step: None) -> list[Candidate]:
    """Every legal cut of a network, in the graph's order."""
    check(request)
    say("reading the network")
    network = load_source(replace(request, split="auto"))
    look(network, request)
    say("measuring the graph")
    graph = clean(network.proto, request.input_shape)
    logits = find_logits(graph, request.output)
    drop_foreign_outputs(graph, logits)
    return candidates(graph, logits)


def _prepare(
    graph: CleanGraph, network: Network, request: Request
) -> tuple[ir.Value, Logits, tuple[str, ...], str | None]:
    """Find what is explained and where to cut; a tap and foreign outputs are removed from the graph's outputs.

    Returns:
        The tensor to cut at, the logits, the names of the removed outputs, and what to tell of the layer.
    """
    tap = layer_note = None
    if network.tap is not None:
        tap = next(v for v in graph.graph.outputs if v.name == network.tap)
        graph.graph.outputs.remove(tap)
        while (
            (producer := tap.producer()) is not None
            and producer.op_type == "Identity"
            and producer.inputs[0] is not None
        ):
            tap = producer.inputs[0]
        named = tap.is_graph_output() or tap in graph.graph.inputs  # keeps the name it has outside
        if not named and request.split not in {v.name for node in graph.graph for v in node.outputs}:
            graph.shapes.rename(str(tap.name), request.split)
            tap.name = request.split
    logits = find_logits(graph, request.output)
    dropped = drop_foreign_outputs(graph, logits)
    if tap is None and request.split == "auto":
        tap, layer_note = _auto(graph, logits)
    elif tap is None:
        tap, layer_note = find_layer(graph.graph, request.split)
    return tap, logits, dropped, layer_note


def _auto(graph: CleanGraph, logits: Logits) -> tuple[ir.Value, str | None]:
    """As `auto_layer`, which advises to name another layer: where there is none, that is said instead."""
    try:
        return auto_layer(graph, logits)
    except LayerError:
        if candidates(graph, logits):
            raise
        raise LayerError(no_cut(graph)) from None


def _without_output(network: Network, name: str) -> onnx.ModelProto:
    """The source graph without the tap."""
    model = onnx.ModelProto()
    model.CopyFrom(network.proto)
    kept = [output for output in model.graph.output if output.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model
