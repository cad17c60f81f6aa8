"""Compare the written bundle with the source: on ONNX Runtime, on noise images, one at a time and three at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xai_deploy import faithful
from xai_deploy.constant_maps import CUT_OFF, NEGATIVE, why_constant
from xai_deploy.faithful import HALF
from xai_deploy.format.bundle import (
    ACTIVATION,
    CHOICE,
    LOGITS,
    PIXEL_LOGITS,
    POSITION_COLUMNS,
    POSITION_LOGITS,
    POSITION_ROWS,
    PREDICTED,
    SALIENCY,
    SHARES,
    TARGET,
    Bundle,
    Manifest,
    Output,
    at_level,
    fused_method,
    role_at,
)
from xai_deploy.foundation.heap import give_back_freed
from xai_deploy.probabilities import probabilities

from ..errors import BatchError, GraphError, VerificationError
from ..graph.measure import OnnxFile, open_session, run, run_single, run_taken
from ..sources import TrainedNetwork
from ..sources.further import further_of
from .beside import Arrays, asked, beside, forward, network_inputs, results_back
from .chosen import choosing_roles, chosen_names, other_choice, pinned, pinned_fused, with_choices, worst_choice
from .framework import least_magnitudes, moved_by_rounding, relative_difference, verify_framework

log = logging.getLogger(__name__)

TOLERANCES = {"float32": 1e-4, "float16": 5e-3}
"""Largest difference allowed, relative to the output's largest magnitude, by the activation's element type. Half precision
rounds at 5e-4. The runtime computes parts of such a network in float32, and other parts once the network is cut."""

_STEP = 2e-2
"""Largest difference that rounding explains in a quantised network, relative to the largest magnitude: five steps of 8 bits
(5 / 255)."""

PROBABILITY_TOLERANCE = 2e-2
"""Largest absolute difference of probabilities from the source's own output: two and a half steps of 7 bits (1 / 127 each)."""


@dataclass(frozen=True)
class Verified:
    """Largest relative differences: against the source graph, and against the source framework (None without one)."""

    source: float
    framework: float | None


def verify(bundle: Bundle, source: onnx.ModelProto, network: TrainedNetwork, images: NDArray[Any]) -> Verified:
    """Check that the bundle's graphs reproduce the source, for single images and for three at once.

    Args:
        bundle: The written bundle.
        source: The source graph as it was read, before any pass, without a tap.
        network: The source; its framework's forward pass is compared too.
        images: Three images, as the network gets them.

    Raises:
        VerificationError: A difference above the tolerance.
        BatchError: Single images agree with the source, three at once do not.
    """
    manifest = bundle.manifest
    spec, tolerance = manifest.input, 2e-2 if HALF in manifest.extensions else TOLERANCES[manifest.target.dtype]
    tensors = {output.name: output.tensor for output in manifest.outputs}
    expected, chosen = _expected(source, manifest, images)
    least = least_magnitudes(source, tolerance)
    levels = range(len(manifest.layers))
    sessions: dict[str, Any] = {}

    def parts(x: NDArray[Any], level: int = 0, rows: slice = slice(None)) -> tuple[Arrays, Arrays]:
        sessions.update({} if sessions else _sessions(bundle, bool(chosen)))
        own = {name: places[rows] for name, places in chosen.items()}
        return forward(
            manifest, lambda role, feeds: run_taken(sessions[role], {**feeds, **own}, f"the {role}"), x, level
        )

    # one at a time first: a difference here comes from the cut, not from the batch
    singles = [parts(images[i : i + 1], level, slice(i, i + 1))[1] for level in levels for i in range(3)]
    worst = max(
        relative_difference(got[tensor], want[name], name, least.get(name, 0.0))
        for got, want in zip(singles, expected * len(levels), strict=True)
        for name, tensor in tensors.items()
    )
    worst = max(worst, *(worst_choice(got) for got in singles))
    allowed = max(tolerance, _rounding(source))
    if worst > allowed:
        raise VerificationError(
            f"{' and '.join(manifest.parts)} differ from the source by {worst:.1e} of the output's largest magnitude (at most "
            f"{allowed:.0e} is allowed): this network can't be cut faithfully here; please report it"
        )
    between, together = parts(images)
    named = {name: together[tensor] for name, tensor in tensors.items()}
    worst = max(worst, _apart_at_once(named, expected, least, allowed))
    _verify_probabilities(manifest, together)
    for level in levels:
        _verify_pixelwise(bundle, between, together[LOGITS], tolerance, level)
        _verify_windowed(bundle, between, sessions, tolerance, level)
    for role in manifest.graphs:
        if fused_method(role) is not None:
            _verify_fused(bundle, role, images, expected, chosen, least, tolerance)
    moved = partial(moved_by_rounding, lambda x, name: parts(x)[1][tensors[name]], images)
    further = further_of(network.proto.graph, network_inputs(manifest, images), spec.name)
    sessions.clear()  # the framework holds the weights, too, often in a process of its own
    give_back_freed(sum(record.size for record in manifest.files.values()))
    return Verified(worst, verify_framework(network, images, further, named, tolerance, least, moved))


