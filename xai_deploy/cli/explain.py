"""xai-explain: heatmaps for image files: pictures, arrays, a JSON report, and a contact sheet that compares methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import backend_names, method_names
from ..foundation.exits import printable
from ..foundation.json_report import PRINTED, require_place, write_json
from ..methods import methods
<<<<<<< HEAD
from ..pictures import DIVERGING, OPACITY, SEQUENTIAL, Style
from ..pictures.colormaps import colormaps
from ..preprocess import frame
from .arguments import (
    Bad,
    describe_options,
    expand_sets,
    find_images,
    method_table,
    parse_methods,
    parse_target,
    read_chunks,
    unique_names,
)
from .console import Parser, command, share, silence_opencv
from .contact_sheet import ContactSheet, Tile, fit
from .results import REPORT, Results
=======
from .arguments import describe_options, method_table
from .console import Parser, command, share
from .explanations import OUT, Explanations, likelihood
from .results import REPORT
>>>>>>> 263dd64 (Continue an interrupted xai-explain, and give one name to one thing in all commands)

PROGRAM = "xai-explain"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command(_parser(), _explain, argv)


def _explain(arguments: argparse.Namespace) -> None:
    require_place(arguments.json)
    with Explanations(arguments) as explanations:
        report = explanations.report()
    _show(report, explanations.results.out, arguments)


<<<<<<< HEAD
class _Run:
    """One call of the command: reads, explains and writes chunk by chunk, so memory does not grow with the number of images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        asked = parse_methods(arguments.method or ["reciprocam"])
        self.targets = [parse_target(text) for text in arguments.target or ["-1"]]
        self.explainer = Explainer(
            arguments.bundle,
            arguments.backend,
            arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            cache=arguments.cache,
            progress=not arguments.quiet,
        )
        self.methods = expand_sets(asked, self.explainer.bundle.manifest)
        self.results = Results(Path(arguments.out), arguments.overwrite)
        self.paths = find_images(arguments.image, self.results.out)
        self.names = unique_names(self.paths)
        manifest = self.explainer.bundle.manifest
        warn_of(self.explainer, arguments.bundle)
        title = f"{manifest.name}, layer {manifest.target.title}, {self.explainer.backend} on {arguments.device}"
        self.sheet = ContactSheet(
            Path("contact-sheet.png"), title, lambda path, page: self.results.write(path.name, encode_image(page))
        )
        self.style = Style(opacity=arguments.opacity, grey=arguments.grey, contours=arguments.contours)
        for name in arguments.colormap or ():
            self.style = self.style.with_colormap(name)
        self.images: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []

    def report(self) -> dict[str, Any]:
        """Explain everything, write the files, and return what `results.json` holds."""
        started = time.perf_counter()
        silence_opencv()
        step = min(self.arguments.batch_size, 16)
        chunks = read_chunks(self.paths, step, self.arguments.max_pixels, self.arguments.input_range)
        shown = not self.arguments.quiet and len(self.paths) > step
        # The number of chunks, rounded up, is an estimate: large images make smaller chunks.
        for chunk in progress(chunks, -(-len(self.paths) // step), "images", shown):
            for bad in (item for item in chunk if isinstance(item, Bad)):
                self._skip(bad)
            good = [item for item in chunk if not isinstance(item, Bad)]
            if good:
                self._explain(*zip(*good, strict=True))
        if not self.images:
            raise XaiError(f"none of the {len(self.paths)} images can be read")
        self.sheet.flush()
        report = self._describe(time.perf_counter() - started)
        self.results.publish(_json(report))
        return report

    def _skip(self, bad: Bad) -> None:
        if not self.arguments.skip_bad:
            raise bad.reason
        log.error("%s (skipped)", printable(str(bad.reason)))
        self.skipped.append({"file": str(bad.path), "reason": str(bad.reason)})

    def _explain(self, paths: tuple[Path, ...], pictures: tuple[Pixels, ...]) -> None:
        specs = [(method.name, method.options) for method in self.methods]
        explanations = self.explainer.explain_many(pictures, specs, self.targets)
        # The explanations are ordered by method, then target. A "topK" is K targets, so their number is known only now.
        count = len(explanations) // len(self.methods)
        if not self.images and not self.sheet.fits(1 + len(explanations)):
            log.warning("the contact sheet has no room for all %d maps of an image", len(explanations))
        for i, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
            prediction = answers.prediction(self.explainer, explanations[0].logits[i])
            tile = fit(picture)
            best = prediction[0]
            row = [Tile(tile, path.name, f"{best['label']}  {_likelihood(best)}")]
            headings = ["image|file, predicted class"]
            entries = []
            for number, explanation in enumerate(explanations):
                method, nth = self.methods[number // count], number % count
                answer = answers.answer(self.explainer, explanation, i)
                entry = self._write(answer, f"{self.names[path]}--{method.title}", picture)
                entries.append(entry)
                heat = answer.overlay(tile, self.style)
                row.append(Tile(heat, answer.caption, _likelihood(entry)))
                below = [f"{key}={value}" for key, value in method.options.items()]
                below += [f"target {nth + 1}"] if count > 1 else []
                headings.append(f"{method.name}|{', '.join(below)}")
            self.sheet.add(headings, row)
            seen = frame(picture.shape[0], picture.shape[1], self.explainer.bundle.manifest.input)
            self.images.append(
                {
                    "file": str(path),
                    "name": self.names[path],
                    "crop": seen._asdict(),
                    "prediction": prediction,
                    "explanations": entries,
                }
            )

    def _write(self, answer: Answer, stem: str, photo: Pixels) -> dict[str, Any]:
        """Write the two files of one answer; return its entry in the report."""
        name = f"{stem}--{answer.mark}"
        self.results.write(f"{name}.png", encode_image(answer.overlay(photo, self.style)))
        raw = io.BytesIO()
        np.save(raw, answer.raw)
        if answer.constant is not None:
            log.warning("%s: the map is the same everywhere (%s)", printable(name), answer.constant)
        self.results.write(f"{name}.npy", raw.getvalue())
        return answer.as_json({"overlay": f"{name}.png", "raw": f"{name}.npy"})

    def _describe(self, seconds: float) -> dict[str, Any]:
        origin = answers.origin(self.explainer)
        return {
            **origin,
            "bundle": {"path": str(self.arguments.bundle), **origin["bundle"]},
            "seconds": seconds,
            "images": self.images,
            "skipped": self.skipped,
            "contact_sheets": [page.name for page in self.sheet.pages],
        }


def _show(report: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print the report as JSON, or as a summary unless --quiet is given."""
=======
def _show(report: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    """Write the report to the file that --json names, and print a summary unless --quiet is given."""
>>>>>>> 263dd64 (Continue an interrupted xai-explain, and give one name to one thing in all commands)
    if arguments.json:
        write_json(report, arguments.json)
    if arguments.json != PRINTED and not arguments.quiet:
        for image in report["images"]:
            best = image["prediction"][0]
            print(printable(f"{image['file']}: {best['label']}, {likelihood(best)}"))
        count = len(report["images"])
        skipped = f", {len(report['skipped'])} skipped" if report["skipped"] else ""
        print(
            printable(
                f"{count} image{'s' * (count != 1)}{skipped} in {report['seconds']:.1f} s; "
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


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Explain what a deployed image network sees: heatmaps for image files, by one or several methods.",
        epilog="example: xai-explain resnet50.xai photos/ --method reciprocam,score-cam --target top2 -o explained",
    )
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder written by xai-export")
    add("image", metavar="IMAGE", nargs="+", help="image file, or folder of image files")
    parser.add_recursive()
    parser.add_method("reciprocam", "; all, or fast: those that the bundle's graphs allow")
    add(
        "-t",
        "--target",
        action="append",
        metavar="ID|LABEL|topK|A vs B|not A",
        help="class to explain, to contrast with another, or to find evidence against; repeat it for several, labels may hold "
        "commas (default: each image's predicted class)",
    )
    add("-b", "--backend", choices=backend_names(), help="inference runtime (default: the first installed)")
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--precision", default="f32", choices=("f32", "tf32", "f16", "bf16"), help="arithmetic (default: f32)")
<<<<<<< HEAD
    add(
        "--colormap",
        action="append",
        metavar="NAME",
        help=f"colours of positive maps (default: {SEQUENTIAL}), or of signed maps (default: {DIVERGING}): {', '.join(colormaps)}",
    )
    add(
        "--opacity",
        type=share,
        default=OPACITY,
        metavar="F",
        help=f"largest share of the colour, 0 to 1; it rises with the value (default: {OPACITY})",
    )
    add(
        "--contours",
        action="store_true",
        help="draw lines at 25, 50 and 75 %% of the scale (not in maps at the pixels)",
    )
    add("--grey", action="store_true", help="draw the photo in grey")
    add("-o", "--out", default="xai-output", metavar="OUT", help="folder for the results (default: xai-output)")
=======
    add("--opacity", type=share, default=0.5, metavar="F", help="share of the heatmap's colour, 0 to 1 (default: 0.5)")
    add(
        "-o",
        "--out",
        metavar="OUT",
        help=f"folder for the results (default: {OUT}, in it a folder named after the input)",
    )
>>>>>>> 263dd64 (Continue an interrupted xai-explain, and give one name to one thing in all commands)
    add("--overwrite", action="store_true", help="replace the results of an earlier call in OUT")
    parser.add_skip_bad()
    parser.add_json()
    parser.add_resources()
    parser.add_common()
    add("--list-methods", action=_ListMethods, nargs="...", help="list the methods (with -v their options), and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
