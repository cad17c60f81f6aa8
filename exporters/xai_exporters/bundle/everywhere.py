"""Run every graph of a bundle on every installed runtime: its logits have to be those of head and tail on that runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.faithful import HALF, NOISE, how_wrong, instability, said
from xai_deploy.format.bundle import CHOICE, LOGITS, TARGET, Graph, Manifest, fused_method, role_at

from ..backward.precision import HALVES
from ..cut.scores.logits import Logits
from ..cut.scores.steps import quantisation_step
from ..errors import GraphError, VerificationError
from ..graph.measure import OnnxFile
from ..passes.clean import CleanGraph
from .beside import asked, beside, forward
from .chosen import all_pinned, other_choice
from .compared_scores import compare_scores, lists_apart
from .draws import Draws
from .installed import Arrays, Open, Runtime, exactly, installed
from .moved import NEARBY, LogitsOf, moved_by_image, moved_by_scales
from .rounding import Rounding

log = logging.getLogger(__name__)

_LARGE = 0.05
"""The part of the largest logit from which on it is measured what rounding alone does to a network of integers."""
_CODED = 1e-3
"""The part of the largest logit that floats may be off by if weights alone are coded."""
_OTHER_MAP = 0.5
"""The part of a map's largest value from which on codes that fall to the other side do not explain a difference."""


@dataclass(frozen=True)
class Checked:
    """What the runtimes gave.

    Attributes:
        wrong: Role -> which runtime computes it wrongly, and by how much.
        rounding: Role or `PRODUCTS` -> the share of its largest value that rounding decides, if it is `TOLD` or more.
        unverified: Sentences: which runtime can't open or run which graphs.
    """

    wrong: Mapping[str, str]
    rounding: Mapping[str, float]
    unverified: tuple[str, ...] = ()


def check_everywhere(
    contents: Mapping[str, OnnxFile], manifest: Manifest, image: NDArray[Any], further: Sequence[NDArray[Any]] = ()
) -> Checked:
    """Compare every graph's logits with head and tail, runtime by runtime, as the engine opens them: optimised, in float32.

    Args:
        contents: The bundle's graphs, by the names of their files.
        manifest: Its manifest.
        image: The input, [n, ...].
        further: Other images, [n, ...] each, on which it is measured what coarse rounding decides.

    Returns:
        Which graphs are wrong, and what rounding decides. A graph that a runtime can't open or run is told, not wrong.

    Raises:
        VerificationError: A runtime computes head and tail differently from ONNX Runtime without optimisations.
    """
    wrong: dict[str, str] = {}
    unverified: list[str] = []
    rounding = Rounding(manifest)
    first: NDArray[Any] | None = None
    chosen: Arrays = {}
    for runtime, opened, here in (
        ("ONNX Runtime without optimisations", exactly, None),
        *((here.name, here.opened, here) for here in installed()),
    ):
        try:
            between, tail = _head_and_tail(opened, contents, manifest, image, chosen)
        except GraphError as error:
            unverified.append(f"Nothing is verified on {runtime}, which may not run this bundle: {error}")
            continue
        if first is None:
            first, reference = tail[LOGITS], runtime
            # OpenVINO takes NumPy's int64, and not its longlong, which ONNX Runtime gives
            chosen = {name: value.astype(np.int64) for name, value in tail.items() if name.startswith(CHOICE)}
            contents = all_pinned(contents, manifest)  # from here on all graphs take these
            draws = further if further and not chosen else (image,)  # of other images TopK chooses other places
            rounding = Rounding(manifest, Draws(contents, manifest, draws, chosen))
            if not np.isfinite(first).all():
                return Checked({}, {})  # `verify` reports it if the source gives such numbers itself
        if here is None:
            continue
        moved = partial(_moved_by_rounding, contents, manifest, image, chosen)
        compare_scores(runtime, tail, reference, first, manifest, moved)
        feeds = {**between, TARGET: asked(manifest, tail[LOGITS])}
        _compare_tails(partial(_run_role, opened, contents), between, tail, manifest, runtime)
        for role, graph in manifest.graphs.items():
            if not _is_compared(role, graph, manifest):
                continue
            given = {**feeds, **beside(graph, len(image), manifest.scores.rows)}
            try:
                results, how = _examine(here, contents[graph.file], role, given, tail, manifest)
            except GraphError as error:
                unverified.append(f"The {role} graph is not verified on {runtime}, which may not run it: {error}")
                continue
            if how is not None:
                wrong.setdefault(role, f"{runtime} computes it wrongly: {how}")
            elif role not in wrong:
                rounding.add(role, results, given, partial(exactly, contents[graph.file], role))
    return Checked(wrong, rounding.shares(), tuple(unverified))


