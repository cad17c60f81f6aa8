"""xai-bench: the time and memory of each method compared with plain inference on this machine, by batch, cut and targets."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmark import LeftOut, Report, Result, benchmark, plot
from ..benchmark.plot import require_matplotlib
from ..errors import InputError
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.printable import printable
from ..images import SUFFIXES
from . import examples
from .arguments import parse_methods, with_segments
from .console import Parser, command, positive, silence_opencv
from .model_file import add_export, bundle_paths

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command(_parser(), _bench, argv)


def _bench(arguments: argparse.Namespace) -> None:
    for path in (arguments.json, arguments.plot):
        require_place(path)  # refuse before minutes of work, not after
    if arguments.plot:
        require_matplotlib(arguments.plot)
    bundles, image = _bundles_and_image(arguments)
    if image:
        silence_opencv()
    methods = with_segments(parse_methods(arguments.method or []), arguments.segments)
    report = benchmark(
        bundle_paths(bundles, arguments, methods),
        [(method.name, method.options) for method in methods] or None,
        [name for text in arguments.backend for name in text.split(",")] if arguments.backend else None,
        batches=arguments.batch,
        targets=arguments.targets,
        runs=arguments.runs,
        warmup=arguments.warmup,
        device=arguments.device,
        threads=arguments.threads,
        model=arguments.model,
        image=image,
        predicted=arguments.predicted,
        input_range=arguments.input_range,
        memory=not arguments.no_memory,
        show_progress=not arguments.quiet,
        trusted_key=arguments.trusted_key,
    )
    if arguments.json:
        write_json(dataclasses.asdict(report), arguments.json)
    if arguments.plot:
        plot(report, arguments.plot)
    if not arguments.quiet and arguments.json != PRINTED:
        for line in _table(report):
            print(printable(line))


def _bundles_and_image(arguments: argparse.Namespace) -> tuple[list[str], str | None]:
    """The bundles, and the image that follows them or that the old option --image names.

    Raises:
        InputError: There is no bundle, or more than one image.
    """
    images = [path for path in arguments.paths if Path(path).suffix.lower() in SUFFIXES]
    bundles = [path for path in arguments.paths if path not in images]
    if arguments.image:
        log.warning("--image is the old spelling; give the image after the bundles")
        images.append(arguments.image)
    if len(images) > 1:
        raise InputError(f"{images[1]}: one image fills the batch, and {images[0]} is given already")
    if not bundles:
        raise InputError(f"{images[0]}: is an image; give a bundle before it")
    return bundles, images[0] if images else None


def _table(report: Report) -> list[str]:
    """The report as lines of text."""
    cuts = "; ".join(f"{tested.name} cut at {tested.layer}" for tested in report.bundles)
    threads = "the runtime's choice" if report.threads is None else report.threads
    counts = {
        "batch": {result.batch for result in report.results},
        "targets": {result.targets for result in report.results if result.targets},
    }
    same = [f"{what}: {values.pop()}" for what, values in counts.items() if len(values) == 1]
    lines = [
        f"{cuts}; {report.device}, threads: {threads}",
        "; ".join([f"input: {report.input}", *same, f"target: {report.target}"]),
        f"plain inference: {report.plain}; {report.runs} runs each, interleaved, after {report.warmup} to warm up",
    ]
    for backend in dict.fromkeys(result.backend for result in report.results):
        results = [result for result in report.results if result.backend == backend]
        # The version without the runtime's build number, which follows a "-".
        lines += ["", f"{backend} {report.versions[backend].partition('-')[0]}", *_rows(report, results)]
    lines += ["", *_left_out(report.left_out)]
    if any((result.iqr_seconds or 0) > result.median_seconds / 2 for result in report.results):
        lines.append("some times scatter by more than half: is the machine busy with something else?")
    if report.no_memory:
        lines.append(f"no peak memory: {report.no_memory}")
    return lines


def _rows(report: Report, results: Sequence[Result]) -> list[str]:
    columns = report.columns()
    table = [[*columns, "median", "IQR", "x plain", *([] if report.no_memory else ["peak", "over plain"])]]
    for result in results:
        row = [cell(result) for cell in columns.values()]
        row += [_ms(result.median_seconds), _ms(result.iqr_seconds), f"{result.ratio:.2f}"]
        if not report.no_memory:
            row += [_mb(result.peak_bytes, ""), _mb(result.extra_bytes, "+")]
        table.append(row)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    words = len(
        [heading for heading in columns if heading in ("method", "cut at")]
    )  # words are aligned left, numbers right
    return [
        "  ".join(
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.2f} ms"


def _mb(count: int | None, sign: str) -> str:
    return "-" if count is None else f"{count / 1e6:{sign}.0f} MB"


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """One line per reason, with the methods that were left out for it."""
    methods: dict[str, list[str]] = {}
    for one in left_out:
        names = methods.setdefault(one.reason.removeprefix(f"{one.method}: "), [])
        if one.method not in names:
            names.append(one.method)
    return [f"left out: {', '.join(names)}: {reason}" for reason, names in methods.items()]


def _counts(text: str) -> list[int]:
    """ "1,2,4" -> [1, 2, 4]"""
    try:
        return [positive(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"give whole numbers separated by commas, not {text!r}") from None


def _parser() -> Parser:
    parser = Parser(
        prog="xai-bench",
        description="Measure what explanations cost compared with plain inference, on this machine, with the "
        "settings of the deployment.",
        epilog=examples.BENCH,
    )
    add = parser.add_argument
    add(
        "paths",
        metavar="BUNDLE ... [IMAGE]",
        nargs="+",
        help="folder written by xai-export, or a model file; several are compared; then the image that fills the batch "
        "(default: noise, always the same)",
    )
    parser.add_method("fast")
    parser.add_segments()
    add("-b", "--backend", action="append", metavar="B[,B...]", help="inference runtimes (default: all installed)")
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--threads", type=positive, metavar="N", help="threads within an operator (default: the runtime's choice)")
    add("--batch", type=_counts, default=[1], metavar="N[,N...]", help="numbers of images (default: 1)")
    add("--targets", type=_counts, default=[1], metavar="N[,N...]", help="numbers of classes explained (default: 1)")
    add("--predicted", action="store_true", help="explain the best classes of each image instead of given ones")
    add("--runs", type=positive, default=30, metavar="N", help="timed runs (default: 30)")
    add("--warmup", type=positive, default=3, metavar="N", help="runs before the timed ones (default: 3)")
    add(
        "--model",
        metavar="MODEL.onnx",
        help="plain inference runs this whole network (default: the bundle's head and tail)",
    )
    add("--image", help=argparse.SUPPRESS)  # the old spelling of IMAGE
    parser.add_input_range()
    add("--no-memory", action="store_true", help="do not measure peak memory, which needs one process per method")
    parser.add_json()
    add("--plot", metavar="FILE.png", help='draw the report (needs matplotlib: pip install "xai-deploy[evaluate]")')
    parser.add_trusted_key()
    parser.add_common()
    add_export(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
