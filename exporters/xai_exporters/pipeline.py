"""The export, in four steps: plan (what is explained, where to cut), build (graphs and manifest), stage, verify; then deliver.

Bundles with random weights go through the same four steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir

from xai_deploy.faithful import ROUNDING, rounding_said
from xai_deploy.format.bundle import Bundle, Manifest
from xai_deploy.format.randomised import SANITY, Randomised
from xai_deploy.format.signature import SigningKey

from .bundle.beside import noise_beside
from .bundle.best_boxes import with_best_boxes
from .bundle.describe import describe, further_inputs, image_input, settle
from .bundle.everywhere import check_everywhere, with_precision
from .bundle.installed import exactly
from .bundle.labels import class_names, named
from .bundle.measuring import measuring_images, sets_of, warn_of_saturation
from .bundle.patterned import shares_on_patterns
from .bundle.recipes import Ask
from .bundle.refused import refused
from .bundle.rounding import left_out_for_rounding
from .bundle.sanity import check_images
from .bundle.shared import share_weights
from .bundle.stage import Draft, Stage, check_destination, randomised_path, staged
from .bundle.verify import check_backward, verify
from .cut.choose import Choice, choose, follow_choice
from .cut.costs import Candidate, candidates, measured
from .cut.decided import said_of_decided
from .cut.plan import plan_cuts
from .cut.scores.foreign_outputs import drop_foreign_outputs
from .cut.scores.logits import find_scores
from .cut.split import split, whole
from .deliver.delivery import check_delivery, deliver
from .deliver.openvino_ir import kind_of, require_openvino, to_ir
from .errors import BatchError, ExportError, OtherInputError, RequestError, VerificationError
from .export_result import Export
from .gate import gate
from .graph.writing import make_model, to_bytes
from .passes.clean import CleanGraph, clean
from .passes.heads import add_head
from .passes.inner_output import with_output
from .passes.network_inputs import asked_of, drop_unused_inputs
from .question import refuse
from .randomise import check_layers, randomise_step
from .relevance.node_names import note_names
from .request import Request, check
from .roles.material import Material
from .roles.model_api import for_model_api
from .roles.plan import RolePlan, plan_roles
from .sources import TrainedNetwork, load_source, refuse_folder
from .sources.files_read import files_read
from .sources.further import with_constants
from .sources.look import beside_classes, beside_map, look
from .sources.model_folder import with_folder
from .sources.stacked import said_if_stacked
from .sources.stated import note
from .sources.stated_size import at_stated_size

log = logging.getLogger(__name__)

Say = Callable[[str], None]

LABELS = "labels.txt"

_MEASURED = 12
"""Images on which the rounding noise of a network of integers is measured."""


@dataclass(frozen=True)
class Plan:
    """One bundle, before its graphs are built.

    Attributes:
        request: The export.
        roles: The graphs that it wants.
        network: The source; with random weights if `random` says so.
        choice: What is explained, and the layer.
        material: What the graphs are made of.
        random: The step of randomisation; None for the network itself.
        labels: The names of the classes, or none.
        notes: As in `Export`.
    """

    request: Request
    roles: RolePlan
    network: TrainedNetwork
    choice: Choice
    material: Material
    random: Randomised | None
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def export(request: Request, say: Say = lambda step: None, ask: Ask = refuse) -> Export:
    """Export a network.

    Args:
        request: What to export and how.
        say: Called with each step as it begins.
        ask: Gets a recipe for the preprocessing if nobody states one; by default the export is refused.

    Raises:
        ExportError: One of its subclasses. No files are left behind.
    """
    started = time.perf_counter()
    check(request)
    refuse_folder(request.source)
    roles = plan_roles(request)
    path = request.output_path or Path(f"{request.source.stem}.xai")
    steps = [randomised_path(path, step, request.randomise) for step in range(1, (request.randomise or 0) + 1)]
    # what can be refused early is refused before the network is read
    check_delivery(request, (path, *steps), say)
    if request.format == "openvino":
        require_openvino()
    key = None if request.sign is None else SigningKey(request.sign)
    if request.require_sanity is not None:
        check_images(request.require_sanity)
    for destination in (path, *steps):
        check_destination(destination, request.overwrite, key is not None)
    say("reading the network")
    network, request = _read(request)
    with said_if_stacked(network.proto, request.output):
        done = _settled_and_exported(request, roles, network, (path, *steps), say, ask, key)
    return replace(done, seconds=time.perf_counter() - started, reads=files_read(request, network))


def _settled_and_exported(
    request: Request,
    roles: RolePlan,
    network: TrainedNetwork,
    paths: Sequence[Path],
    say: Say,
    ask: Ask,
    key: SigningKey | None,
) -> Export:
    """Clean the graph, settle the preprocessing, and export; once more for one image at a time, or another image, if need be."""
    say("cleaning the graph")
    graph = clean(network.proto, request.input_shape, None, asked_of(request))
    network, request, graph = with_best_boxes(network, request, graph)
    request = settle(request, network, graph, ask)
    done = None
    while done is None:
        try:
            done = _export_all(request, roles, network, graph, paths, say, key)
        except BatchError as error:
            if graph.reason is not None:  # it was exported for one image at a time already
                raise
            say("starting again, for one image at a time")
            graph = clean(network.proto, request.input_shape, str(error), asked_of(request))
        except OtherInputError as error:
            if request.explain_input is not None:
                raise
            request = replace(request, explain_input=error.input)  # the one image that the layer depends on
            graph = clean(network.proto, request.input_shape, graph.reason, asked_of(request))
    return done


def list_layers(request: Request, say: Say = lambda step: None) -> list[Candidate]:
    """Every legal cut of a network, in the graph's order."""
    check(request)
    say("reading the network")
    network, request = _read(replace(request, split="auto"))
    say("measuring the graph")
    graph = clean(network.proto, request.input_shape, None, asked_of(request))
    network, request, graph = with_best_boxes(network, request, graph)
    logits = find_scores(graph, request.output, request.task, request.decoder, named(request, network))
    drop_foreign_outputs(graph, logits)
    say("measuring where the maps' cells look")
    return measured(graph, candidates(graph, logits))


