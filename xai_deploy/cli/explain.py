"""xai-explain: heatmaps for image files: pictures, arrays, a JSON report, and a contact sheet that compares methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import backend_names, method_names
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.options import shortened
from ..foundation.printable import printable
from ..methods import methods
from ..methods.across import EACH
from . import examples
from .arguments import describe_options, method_table
from .console import Parser, command
from .drawing import add_options, likelihood
from .explain_report import PAGE
from .explanations import OUT, Explanations
from .model_file import add_export
from .recording import add_records
from .results import REPORT

PROGRAM = "xai-explain"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command(_parser(), _explain, argv)


def _explain(arguments: argparse.Namespace) -> None:
    require_place(arguments.json)
    if arguments.rows or arguments.ray is not None:
        from .explain_rows import explain_rows  # imports the evaluation, too, which pictures do not need

        explain_rows(arguments)
        return
    with Explanations(arguments) as explanations:
        report = explanations.report()
    _show(report, explanations.results.out, arguments)


def _show(report: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    """Write the report to the file that --json names, and print a summary unless --quiet is given."""
    if arguments.json:
        write_json(report, arguments.json)
    if arguments.json != PRINTED and not arguments.quiet:
        for image in report["images"]:
            best = image["prediction"][0]
            print(printable(f"{image['file']}: {shortened(best['label'])}, {likelihood(best)}"))
        count = len(report["images"])
        skipped = f", {len(report['skipped'])} skipped" if report["skipped"] else ""
        card = f"the card is {arguments.report}; " if arguments.report else ""
        see = card + (f"see {out / report['report']}; " if report["report"] else "")
        print(
            printable(
                f"{count} image{'s' * (count != 1)}{skipped} in {report['seconds']:.1f} s; {see}"
                f"compare {out / report['contact_sheets'][0]}, all in {out / REPORT}"
            )
        )


class _ListMethods(argparse.Action):
    """Like --version: print and exit, even if required arguments are missing. With -v, on either side, the options too."""

    def __call__(self, parser: argparse.ArgumentParser, given: argparse.Namespace, rest: Any, _: object = None) -> None:
        if given.verbose or {"-v", "--verbose"} & set(rest):
            for name in method_names():
                print("\n".join(describe_options(name, methods.get(name))))
        else:
            print("\n".join([*method_table(), "options: xai-explain --list-methods -v"]))
        parser.exit()


def _add_rows(parser: Parser) -> None:
    """Add the options for data sets that are too large for pictures."""
    rows = "for large data sets: write the maps as rows of Parquet files in OUT/explanations.parquet, and no pictures"
    parser.add_argument("--rows", action="store_true", help=rows)
    parser.add_ray("implies --rows; ")


def _parser() -> Parser:
    description = "Explain what a deployed image network sees: heatmaps for image files, by one or several methods."
    parser = Parser(prog=PROGRAM, description=description, epilog=examples.EXPLAIN)
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder written by xai-export, or a model file, which it exports first")
    add("image", metavar="IMAGE", nargs="+", help="image file, or folder or archive (.tar, .parquet) of image files")
    parser.add_recursive()
    parser.add_method("reciprocam; of a detector layer-cam")
    add(
        "-t",
        "--target",
        action="append",
        metavar="ID|LABEL|topK|A vs B|not A|A@WHERE|box K",
        help="class to explain, to contrast with another, or to find evidence against; in a segmentation WHERE is a mask.png, "
        "x,y,width,height, 'all' or 'predicted'; '#3' is output 3; of a detector 'box 0' is the best detection, 'car#1' the "
        "second car, '@x,y,width,height' the one that overlaps most, 'car:left' a side of its box; repeat it for several, labels "
        "may hold commas (default: each image's predicted class, or best detection)",
    )
    add(
        "--like",
        action="append",
        metavar="IMAGE|VECTOR.npy",
        help="for embeddings: explain how alike each image is to this one; repeatable",
    )
    add(
        "--combine",
        choices=("max", "mean", "sum", EACH),
        help="for a bundle of several layers: how their maps are put together, or a picture of each (default: max)",
    )
    parser.add_detections()
    parser.add_segments()
    parser.add_inputs()
    add("-b", "--backend", choices=backend_names(), help="inference runtime (default: the first installed)")
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--precision", default="f32", choices=("f32", "tf32", "f16", "bf16"), help="arithmetic (default: f32)")
    add_options(parser)
    add(
        "-o",
        "--out",
        metavar="OUT",
        help=f"folder for the results (default: {OUT}, in it a folder named after the input)",
    )
    add("--overwrite", action="store_true", help="replace the results of an earlier call in OUT")
    parser.add_skip_bad()
    add_records(parser)
    _add_rows(parser)
    add(
        "--report",
        metavar="CARD.html",
        help="of one image: write a page for auditors, with all that belongs to the decision",
    )
    add("--no-report", action="store_true", help=f"do not write {PAGE}, the page with all pictures and facts")
    parser.add_json()
    parser.add_resources()
    parser.add_trusted_key()
    parser.add_common()
    add_export(parser)
    add("--list-methods", action=_ListMethods, nargs="...", help="list the methods (with -v their options), and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