def _apart_at_once(
    outputs: Mapping[str, NDArray[Any]],
    expected: Sequence[Mapping[str, NDArray[Any]]],
    least: Mapping[str, float],
    allowed: float,
) -> float:
    """The largest relative difference of three images at once from what the source gives for each.

    Raises:
        BatchError: It is above what is allowed.
    """
    worst = 0.0
    for name, got in outputs.items():
        want = np.concatenate([e[name] for e in expected])
        worst = max(worst, relative_difference(got, want, name, least.get(name, 0.0)))
        if worst > allowed:
            raise BatchError(f"three images at once give other outputs than one at a time (difference {worst:.1e})")
    return worst


def _sessions(bundle: Bundle, pins: bool) -> dict[str, Any]:
    """The opened parts of the network; `pins`: those that choose take their choices."""
    manifest = bundle.manifest
    roles = [*manifest.parts, *(role_at(manifest.scoring, level) for level in range(1, len(manifest.layers)))]
    follows = tuple(choosing_roles(manifest)) if pins else ()
    graphs = {role: pinned(bundle.graph(role)) if role in follows else bundle.graph(role) for role in roles}
    return {role: open_session(graph, f"the {role}") for role, graph in graphs.items()}


def _expected(
    source: onnx.ModelProto, manifest: Manifest, images: NDArray[Any]
) -> tuple[list[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    """What the source gives for each image, and the places that its TopK choose, [n, ...], if the bundle's do."""
    following = with_choices(source, chosen_names(manifest))
    original = open_session((source if following is None else following).SerializeToString(), "the source")
    given = [network_inputs(manifest, images[i : i + 1]) for i in range(len(images))]
    expected = [run_single(original, feeds.pop(manifest.input.name), feeds) for feeds in given]
    names = () if following is None else chosen_names(manifest)
    return expected, {f"{CHOICE}{name}": np.concatenate([e[name] for e in expected]) for name in names}


def _rounding(source: onnx.ModelProto) -> float:
    """The relative difference that rounding explains: between a batch and single images, and between a network and its two parts.

    A runtime adds up numbers in another order if a batch is larger, or if memory lies differently. In a network on integers that
    can move a value from the border between two codes, as a mean of four codes often is, to the next code.
    """
    operators = {node.op_type for node in source.graph.node}
    return _STEP if operators & {"QuantizeLinear", "DynamicQuantizeLinear"} else 0.0


def _verify_probabilities(manifest: Manifest, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Check the probabilities that users will see against the network's own output, if that output holds probabilities.

    Raises:
        VerificationError: They differ by more than `PROBABILITY_TOLERANCE`.
    """
    own = next(output for output in manifest.outputs if output.kind != "other")
    given = outputs[own.tensor]
    if own.kind != "probabilities" or given.dtype.kind != "f":  # percentages and codes have other units
        return
    if manifest.scores.kind == "dense":
        return _verify_shares(manifest, own, given, outputs)
    # the output may have further axes of size 1
    computed = probabilities(outputs[LOGITS].astype(np.float64), manifest.activation)
    difference = float(np.abs(computed - given.reshape(computed.shape)).max())
    if difference > PROBABILITY_TOLERANCE:
        raise VerificationError(
            f"the {manifest.activation} of the logits differs from the output {own.name!r} by {difference:.1e}; please report it"
        )


def _verify_shares(manifest: Manifest, own: Output, given: NDArray[Any], outputs: Mapping[str, NDArray[Any]]) -> None:
    """Likewise for dense scores: the mean probabilities of the whole image, if the output has the size of the scores.

    Raises:
        VerificationError: They differ by more than `PROBABILITY_TOLERANCE`.
    """
    classes, *places = manifest.scores.shape
    axis = next(
        (i for i, d in enumerate(own.shape, 1) if d == classes and [*own.shape[: i - 1], *own.shape[i:]] == places), 0
    )
    if not axis and list(own.shape) != places:
        return
    means = (np.moveaxis(given, axis, 1) if axis else given[:, None]).mean(
        axis=tuple(range(2, given.ndim + (not axis)))
    )
    difference = float(np.abs(outputs[SHARES][:, 0] - means).max())
    if difference > PROBABILITY_TOLERANCE:
        raise VerificationError(
            f"the probabilities differ from the output {own.name!r} by {difference:.1e}; please report it"
        )


def _verify_pixelwise(
    bundle: Bundle, between: Mapping[str, NDArray[Any]], logits: NDArray[Any], tolerance: float, level: int
) -> None:
    """Check that logits - (mean of pixel_logits over the positions) is the same for every image: it is the bias."""
    role, name = role_at("pixelwise-tail", level), at_level(ACTIVATION, level)
    if not bundle.has(role):
        return
    session = open_session(bundle.graph(role), "the pixelwise tail")
    scores = run(session, {name: between[name]}, "the pixelwise tail")[PIXEL_LOGITS]
    bias = logits - scores.mean(axis=1)
    scale = max(np.abs(logits).max(), np.abs(scores).max())
    if np.abs(bias - bias[:1]).max() > tolerance * scale:
        raise VerificationError("the pixelwise tail does not reproduce the logits; please report it")


def _verify_windowed(
    bundle: Bundle, between: Mapping[str, NDArray[Any]], sessions: Mapping[str, Any], tolerance: float, level: int
) -> None:
    """Compare the windows of the map's last positions with the tail: at the corners of the part that runs at once."""
    role, name = role_at("windowed-tail", level), at_level(ACTIVATION, level)
    if not bundle.has(role):
        return
    activation = between[name][:1]
    counts = {port.name: port.shape[0] or 1 for port in bundle.manifest.graphs[role].takes if len(port.shape) == 1}
    rows, columns = (
        np.arange(size - counts[port], size)
        for size, port in zip(activation.shape[2:], (POSITION_ROWS, POSITION_COLUMNS), strict=True)
    )
    feeds = {name: activation, POSITION_ROWS: rows[None], POSITION_COLUMNS: columns[None]}
    scores = run(open_session(bundle.graph(role), "the windowed tail"), feeds, "the windowed tail")[POSITION_LOGITS][0]
    corners = [(i, j) for i in (0, len(rows) - 1) for j in (0, len(columns) - 1)]
    alone = np.zeros((len(corners), *activation.shape[1:]), activation.dtype)
    for one, (i, j) in zip(alone, corners, strict=True):
        one[:, rows[i], columns[j]] = activation[0, :, rows[i], columns[j]]
    wanted = run(sessions[role_at("tail", level)], {name: alone}, "the tail")[LOGITS]
    got = scores[[i * len(columns) + j for i, j in corners]]
    if np.abs(got - wanted).max() > tolerance * np.abs(wanted).max():
        raise VerificationError("the windowed tail does not give the tail's logits; please report it")


def _verify_fused(
    bundle: Bundle,
    role: str,
    images: NDArray[Any],
    expected: list[Mapping[str, NDArray[Any]]],
    chosen: Mapping[str, NDArray[Any]],
    least: Mapping[str, float],
    tolerance: float,
) -> None:
    """Check that a fused graph runs, gives the source's outputs (with the source's choices), and gives a map in its range."""
    spec, what = bundle.manifest.input, f"the {role} graph"
    session = open_session(bundle.graph(role), what)
    embedded = session.get_modelmeta().custom_metadata_map["xai_preprocess"] == "embedded"
    if embedded:  # pixels of another size: the graph has to run, but there are no outputs to compare with
        colours = spec.channels if spec.preprocess.color == "CHANNELS" else 3
        pixels = (3, spec.height + 1, spec.width + 2, colours)
        images = np.random.default_rng(0).integers(0, 256, pixels).astype(np.uint8)
    feeds = {**network_inputs(bundle.manifest, images), TARGET: np.full(len(images), PREDICTED, np.int64)}
    feeds |= beside(bundle.manifest.graphs[role], len(images), bundle.manifest.scores.rows)
    results = run_taken(session, feeds, what)
    saliency = results.pop(SALIENCY)
    stated = [len(images), *next(one.shape for one in session.get_outputs() if one.name == SALIENCY)[1:]]
    if any(isinstance(size, int) and size != own for size, own in zip(stated, saliency.shape, strict=True)):
        raise VerificationError(f"{what} gives maps of shape {saliency.shape}, not {stated}; please report it")
    top = 255 if saliency.dtype == np.uint8 else 1
    if not (np.isfinite(saliency).all() and 0 <= saliency.min() <= saliency.max() <= top):
        raise VerificationError(f"{what} gives no map between 0 and {top} on noise images; please report it")
    if chosen and not embedded and (model := pinned_fused(bundle.graph(role), bundle.manifest)) is not None:
        follows = run_taken(open_session(model, what), {**feeds, **chosen}, what)
        if (other := other_choice(follows)) is not None:
            raise VerificationError(f"{what} chooses other rows (TopK) than the source: {other}; please report it")
        results = {name: follows[name] for name in results}
    for name, got in results.items() if not embedded else ():
        want = np.concatenate([e[name] for e in expected])
        difference = relative_difference(got, want, name, least.get(name, 0.0))
        if difference > tolerance:
            raise VerificationError(
                f"{what}'s {name!r} differs from the source's by {difference:.1e}; please report it"
            )


def check_backward(
    contents: Mapping[str, OnnxFile], manifest: Manifest, images: NDArray[Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """Run the graphs that propagate back on noise images: they have to give the tail's logits, and finite values.

    Args:
        contents: The bundle's graphs, by the names of their files.
        manifest: Its manifest.
        images: The images, [n, ...].

    Returns:
        Role -> what is wrong with its graph, and role -> why it gave only zeros.
    """
    between, outputs = forward(
        manifest,
        lambda role, feeds: _run_once(contents[f"{role}.onnx"], feeds, f"the {role}"),
        images,
    )
    logits = outputs[LOGITS]
    wrong: dict[str, str] = {}
    back: dict[str, list[NDArray[Any]]] = {}
    for role, graph in manifest.graphs.items():
        if graph.propagated is None:
            continue
        feeds = {**between, **beside(graph, len(logits), manifest.scores.rows), TARGET: asked(manifest, logits)}
        try:
            results = _run_once(contents[graph.file], feeds, f"the {role} graph")
            difference = relative_difference(results[LOGITS], graph.weighed(logits), LOGITS)
        except (GraphError, VerificationError) as error:
            wrong[role] = str(error)
            continue
        propagated = results_back(graph, results)
        if difference > _tolerance(manifest, logits):
            wrong[role] = f"its logits differ from the tail's by {difference:.1e}; please report it"
        elif not all(np.isfinite(values).all() for values in propagated):
            wrong[role] = "it gives NaN or infinity on noise images (a root or a logarithm of 0 on the way?)"
        else:
            back[role] = propagated
    dead: dict[str, str] = {}
    for level, layer in enumerate(manifest.layers):
        there = {role: values[level] for role, values in back.items() if level < len(values)}
        if all(values.any() for values in there.values()):
            continue
        tail = open_session(contents[f"{role_at(manifest.scoring, level)}.onnx"], "the tail")
        start = at_level(ACTIVATION, level) if manifest.is_cut else manifest.input.name
        for role, why in _why_zero(there, tail, between, start).items():
            dead[f"{role} at {layer.name}" if manifest.levels else role] = why
    return wrong, dead


def _tolerance(manifest: Manifest, logits: NDArray[Any]) -> float:
    """How far a graph's own logits may be from the tail's, as a share of the largest.

    A mean may be computed in another order there. In a network of integers that takes a code on a border to its other side.
    """
    tolerance = 2e-2 if HALF in manifest.extensions else TOLERANCES[manifest.target.dtype]
    largest = float(np.abs(logits).max())
    return (
        max(tolerance, faithful.allowed(manifest, largest) / largest) if manifest.logits_step and largest else tolerance
    )


def _run_once(model: OnnxFile, feeds: Mapping[str, NDArray[Any]], what: str) -> dict[str, NDArray[Any]]:
    """Run a graph in a session that ends here: two sessions of a network with large weights take twice its memory."""
    return run_taken(open_session(model, what), feeds, what)


def _why_zero(
    back: Mapping[str, NDArray[Any]], tail: Any, between: Mapping[str, NDArray[Any]], start: str
) -> dict[str, str]:
    """Role -> why its gradient or relevance at the tensor `start` is zero everywhere, judged on the first image."""
    kind = between[start].dtype

    def logits(others: NDArray[np.float32]) -> NDArray[Any]:
        feeds = {name: value[:1] for name, value in between.items()}
        rows = [run_taken(tail, feeds | {start: o[None].astype(kind)}, "the tail")[LOGITS] for o in others]
        return np.concatenate(rows)

    activation = between[start][0].astype(np.float32)
    reasons = {}
    for role in [role for role, values in back.items() if not values.any()]:
        there = back.get("gradient", np.zeros_like(between[start]))[0]
        raw = np.zeros(activation.shape[1:], np.float32)
        reason = why_constant(raw, activation, logits, partial(np.asarray, there))
        cut_off = role == "input-gradient" or (role == "pixel-relevance" and not _rules_pass_nothing(back))
        reasons[role] = CUT_OFF if reason == NEGATIVE and cut_off else reason
    return reasons


def _rules_pass_nothing(back: Mapping[str, NDArray[Any]]) -> bool:
    """Whether relevance is zero at the pixels because its rules keep what counts for the target, as `constant_here` judges it."""
    if "input-gradient" in back:
        return bool(back["input-gradient"].any())
    return "relevance" in back and not back["relevance"].any()