def _read(request: Request) -> tuple[TrainedNetwork, Request]:
    """The network, with the head that the request adds to it, whose output the returned request explains."""
    network, request = at_stated_size(with_folder(load_source(request), request), request)
    network = with_constants(network, request)
    network = replace(network, proto=with_output(network.proto, request.output))
    network, request = beside_classes(network, beside_map(network, request))
    look(network, request)
    if request.classes is None and request.task != "embedding":
        return network, request
    proto = onnx.ModelProto.FromString(network.proto.SerializeToString())
    output = request.output or next(v.name for v in proto.graph.output if v.name not in network.taps.values())
    return replace(network, proto=proto), replace(request, output=add_head(proto, output, request))


def _export_all(
    request: Request,
    roles: RolePlan,
    network: TrainedNetwork,
    graph: CleanGraph,
    paths: Sequence[Path],
    say: Say,
    key: SigningKey | None,
) -> Export:
    """The network's own bundle and those with random weights. Either all of them appear or none."""
    path, *further = paths
    if graph.reason is not None:
        log.warning("the bundle takes one image at a time: %s", graph.reason)
    with staged(request.overwrite, key) as stage:
        # planning changes the graph, so every bundle starts from a copy if there are several
        kept = further or request.require_sanity is not None
        plan = _plan(request, roles, network, graph.copy() if kept else graph, None, say)
        done = _export_one(plan, path, stage, say, graph)
        bare = replace(request, fuse=())  # bundles with random weights have no fused graphs
        randomised = []
        for step, destination in enumerate(further, 1):
            which = f"randomised {step} of {request.randomise}"
            say_which = _prefixed(say, which)
            try:
                random = Randomised(step, len(further), request.randomise_seed, (), done.manifest.network)
                plan = _plan(bare, plan_roles(bare), network, graph.copy(), random, say_which)
                randomised.append(_export_one(plan, destination, stage, say_which))
            except ExportError as error:
                raise type(error)(f"{which}: {error}") from error
    return replace(done, randomised=tuple(randomised))


def _prefixed(say: Say, which: str) -> Say:
    return lambda step: say(f"{which}: {step}")


