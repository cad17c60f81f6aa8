"""xai-export: trained network -> bundle."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

from xai_deploy.faithful import instability, rounding, rounding_warning
from xai_deploy.format.bundle import Manifest, Preprocess
from xai_deploy.foundation import exits, json_report
from xai_deploy.foundation.progress import MINUTE

from .arguments import make_parser, request_of
from .bundle.recipes import Unstated
from .cut.costs import NO_CUT, Candidate
from .export_result import Export
from .pipeline import export, list_layers
from .question import ask, can_ask, refuse
from .request import Preset

STEP = "step: "
"""How the lines of --steps begin."""

_UNBOUNDED = 1_000_000
"""Columns of a table that is never wrapped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, see `xai_deploy.foundation.exits`."""
    return exits.run("xai-export", lambda: _run(arguments), "interrupted; nothing was written")


def _run(arguments: Sequence[str] | None) -> None:
    options = make_parser().parse_args(arguments)
    level = logging.WARNING if not options.verbose else logging.INFO if options.verbose == 1 else logging.DEBUG
    logging.basicConfig(level=level if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    request = request_of(options)
    if json_report.settle(options) and not options.quiet:
        print(f"xai-export: warning: {json_report.BARE_IS_OLD}", file=sys.stderr)
    json_report.require_place(options.json)
    printed = options.json == json_report.PRINTED
    with _steps(options.quiet or printed, options.steps) as say:
        if options.list_layers:
            cuts = list_layers(request, say)
        else:
            done = export(request, say, say.ask if can_ask() and not options.quiet else refuse)
    if options.list_layers:
        _show_layers(cuts, options.json)
        return
    if options.json:
        json_report.write_json(_as_json(done) | {"reads": _reads(done, options)}, options.json)
    if not (printed or options.quiet):
        _print_summary(done)


class _Steps:
    """Shows the current step: with a spinner, which pauses for a question; else as a line, a minute after the last one.

    Args:
        spinner: The spinner at a terminal.
        silent: Show nothing.
    """

    def __init__(self, spinner: Status | None = None, silent: bool = False) -> None:
        self.spinner, self.silent = spinner, silent
        self.last = time.monotonic()

    def __call__(self, step: str) -> None:
        now = time.monotonic()
        if self.spinner is not None:
            self.spinner.update(f"{step} ...")
        elif not self.silent and now - self.last >= MINUTE:
            self.last = now
            print(f"xai-export: {step} ...", file=sys.stderr)

    def ask(self, unstated: Unstated) -> Preset:
        """See `question.ask`."""
        if self.spinner is None:
            return ask(unstated)
        self.spinner.stop()
        try:
            return ask(unstated)
        finally:
            self.spinner.start()


class _StepLines(_Steps):
    """Names each step in a line."""

    def __call__(self, step: str) -> None:
        print(f"{STEP}{step}", file=sys.stderr, flush=True)


@contextmanager
def _steps(silent: bool, as_lines: bool = False) -> Iterator[_Steps]:
    """A spinner that names the current step, at a terminal; a line a minute elsewhere. Or a line for each step."""
    if as_lines:
        yield _StepLines()
        return
    console = Console(stderr=True)
    if silent or not console.is_terminal:
        yield _Steps(silent=silent)
        return
    with console.status("starting") as status:
        yield _Steps(status)


def _show_layers(cuts: Sequence[Candidate], json_place: str | None) -> None:
    if json_place:
        json_report.write_json([cut.__dict__ for cut in cuts], json_place)
    if json_place == json_report.PRINTED:
        return
    if not cuts:
        print(f"{NO_CUT[0].upper()}{NO_CUT[1:]}.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in (("layer", "left"), ("operator", "left"), ("K x h x w", "right"), ("side tensors", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    table.add_column("work before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("follows the image")
    for cut in cuts:
        sides = ", ".join(" x ".join(map(str, side)) for side in cut.sides) or "-"
        shares = (f"{100 * cut.before:.1f} %", f"{100 * cut.after:.1f} %")
        table.add_row(", ".join(cut.names), cut.op, " x ".join(map(str, cut.shape)), sides, *shares, cut.follows or "-")
    # as wide as the names need: a terminal wraps a long line, but breaks no name that is copied
    console = _Console(highlight=False, markup=False, emoji=False, width=_UNBOUNDED)
    console.print(table)
    console.print(
        f"\n{len(cuts)} cuts. Work is counted in multiply-adds; 'after' is repeated for each position by ReciproCAM.\n"
        "'follows the image' is measured on noise: whether the cells answer to patches at their own place.",
        style="dim",
    )


def _as_json(done: Export) -> dict[str, Any]:
    further = {"randomised": [_as_json(one) for one in done.randomised]} if done.randomised else {}
    return {
        "bundle": str(done.path),
        "source": done.kind,
        "batch_was_fixed": done.batch_was_fixed,
        "one_because": done.one_because,
        "layer_note": done.layer_note,
        "zero_on_noise": dict(done.dead),
        "dropped_outputs": list(done.dropped_outputs),
        "notes": list(done.notes),
        "difference": {"source": done.verified.source, "framework": done.verified.framework},
        "beside": [str(folder) for folder in done.beside],
        "size": done.size,
        "seconds": round(done.seconds, 3),
        "manifest": json.loads(done.manifest.to_bytes()),
        **further,
    }


def _reads(done: Export, options: argparse.Namespace) -> list[str]:
    """The files on which the bundle depends beside its source."""
    return [str(file) for file in (*done.reads, *([options.config.absolute()] if options.config else []))]


def _scores(manifest: Manifest) -> tuple[str, str]:
    """What the network gives, as the summary says it."""
    scores, named = manifest.scores, "" if manifest.labels else " (no labels)"
    if (rows := scores.rows) is not None:
        many = "one of several classes" if rows.labelled else f"{rows.classes} classes"
        said = f"{rows.decoder}: {scores.shape[1]} rows of {many}{named}, boxes as {rows.form} in {rows.unit}"
        return "detector", said
    if scores.kind == "dense":
        return "classes", f"{manifest.classes}{named} at each of {' x '.join(map(str, scores.shape[1:]))} positions"
    if scores.kind == "vector" and scores.normalised:
        said = (
            f"{manifest.classes} numbers of length 1, compared by cosine; if they are scores of classes: --task classes"
        )
        return "embedding", said
    return ("numbers", str(manifest.classes)) if scores.kind == "vector" else ("classes", f"{manifest.classes}{named}")


_GEOMETRY = {"stretch": "stretched", "letterbox": "letterbox"}


def _preprocessing(how: Preprocess) -> str:
    """For people: geometry, filter, colours and numbers."""
    geometry = _GEOMETRY[how.resize] if isinstance(how.resize, str) else f"{how.resized}, centre crop"
    filtered = f"{how.interpolation}{'' if how.antialias else ' without antialiasing'}"
    numbers = f"x {how.scale:.6g}, mean {_numbers(how.mean)}, std {_numbers(how.std)}"
    return f"{geometry} ({filtered}), {how.color}, {numbers}"


def _print_summary(done: Export) -> None:
    manifest = done.manifest
    spec = manifest.input
    console = _console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    single = done.one_because is not None
    table.add_row("source", done.kind)
    size = " x ".join(map(str, (spec.channels, *spec.size)))
    table.add_row("input", f"{spec.name}: {size}, {spec.layout}, {spec.dtype}" + (
        "; one at a time" if single else "; batch made symbolic" if done.batch_was_fixed else ""))  # fmt: skip
    table.add_row("preprocessing", _preprocessing(spec.preprocess))
    table.add_row("layer", _layer(manifest))
    table.add_row(*_scores(manifest))
    table.add_row("graphs", ", ".join(f"{role} (opset {graph.opset})" for role, graph in manifest.graphs.items()))
    against = f"source {done.verified.source:.1e}"
    if done.verified.framework is not None:
        against += f", {done.framework} {done.verified.framework:.1e}"
    how_run = "3 images, one at a time" if single else "3 images at once as 3 singles"
    table.add_row("verified", f"relative difference to the {against}; {how_run}")
    console.print(table)
    if single:
        console.print(f"The bundle takes one image at a time, which is slower: {done.one_because}", style="yellow")
    if done.layer_note is not None:
        console.print(f"{done.layer_note}.", style="yellow")
    for reason in dict.fromkeys(manifest.left_out.values()):
        roles = ", ".join(role for role, why in manifest.left_out.items() if why == reason)
        several = "s" if ", " in roles else ""
        console.print(f"No {roles} graph{several}: {reason}.", style="yellow")
    measured = rounding(manifest).items()
    decided = [instability(manifest), *(rounding_warning(name, share, manifest) for name, share in measured)]
    for sentence in filter(None, decided):
        console.print(f"{sentence[0].upper()}{sentence[1:]}.", style="yellow")
    for role, reason in done.dead.items():
        console.print(
            f"The {role} at {(manifest.target.asked or 'the image')!r} is zero on noise images ({reason}).",
            style="yellow",
        )
    if done.dropped_outputs:
        console.print(
            f"Left out, because they do not hold one result per image: {', '.join(done.dropped_outputs)}.",
            style="yellow",
        )
    for line in done.notes:
        console.print(line, style="yellow" if spec.preprocess.assumed else None)
    if spec.preprocess.assumed:
        console.print(
            "The preprocessing was not stated in full; some of it is assumed. Check it, or give --preprocess.",
            style="yellow",
        )
    for one in done.randomised:
        _print_randomised(one, done, console)
    for folder in done.beside:
        console.print(f"Wrote {folder}.", soft_wrap=True)
    seconds = done.seconds + sum(one.seconds for one in done.randomised)
    console.print(f"Wrote {done.path} ({done.size / 1e6:.1f} MB) in {seconds:.1f} s.", soft_wrap=True)


def _layer(manifest: Manifest) -> str:
    """Where the network was cut, and how many tensors pass beside; a line for each layer."""
    if not manifest.is_cut:
        return "none: the network stays whole"
    lines = []
    for level, layer in enumerate(manifest.layers):
        sides = len(manifest.at(level).side)
        beside = f", beside it {sides} side tensor(s)" if sides else ""
        lines.append(f"{layer.asked} = {layer.tensor}: {' x '.join(map(str, layer.shape))}{beside}")
    return "\n".join(lines)


def _print_randomised(done: Export, beside: Export, console: Console) -> None:
    """One line about a randomised bundle, and one for each graph that differs in this from the network's own bundle."""
    random = done.manifest.randomised
    assert random is not None
    count, last = len(random.layers), random.layers[-1]
    layers = f"{last} is random" if count == 1 else f"{count} layers are random, down to {last}"
    console.print(f"Wrote {done.path} ({done.size / 1e6:.1f} MB): {layers}.", soft_wrap=True)
    for role, reason in done.manifest.left_out.items():
        if role not in beside.manifest.left_out:
            console.print(f"No {role} graph in it: {reason}.", style="yellow")
    for role in done.dead:
        if role not in beside.dead:
            console.print(f"Its {role} is zero on noise images: the random layers pass no signal.", style="yellow")


def _console() -> Console:
    """Standard output, as wide as the terminal; wide enough for long lines if there is no terminal."""
    # names from the network are no markup: "[/x]" and ":cat:" stay as they are
    console = _Console(highlight=False, markup=False, emoji=False)  # which would wrap at 80 columns without a terminal
    return console if console.is_terminal else _Console(highlight=False, markup=False, emoji=False, width=160)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End as every other command does, instead of with rich's exit status 1."""
        raise BrokenPipeError


def _numbers(values: Sequence[float]) -> str:
    same = len(set(values)) == 1
    return f"{values[0]:g}" if same else "/".join(f"{v:g}" for v in values)


if __name__ == "__main__":
    sys.exit(main())