def _is_compared(role: str, graph: Graph, manifest: Manifest) -> bool:
    """Whether a graph explains, and takes the head's input: with embedded preprocessing it does not."""
    if graph.start == "image" and manifest.inputs[0] not in graph.takes:
        return False
    return graph.propagated is not None or fused_method(role) is not None or role == "own-map"


def _examine(
    runtime: Runtime, model: OnnxFile, role: str, given: Arrays, tail: Arrays, manifest: Manifest
) -> tuple[Arrays, str | None]:
    """What a graph gives, and what is wrong with it."""
    results = runtime.opened(model, f"the {role} graph")(given)
    tail = {**tail, LOGITS: manifest.graphs[role].weighed(tail[LOGITS])}
    fused = fused_method(role) is not None
    how = _how_wrong(results, tail, manifest, fused)
    if how is None and manifest.logits_step and fused:
        plain = runtime.plain(manifest.batch == "one")(model, f"the {role} graph")
        how = _how_wrong_by_default(plain(given), results, tail, manifest, runtime.right_with)
    return results, how


def _run_role(opened: Open, contents: Mapping[str, OnnxFile], role: str, feeds: Arrays) -> Arrays:
    return opened(contents[f"{role}.onnx"], f"the {role}")(feeds)


def _compare_tails(
    run: Callable[[str, Arrays], Arrays], between: Arrays, tail: Arrays, manifest: Manifest, runtime: str
) -> None:
    """Compare the further layers' own tails with the first one.

    Raises:
        VerificationError: The runtime computes one of them differently.
    """
    for level, layer in list(enumerate(manifest.layers))[1:]:
        how = how_wrong(run(role_at("tail", level), between)[LOGITS], tail[LOGITS], manifest)
        if how is not None:
            raise VerificationError(
                f"{runtime} computes the tail from {layer.name!r} differently from the first one: {how}"
            )


def with_precision(
    manifest: Manifest, contents: Mapping[str, OnnxFile], clean: CleanGraph, logits: Logits, images: NDArray[Any]
) -> Manifest:
    """The manifest, with what the tolerances depend on.

    That is whether anything is in half precision, and for a network of integers the quantisation step of the logits and the
    noise of the installed runtimes. If the logits are floats after a quantised layer, 1/255 of their largest magnitude is used
    as the step. If no code falls to its other side on these images, the noise is what the nearest codes change if they do: on other
    images some will.
    """
    half = any(value.dtype in HALVES for node in clean.graph for value in node.outputs)
    extensions = manifest.extensions | ({HALF: "yes"} if half else {})
    step = quantisation_step(clean.graph, logits.value)
    manifest = replace(manifest, logits_step=step or 0.0, extensions=extensions)
    if step == 0 and not any(node.op_type == "DequantizeLinear" for node in clean.graph):
        return manifest  # a network of floats
    exact = _logits(exactly, contents, manifest, images)
    largest = float(np.abs(exact).max())
    if not np.isfinite(largest):
        return manifest  # `verify` reports it
    step, noise = largest / 255 if step is None else step, 0.0  # None: the logits have no step of their own
    for runtime in installed():
        try:
            own = float(np.abs(_logits(runtime.opened, contents, manifest, images) - exact).max())
        except GraphError as error:
            log.warning("the rounding noise of %s is not measured: %s", runtime.name, error)
            continue
        noise = max(noise, own)
        plain = partial(_logits, runtime.plain(clean.was_fixed or manifest.batch == "one"), contents, manifest, images)
        _warn_of_defaults(runtime, plain, exact, own + max(step, _CODED * largest))
    if step == 0:  # codes of weights alone
        return manifest
    manifest = replace(manifest, logits_step=step)
    own = _moved_by_rounding(contents, manifest, images, {}) if noise > _LARGE * largest else 0.0
    if noise < step and not (manifest.scores.rows and manifest.scores.rows.chosen_inside):
        noise = max(
            noise, moved_by_scales(_logits_of(exactly, manifest, {}), _parts_of(contents, manifest), images, NEARBY)
        )
    extensions[NOISE] = said(noise, largest, own)
    manifest = replace(manifest, extensions=extensions)
    if (unstable := instability(manifest)) is not None:
        log.warning("%s", unstable)
    return manifest


def _warn_of_defaults(runtime: Runtime, plain: Callable[[], NDArray[Any]], exact: NDArray[Any], near: float) -> None:
    """Warn if a runtime, as a program opens a file by default, does not compute this quantised network.

    Args:
        runtime: The runtime.
        plain: Gives its logits by default.
        exact: ONNX's.
        near: How far it is from them as we open it, and a quantisation step.
    """
    advice = f"Explanations are not concerned: {runtime.ours}"
    try:
        apart = float(np.abs(plain() - exact).max())
    except GraphError as error:
        log.warning(
            "%s does not run this quantised network as it opens files by default. %s. (%s)", runtime.name, advice, error
        )
        return
    if apart > 3 * near:
        log.warning(
            "%s computes this quantised network wrongly as it opens files by default: its logits are off by %.2g, and the "
            "largest is %.2g. %s. Compare the outputs of your own file there, and open it with %s",
            runtime.name,
            apart,
            np.abs(exact).max(),
            advice,
            runtime.right_with,
        )