def _export_one(plan: Plan, path: Path, stage: Stage, say: Say, untouched: CleanGraph | None = None) -> Export:
    """Build one bundle, stage it, verify it, and deliver what lies beside it; `untouched` is the graph before it was planned."""
    started = time.perf_counter()
    network, clean_graph = plan.network, plan.material.clean
    draft = stage.draft(path)
    manifest, dead, unverified = _build(plan, draft, say)
    if plan.request.require_sanity is not None and untouched is not None:
        say("comparing maps with those of random weights")

        def again(request: Request, random: Randomised) -> Material:
            return _plan(request, plan.roles, network, untouched.copy(), random, say).material

        said = gate(plan.request, plan.choice, manifest, draft, again)
        manifest = replace(manifest, extensions=manifest.extensions | {SANITY: said})
    say("writing and verifying")
    if not plan.request.whole_graphs:
        manifest = share_weights(manifest, draft)
    bundle = stage.finish(draft, manifest)
    images = measuring_images(clean_graph.graph, manifest.input, 3)
    verified = verify(bundle, network.untapped, network, images)
    beside = _deliver(plan, bundle, stage, say) if plan.random is None else ()
    return Export(
        path,
        bundle.manifest,
        network.kind,
        verified,
        dead,
        clean_graph.was_fixed,
        plan.choice.dropped,
        size=sum(record.size for record in bundle.manifest.files.values()),
        seconds=time.perf_counter() - started,
        notes=(*plan.notes, *unverified),
        beside=beside,
        one_because=clean_graph.reason,
        framework=network.framework,
        layer_note=plan.choice.note,
    )


def _plan(
    request: Request, roles: RolePlan, network: TrainedNetwork, graph: CleanGraph, random: Randomised | None, say: Say
) -> Plan:
    """Choose what is explained and where to cut, and cut.

    Args:
        request: The export.
        roles: Its roles.
        network: The source.
        graph: The clean graph; it changes.
        random: The step of randomisation, its layers not known yet; None: the weights stay.
        say: Called with each step as it begins.
    """
    choice = choose(graph, request, network.taps, roles.uncut, named(request, network))
    roles = roles.whole() if choice.target is None and not roles.uncut else roles
    if network.activation is not None and choice.logits.activation == "none":
        choice = replace(choice, logits=replace(choice.logits, activation=network.activation))
    if request.keep_batchnorm and not any(node.op_type == "BatchNormalization" for node in graph.graph):
        raise RequestError(
            f"--keep-batchnorm: {request.source} holds no BatchNormalization; the export to ONNX may have merged it"
        )
    if request.randomise is not None:
        check_layers(graph.graph, request.source, request.randomise)
    if random is not None:
        random = randomise_step(graph.model, random)
        # the randomised graph is the source now; no framework has a forward pass for it
        network = replace(network, proto=ir.to_proto(graph.model), taps={}, reference=None)
    drop_unused_inputs(graph.graph, [choice.logits.value, *graph.graph.outputs])
    image = image_input(request, network, graph)
    beside = further_inputs(request, network, graph)
    if random is None:  # random weights move nothing
        say("following patches of an image")
        warn_of_saturation(graph.graph, image)
        images = measuring_images(graph.graph, image, 2)
        choice = follow_choice(graph, choice, request, images, noise_beside(beside, 0, 2))
    say("cutting")
    note_names(graph.graph)
    if choice.target is None:
        cut, further, parts = None, [], whole(graph, None, choice.logits)
    else:
        layers = [(choice.target, choice.name or request.split), *((one.target, one.name) for one in choice.further)]
        cut, *further = plan_cuts(graph, layers, choice.logits, graph.graph.outputs)
        parts = split(graph, cut, choice.logits, further)
    material = Material(graph, cut, choice.logits, parts, image, request.keep_batchnorm, tuple(further), beside)
    rows = choice.logits.scores.rows
    labels, line = class_names(request, network, choice.logits.classes, rows)
    how = note(network.preprocess, request.preprocess, request.preprocess_fields, image, rows is not None)
    said = (choice.logits.note, line, how, said_of_decided(graph.graph))
    notes = (*network.notes, *(one for one in said if one is not None))
    return Plan(request, roles, network, choice, material, random, labels, notes)


