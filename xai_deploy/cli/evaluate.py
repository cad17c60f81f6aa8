"""xai-evaluate: the metrics of the papers, for a deployed network and the user's own images."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from .. import DetectionLimits, backend_names
from ..errors import InputError
from ..evaluation import report, session
from ..evaluation.metrics import Column, metrics
from ..evaluation.session import Results
from ..evaluation.summary import Figure
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.options import Named
from ..foundation.printable import printable
from ..targets import Like, One
from . import examples, merging
from .arguments import MethodRequest, describe_options, parse_methods, with_segments
from .console import Parser, command, positive, silence_opencv
from .going_on import GoingOn
from .model_file import add_export, bundle_paths

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["merge"]:
        return command(merging.parser(), lambda arguments: merging.merge(arguments, _parser(), _evaluate), given[1:])
    return command(_parser(), _evaluate, argv)


def _evaluate(arguments: argparse.Namespace, parts: Sequence[str] = ()) -> None:
    session.require()
    silence_opencv()
    bundles, images = _bundles_and_images(arguments)
    require_place(arguments.json)
    methods = with_segments(parse_methods(arguments.method or []), arguments.segments)
    going_on = GoingOn(arguments.quiet or bool(parts))
    if arguments.shard is not None:
        merging.keep_command(arguments)
    try:
        results = session.evaluate(
            bundle_paths(bundles, arguments, methods),
            images,
            out=arguments.out,
            methods=_named(methods),
            metrics=_named(parse_methods(arguments.metrics or [])),
            target=_target(arguments),
            labelled=arguments.labelled,
            boxes=arguments.boxes or None,
            boxes_of=arguments.boxes_of,
            masks=arguments.masks or None,
            masks_of=arguments.masks_of,
            recursive=arguments.recursive,
            skip_bad=arguments.skip_bad,
            limit=arguments.limit,
            seed=arguments.seed,
            max_pixels=arguments.max_pixels,
            input_range=arguments.input_range,
            inputs=arguments.input or (),
            detections=DetectionLimits(arguments.detect_score, arguments.detect_overlap),
            backends=[name.strip() for text in arguments.backend or [] for name in text.split(",")],
            device=arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            cache=arguments.cache,
            trusted_key=arguments.trusted_key,
            overwrite=arguments.overwrite,
            progress=not arguments.quiet,
            on_chunk=going_on,
            command=arguments.command,
            shard=None if arguments.shard is None else str(arguments.shard),
            parts=parts,
            ray=arguments.ray,
            ray_workers=arguments.ray_workers,
        )
    except KeyboardInterrupt:
        going_on.interrupted()
        raise
    _show(results, arguments)


def _target(arguments: argparse.Namespace) -> One:
    """What is explained; None: what the networks predict.

    Raises:
        InputError: A class and a picture are given.
    """
    if arguments.target and arguments.like:
        raise InputError("give -t or --like: an evaluation explains one target")
    if arguments.like:
        return Like(arguments.like)
    return arguments.target or None


def _bundles_and_images(arguments: argparse.Namespace) -> tuple[list[str], str]:
    """The bundles, and the folder of images: the last of the arguments, or what the old option --images names.

    Raises:
        InputError: There is no bundle, or no folder.
    """
    bundles, images = arguments.paths, arguments.images
    if images is None:
        *bundles, images = bundles
    else:
        log.warning("--images is the old spelling; give the folder after the bundles")
    if not bundles:
        raise InputError("give BUNDLE and DIR, the folder of images")
    return bundles, images


def _named(requests: Sequence[MethodRequest]) -> list[Named] | None:
    """Names with their options; None if the user names nothing."""
    return [(request.name, request.options) for request in requests] or None


def _show(results: Results, arguments: argparse.Namespace) -> None:
    """Write the results to the file that --json names, and print a table unless --quiet is given."""
    if arguments.json:
        write_json(results.document, arguments.json)
    if arguments.shard is not None:
        merging.show(results, arguments)
    elif arguments.json != PRINTED and not arguments.quiet:
        lines = [*_table(results), *(f"  {line}" for line in report.choices(results.plan))]
        skipped = f", {len(results.skipped)} skipped" if results.skipped else ""
        for line in (*lines, f"{results.images} images{skipped}; see {results.out / 'report.html'}"):
            print(printable(line))


def _table(results: Results) -> list[str]:
    """The figures as lines of text: blocks of five columns, one below the other."""
    groups, networks, methods = results.groups, results.networks, results.plan.titles
    shown = [c for c in results.columns if ":" not in c.name and any(c.name in group.figures for group in groups)]
    heads = [(f"{networks[group.network]}: " if len(networks) > 1 else "") + methods[group.method] for group in groups]
    width = max(map(len, heads))
    lines = []
    for start in range(0, len(shown), 5):
        block = [
            [c.name, *(_cell(g.figures.get(c.name), c, results.images) for g in groups)]
            for c in shown[start : start + 5]
        ]
        wide = [max(22, *map(len, cells)) for cells in block]
        for head, *cells in zip(["", *heads], *block, strict=True):
            lines.append(f"{head:{width}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, wide, strict=True)))
        lines.append("")
    return lines


def _cell(figure: Figure | None, column: Column, images: int) -> str:
    if figure is None or figure.mean is None:
        return "-"
    digits = 1 if column.percent else 3
    few = f" n={figure.count}" if figure.count < images else ""  # the figure is not defined for the other images
    if figure.low is None or figure.high is None:
        return f"{figure.mean:.{digits}f}{few}"
    return f"{figure.mean:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]{few}"


class _ListMetrics(argparse.Action):
    """Like --version: print and exit, even if required arguments are missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name in metrics:
            print("\n".join(describe_options(name, metrics.get(name))))
        parser.exit()


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"at least 0, not {text}")
    return value