def _logits(
    opened: Open,
    contents: Mapping[str, OnnxFile],
    manifest: Manifest,
    images: NDArray[Any],
    chosen: Arrays | None = None,
) -> NDArray[np.float64]:
    """The logits that head and tail give for some images, one at a time, [n,classes]; `chosen`: what a pinned tail takes."""
    graphs = {role: opened(contents[f"{role}.onnx"], f"the {role}") for role in manifest.parts}
    rows = []
    for i in range(len(images)):
        own = {name: places[i : i + 1] for name, places in (chosen or {}).items()}
        run_role = lambda role, feeds, own=own: graphs[role]({**feeds, **own})  # noqa: E731
        rows.append(forward(manifest, run_role, images[i : i + 1])[1][LOGITS])
    return np.concatenate(rows).astype(np.float64)


def _head_and_tail(
    opened: Open, contents: Mapping[str, OnnxFile], manifest: Manifest, image: NDArray[Any], chosen: Arrays
) -> tuple[dict[str, NDArray[Any]], Arrays]:
    """What the tail takes for an input, the places that TopK chose among it, and what it gives."""

    def run_role(role: str, feeds: Arrays) -> Arrays:
        return opened(contents[f"{role}.onnx"], f"the {role}")({**feeds, **chosen})

    between, results = forward(manifest, run_role, image)
    return {**between, **chosen}, results


def _moved_by_rounding(
    contents: Mapping[str, OnnxFile], manifest: Manifest, images: NDArray[Any], chosen: Arrays
) -> float:
    """How far rounding moves the logits on ONNX Runtime, at most; as a share of the boxes if they are a list."""
    by_onnx, parts = _logits_of(exactly, manifest, chosen), _parts_of(contents, manifest)
    if manifest.scores.rows is not None and manifest.scores.rows.chosen_inside:
        return moved_by_image(by_onnx, parts, images, partial(lists_apart, manifest=manifest))
    by_scales = moved_by_scales(by_onnx, parts, images) if manifest.logits_step else 0.0
    return max(by_scales, moved_by_image(_logits_of(next(installed()).opened, manifest, chosen), parts, images))


def _logits_of(opened: Open, manifest: Manifest, chosen: Arrays) -> LogitsOf:
    """(Graphs, images) -> `_logits`."""
    return lambda graphs, x: _logits(opened, graphs, manifest, x, chosen)


def _parts_of(contents: Mapping[str, OnnxFile], manifest: Manifest) -> dict[str, OnnxFile]:
    """Head and tail, by the names of their files."""
    return {name: contents[name] for name in (f"{role}.onnx" for role in manifest.parts)}


def _how_wrong(results: Arrays, tail: Arrays, manifest: Manifest, fused: bool) -> str | None:
    """As `how_wrong`, for the logits, or for the network's own outputs, which a fused graph gives; one may be called `logits`."""
    if LOGITS in results and not fused:
        return how_wrong(results[LOGITS], tail[LOGITS], manifest)
    if (other := other_choice(results)) is not None:
        return f"it chooses other rows (TopK) than head and tail: {other}"
    # the noise was measured on the logits; for other outputs it says nothing
    flat = replace(manifest, extensions={n: text for n, text in manifest.extensions.items() if n != NOISE})
    for output in manifest.outputs:
        own = output.tensor == LOGITS  # a probability moves more than its logit if few classes are probable
        how = how_wrong(results[output.name], tail[output.tensor], manifest if own else flat, times=1.0 if own else 3.0)
        if how is not None:
            return f"{output.name!r}: {how}"
    return None


def _how_wrong_by_default(
    plain: Arrays, results: Arrays, tail: Arrays, manifest: Manifest, right_with: str
) -> str | None:
    """As `_how_wrong`, for a fused graph of a network of integers as programs open it; its map may move by a code."""
    apart = 0.0
    for name in results.keys() - {output.name for output in manifest.outputs}:
        if results[name].any():  # a map of zeros moves to anything if a code falls to the other side
            there, here = plain[name].astype(np.float64), results[name]
            apart = max(apart, float(np.abs(there - here).max() / np.abs(here).max()))
    moved = f"its map differs by {apart:.0%} from ONNX's" if not apart < _OTHER_MAP else None
    how = _how_wrong(plain, tail, manifest, fused=True) or moved
    return None if how is None else f"{how}, as programs open files by default, and is right with {right_with}"