def _build(plan: Plan, draft: Draft, say: Say) -> tuple[Manifest, Mapping[str, str], tuple[str, ...]]:
    """Derive the graphs, write and describe them, and leave out those that a runtime computes wrongly.

    Returns:
        The manifest without its files; why graphs gave only zeros, by role; and what a runtime does not run, in sentences.

    Raises:
        RuleError, VerificationError: A graph that was asked for can't be made, or can't be used.
    """
    request, roles, material = plan.request, plan.roles, plan.material
    say("deriving the graphs")
    graphs, left_out = roles.build(material)
    tensor = (
        {"xai_tensor": str(material.cut.target.name)} if material.cut else {}
    )  # the layer's real name, in case the request says "auto"
    notes = {role: {**roles.roles[role].notes, **tensor} if roles.roles[role].notes else {} for role in graphs}
    described = describe(request, roles, material, graphs)
    for role in list(graphs):  # a graph's own weights (rotated, clamped) would be in memory twice
        draft.write(f"{role}.onnx", to_bytes(make_model(graphs.pop(role), notes[role])))
    contents = {name: draft.file(name) for name in draft.files}
    manifest = replace(
        described,
        left_out=left_out,
        randomised=plan.random,
        labels=LABELS if plan.labels else None,
    )
    if plan.random is not None:
        step = f"randomised {plan.random.step} of {plan.random.of}"
        manifest = replace(manifest, name=f"{manifest.name} ({step})")
    measured = measuring_images(material.clean.graph, material.image, _MEASURED)
    manifest = with_precision(manifest, contents, material.clean, material.logits, measured)
    wrong, dead = check_backward(contents, manifest, measured[:3])
    draws = sets_of(material.clean.graph, material.image, measured, 1 if manifest.batch == "one" else 3)
    checked = check_everywhere(contents, manifest, draws[0], draws)
    unusable = left_out_for_rounding(checked.rounding, manifest, roles.asks_for)
    wrong = unusable | refused(contents, manifest) | dict(checked.wrong) | wrong
    rounding = {name: share for name, share in checked.rounding.items() if name not in wrong}
    # a graph that a runtime computes wrongly is left out, unless the request asks for it: then the export fails
    for role, reason in wrong.items():
        if roles.asks_for(role):
            raise VerificationError(f"the {role} graph can't be used: {reason}")
        draft.remove(f"{role}.onnx")
    manifest = replace(
        manifest,
        graphs={role: graph for role, graph in manifest.graphs.items() if role not in wrong},
        composites={role: name for role, name in manifest.composites.items() if role not in wrong},
        left_out=manifest.left_out | wrong,
    )
    for role, share in shares_on_patterns(contents, manifest, exactly).items():
        rounding[role] = max(share, rounding.get(role, 0.0))
    if rounding:
        manifest = replace(manifest, extensions=manifest.extensions | {ROUNDING: rounding_said(rounding)})
    _further_files(plan, manifest, draft)
    return manifest, dead, checked.unverified


def _further_files(plan: Plan, manifest: Manifest, draft: Draft) -> None:
    """Write the labels, and the fused graphs as OpenVINO IR."""
    request, image = plan.request, plan.material.image
    if plan.labels:
        draft.write(LABELS, ("\n".join(plan.labels) + "\n").encode())
    if request.format == "openvino":
        for role in manifest.graphs:
            if plan.roles.roles[role].method is not None:
                boxes = for_model_api(request, plan.material, role)
                model = boxes or draft.file(f"{role}.onnx").read_bytes()
                kind = kind_of(manifest, boxes is not None)
                xml, weights = to_ir(model, image, kind, plan.labels, request.embed_preprocess)
                draft.write(f"{role}.xml", xml)
                draft.write(f"{role}.bin", weights)


def _deliver(plan: Plan, bundle: Bundle, stage: Stage, say: Say) -> tuple[Path, ...]:
    """What lies beside the bundle, and where."""
    deliver(plan.request, bundle, plan.material, stage.folder, say)
    repository = None if plan.request.serve_repo is None else plan.request.serve_repo[1]
    return tuple(folder for folder in (plan.request.web, repository) if folder)
