"""xai-export: trained network -> bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xai_deploy.foundation import exits

from . import parse
from .bundle.preprocess import PRESETS
from .cut.costs import NO_CUT, Candidate
from .deliver.repositories.base import servers
from .errors import RequestError
from .pipeline import Export, Say, export, list_layers
from .relevance.composite import composites
from .request import Request, load_config
from .roles.fuse.base import fused as fused_methods
from .roles.plan import plan_roles

_SAFETY = """files from strangers:
  safetensors, state dicts (torch.save of model.state_dict()) and ONNX run no code; pickled modules, TorchScript and .pt2
  can do whatever you can, and are refused without --trust-code. --arch imports and runs the Python that it names.

"""
_EPILOG = """examples:
  xai-export resnet50.pt --split layer4
  xai-export checkpoint.pth --arch mynets:build --split auto --input-shape 3,320,320
  xai-export model.onnx --list-layers
  xai-export model.onnx --preprocess imagenet --fuse grad-cam --serve-repo triton repository/
  xai-export model.onnx --preprocess imagenet --fuse reciprocam,grad-cam --web site/
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, see `xai_deploy.foundation.exits`."""
    return exits.run("xai-export", lambda: _run(arguments), "interrupted; nothing was written")


def _run(arguments: Sequence[str] | None) -> None:
    options = _parser().parse_args(arguments)
    level = logging.WARNING if not options.verbose else logging.INFO if options.verbose == 1 else logging.DEBUG
    logging.basicConfig(level=level if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    request = _request(options)
    with _steps(options.quiet or options.json) as say:
        if options.list_layers:
            cuts = list_layers(request, say)
        else:
            done = export(request, say)
    if options.list_layers:
        _print_layers(cuts, options.json)
    elif options.json:
        print(json.dumps(_as_json(done), indent=1))
    elif not options.quiet:
        _print_summary(done)


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = exits.Parser(
        prog="xai-export",
        description="Cut a trained network at a layer and write the bundle from which xai-deploy explains it.",
        epilog=_SAFETY + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, help="state dict, checkpoint, torch module, TorchScript, .pt2, safetensors or ONNX file")
    add("--split", metavar="LAYER", help="module path, node or tensor to cut at (default: auto, the last activation)")
    add(
        "-o",
        "--output-path",
        type=Path,
        metavar="NAME.xai",
        help="bundle folder to write (default: SOURCE's name + .xai)",
    )
    add("--overwrite", action="store_true", default=None, help="replace an existing bundle, repository or page")
    add("--list-layers", action="store_true", help="print every legal cut, its cost and side tensors; write nothing")
    add("--config", type=Path, metavar="FILE.toml", help="read options from a TOML file; the command line wins")
    add("--name", help="the network's name in the manifest")
    roles = plan_roles(Request(Path())).roles
    network = parser.add_argument_group("the network")
    add = network.add_argument
    add(
        "--arch",
        metavar="MODULE:CALLABLE",
        help="builds the network of a state dict; FILE.py:CALLABLE or a torchvision name",
    )
    add(
        "--arch-options",
        type=parse.options,
        metavar="KEY=VALUE[,KEY=VALUE]",
        help="its keyword arguments that the weights do not tell, for example transform_input=true",
    )
    add(
        "--trust-code",
        "--trust-pickle",
        action="store_true",
        default=None,
        help="read a pickled module, TorchScript or .pt2, which run code from the file (--trust-pickle is the old name)",
    )
    add(
        "--input-shape",
        type=parse.shape,
        metavar="C,H,W",
        help="one image (default: what the source says; for torch 3,224,224)",
    )
    add("--output", metavar="NAME", help="the output to explain, where the network has several")
    add("--labels", type=Path, metavar="FILE", help="text file with one label a line")
    add(
        "--roles",
        type=parse.words,
        metavar="ROLE[,ROLE]",
        help=f"graphs to write beside head and tail ({', '.join(r for r in roles if r not in ('head', 'tail'))})",
    )
    add("--input-gradient", action="store_true", default=None, help="write the graph of the gradient at the image, too")
    add("--guided", action="store_true", default=None, help="write the graph of guided backpropagation, too")
    add(
        "--composite",
        action="append",
        metavar="NAME|FILE",
        help=f"a further composite of relevance rules ({', '.join(composites())}) or a .toml file; repeatable",
    )
    add(
        "--pixel-relevance",
        action="store_true",
        default=None,
        help="write relevance down to the image, too (lrp, clrp, sglrp)",
    )
    add(
        "--keep-batchnorm",
        action="store_true",
        default=None,
        help="do not merge BatchNorm before relevance is propagated",
    )
    add(
        "--randomise",
        type=int,
        metavar="N",
        help="write N further bundles, their weights random from the logits down step by step (sanity check)",
    )
    add("--randomise-seed", type=int, metavar="S", help="seed of the random weights (default: 0)")
    fused = parser.add_argument_group("fused graphs: image -> the network's outputs and a saliency map, in one file")
    add = fused.add_argument
    add(
        "--fuse",
        action="append",
        metavar="METHOD[,METHOD]",
        help=f"write fused-METHOD.onnx ({', '.join(fused_methods)}); options as METHOD:NAME=VALUE",
    )
    add("--fixed-target", action="store_true", default=None, help="no input `target`: always the predicted class")
    add("--map-size", choices=("activation", "input"), help="the map as the method gives it (default), or resized")
    add("--uint8", action="store_true", default=None, help="the map in 0-255 instead of [0,1]")
    add(
        "--embed-preprocess",
        action="store_true",
        default=None,
        help="take uint8 images [N,height,width,3] of any size; resize and normalise in the graph",
    )
    add("--format", choices=("onnx", "openvino"), help="openvino: OpenVINO IR of them, too (default: onnx alone)")
    add(
        "--serve-repo",
        nargs=2,
        metavar=("SERVER", "DIR"),
        help=f"write a model repository of the plain and the fused networks ({', '.join(servers)})",
    )
    add("--web", type=Path, metavar="DIR", help="write a page that explains images in the browser, as static files")
    add("--ort-web", type=Path, metavar="FILE|DIR", help="onnxruntime-web's package for it (default: fetched from npm)")
    image = parser.add_argument_group("preprocessing, for the manifest")
    add = image.add_argument
    add(
        "--preprocess",
        choices=PRESETS,
        help="preset: imagenet (torchvision), tf (x/127.5-1), none (pixels as they are)",
    )
    add("--resize", type=parse.resize, metavar="PIXELS|stretch", help="shorter side before the centre crop, or stretch")
    add("--interpolation", choices=("bilinear", "bicubic", "nearest"))
    add(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="widen the filter when shrinking (as PIL)",
    )
    add("--color", choices=("RGB", "BGR", "GRAY"), help="channel order the network takes")
    add("--scale", type=float, help="factor on the 8-bit value, before mean and std")
    add("--mean", type=parse.floats, metavar="A,B,C", help="after scaling, in the order of the network's channels")
    add("--std", type=parse.floats, metavar="A,B,C", help="likewise")
    add = parser.add_argument
    add("--json", action="store_true", help="print the summary as JSON")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")
    add("-v", "--verbose", action="count", default=0, help="log what is done; twice for more")
    add("--version", action="version", version=f"xai-deploy-exporters {__version__}")
    return parser


_FIELDS = ("resize", "interpolation", "antialias", "color", "scale", "mean", "std")


def _request(options: argparse.Namespace) -> Request:
    """Options over the config file's values."""
    values: dict[str, Any] = load_config(options.config) if options.config else {}
    given = {f.name: getattr(options, f.name, None) for f in dataclasses.fields(Request)}
    values |= {key: value for key, value in given.items() if value is not None}
    if options.composite is not None:
        values["composite"] = tuple(options.composite)
    if options.serve_repo is not None:
        values["serve_repo"] = options.serve_repo[0], Path(options.serve_repo[1])
    if options.fuse is not None:
        values["fuse"] = tuple(part for given in options.fuse for part in parse.words(given))
        if not values["fuse"]:
            raise RequestError(f"--fuse: no method is named; there are {', '.join(fused_methods)}")
    if options.preprocess is not None:
        values["preprocess_fields"] = {}  # the command line's preset wins over the file's fields
    fields = {key: getattr(options, key) for key in _FIELDS if getattr(options, key) is not None}
    values["preprocess_fields"] = {**values.get("preprocess_fields", {}), **fields}
    return Request(**values)