def _add_truth(parser: Parser) -> None:
    """Add the options for what people annotated."""
    add = parser.add_argument
    add("--boxes", metavar="PATH", help="boxes: COCO json, csv, or a folder of YOLO txt or Pascal VOC xml files")
    add(
        "--boxes-of",
        choices=("all", "class"),
        default="all",
        help="all boxes, or those of the class explained; of a detection the box it is of",
    )
    add("--masks", metavar="DIR", help="folder of PNG masks with the images' names; for volumes of .npy arrays")
    masks = "all that is not black in a mask, or the pixels whose grey value is the class explained"
    add("--masks-of", choices=("all", "class"), default="all", help=masks)
    add(
        "--labelled",
        action="store_true",
        help="explain the class that each image's archive gives: KEY.cls or KEY.json of a tar file, the column 'label' of Parquet",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="xai-evaluate",
        description="Measure explanations of a deployed network on a folder of images: faithfulness, complexity, localisation, "
        "sanity. Give the same command again to continue an evaluation that was interrupted.",
        epilog=examples.EVALUATE,
    )
    add = parser.add_argument
    add(
        "paths",
        metavar="BUNDLE ... DIR",
        nargs="+",
        help="folder written by xai-export, or a model file; several are compared with the first; then the images: a folder, "
        ".tar or .parquet",
    )
    add("--images", help=argparse.SUPPRESS)  # the old spelling of DIR
    parser.add_recursive()
    parser.add_skip_bad(default=True)
    _add_truth(parser)
    parser.add_method("fast")
    parser.add_detections()
    parser.add_segments()
    parser.add_inputs()
    add(
        "--metrics",
        action="append",
        metavar="M[,M...]",
        help="metrics, with options as in deletion:steps=50; 'trusted' is a set of them",
    )
    what = (
        "class to explain, in a segmentation also A@WHERE; #3 is output 3; of a detector 'box 0' or a class (default: each image's "
        "predicted class, or best detection)"
    )
    add("-t", "--target", metavar="ID|LABEL|A@WHERE|#N|box K", help=what)
    add("--like", metavar="IMAGE|VECTOR.npy", help="for embeddings: explain how alike each image is to this one")
    add(
        "-b", "--backend", action="append", metavar="B[,B...]", help=f"inference runtimes: {', '.join(backend_names())}"
    )
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--precision", default="f32", choices=("f32", "tf32", "f16", "bf16"), help="arithmetic (default: f32)")
    add("--limit", type=positive, metavar="N", help="take N of the images, drawn at random (default: all)")
    add("--seed", type=_seed, default=0, help="seed of that draw (default: 0)")
    where = f"folder for the results (default: in {session.OUT}, a folder named after DIR)"
    add("-o", "--out", metavar="OUT", help=where)
    add("--overwrite", action="store_true", help="begin again if OUT holds an evaluation")
    part = (
        "measure the I-th of N parts of the images; when all are measured, 'xai-evaluate merge OUT' writes the results"
    )
    add("--shard", type=merging.shard, metavar="I/N", help=part)
    parser.add_ray()
    parser.add_json()
    add("--list-metrics", action=_ListMetrics, nargs=0, help="list the metrics and their options, and exit")
    parser.add_resources()
    parser.add_trusted_key()
    parser.add_common()
    add_export(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