@contextmanager
def _steps(silent: bool) -> Iterator[Say]:
    """A spinner that names the current step, at a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if silent or not console.is_terminal:
        yield lambda step: None
        return
    with console.status("starting") as status:
        yield lambda step: status.update(f"{step} ...")


def _print_layers(cuts: Sequence[Candidate], as_json: bool) -> None:
    if as_json:
        print(json.dumps([cut.__dict__ for cut in cuts], indent=1))
        return
    if not cuts:
        print(f"{NO_CUT[0].upper()}{NO_CUT[1:]}.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in (("layer", "left"), ("operator", "left"), ("K x h x w", "right"), ("side tensors", "right")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("work before", justify="right")
    table.add_column("after", justify="right")
    for cut in cuts:
        sides = ", ".join(" x ".join(map(str, side)) for side in cut.sides) or "-"
        shares = (f"{100 * cut.before:.1f} %", f"{100 * cut.after:.1f} %")
        table.add_row(", ".join(cut.names), cut.op, " x ".join(map(str, cut.shape)), sides, *shares)
    console = _console()
    console.print(table, soft_wrap=not console.is_terminal)
    console.print(
        f"\n{len(cuts)} cuts. Work is counted in multiply-adds; 'after' is repeated for each position by ReciproCAM.",
        style="dim",
    )


def _as_json(done: Export) -> dict[str, Any]:
    further = {"randomised": [_as_json(one) for one in done.randomised]} if done.randomised else {}
    return {
        "bundle": str(done.path),
        "source": done.kind,
        "batch_was_fixed": done.batch_was_fixed,
        "dropped_outputs": list(done.dropped_outputs),
        "notes": list(done.notes),
        "difference": {"source": done.verified.source, "framework": done.verified.framework},
        "beside": [str(folder) for folder in done.beside],
        "size": done.size,
        "seconds": round(done.seconds, 3),
        "manifest": json.loads(done.manifest.to_bytes()),
        **further,
    }


def _print_summary(done: Export) -> None:
    manifest = done.manifest
    spec, target = manifest.input, manifest.target
    console = _console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    single = done.one_because is not None
    table.add_row("source", done.kind)
    size = f"{spec.channels} x {spec.height} x {spec.width}"
    table.add_row("input", f"{spec.name}: {size}, {spec.layout}, {spec.dtype}" + (
        "; one at a time" if single else "; batch made symbolic" if done.batch_was_fixed else ""))  # fmt: skip
    how = spec.preprocess
    geometry = "stretched" if how.resize == "stretch" else f"shorter side {how.resize}, centre crop"
    numbers = f"x {how.scale:.6g}, mean {_numbers(how.mean)}, std {_numbers(how.std)}"
    table.add_row("preprocessing", f"{geometry}, {how.color}, {numbers}")
    table.add_row("layer", f"{target.asked} = {target.tensor}: {' x '.join(map(str, target.shape))}" + (
        f", beside it {len(manifest.side)} side tensor(s)" if manifest.side else ""))  # fmt: skip
    table.add_row("classes", f"{manifest.classes}" + ("" if manifest.labels else " (no labels)"))
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
    for role, reason in done.dead.items():
        console.print(
            f"The {role} at {target.asked!r} is zero on noise images ({reason}).",
            style="yellow",
        )
    if done.dropped_outputs:
        console.print(
            f"Left out, for they are not one result per image: {', '.join(done.dropped_outputs)}.", style="yellow"
        )
    for line in done.notes:
        console.print(line, style="yellow" if how.assumed else None)
    if how.assumed:
        console.print(
            "Preprocessing was not stated in full and is assumed: check it, or give --preprocess.", style="yellow"
        )
    for one in done.randomised:
        _print_randomised(one, done, console)
    for folder in done.beside:
        console.print(f"Wrote {folder}.", soft_wrap=True)
    seconds = done.seconds + sum(one.seconds for one in done.randomised)
    console.print(f"Wrote {done.path} ({done.size / 1e6:.1f} MB) in {seconds:.1f} s.", soft_wrap=True)


def _print_randomised(done: Export, beside: Export, console: Console) -> None:
    """One line on a randomised bundle, and one on each graph that is not as the network's own."""
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
            console.print(f"Its {role} is zero on noise images: the random layers let nothing through.", style="yellow")


def _console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for a line where there is none."""
    console = _Console(highlight=False)
    return console if console.is_terminal else _Console(highlight=False, width=160)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """As every other command ends, in place of rich's exit status 1."""
        raise BrokenPipeError


def _numbers(values: Sequence[float]) -> str:
    same = len(set(values)) == 1
    return f"{values[0]:g}" if same else "/".join(f"{v:g}" for v in values)


if __name__ == "__main__":
    sys.exit(main())
