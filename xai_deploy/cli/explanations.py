"""The work of xai-explain: images in, files and a report out, chunk by chunk."""

from __future__ import annotations

import argparse
import io
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import DetectionLimits, Explainer, Like, XaiError
from .. import answer as answers
from ..answer import Answer
from ..beside import of_commands, of_some
from ..caveats import warn_of
from ..errors import BackendNotInstalledError, InputError, NotPredictedError
from ..foundation.json_report import as_json
from ..foundation.printable import printable
from ..foundation.progress import progress
from ..images import Pixels, state
from ..images.transparency import is_transparent
from ..methods import methods
from ..methods.sets import default_method
from ..preprocess import as_photo, frame_of, read_for, read_pixels
from ..targets import Target
from ..targets.box import any_part
from ..targets.one_class import written_class
from .arguments import (
    Bad,
    MethodRequest,
    at_layers,
    expand_sets,
    find_images,
    numbered,
    parse_methods,
    read_chunks,
    unique_names,
    with_segments,
)
from .card import Card
from .console import silence_opencv
from .drawing import Drawing
from .explain_report import PAGE, ReportPage
from .going_on import GoingOn
from .model_file import export_of
from .recording import Recording
from .results import open_results

OUT = Path("xai-output")  # in it, results lie in a folder for each input
_CHUNK = 16  # images

# Arguments that change no file. All others are part of the plan: only the same call goes on.
_APART = (
    "out",
    "overwrite",
    "quiet",
    "verbose",
    "json",
    "skip_bad",
    "cache",
    "image",
    "command",
    "no_report",
    "report",
)
_RECORDS = ("records", "records_durable", "records_images")

log = logging.getLogger(__name__)


class Explanations:
    """One call of the command: reads, explains and writes chunk by chunk, so memory does not grow with the number of images.

    A context manager. What an interrupted call has done is not done again.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        asked = parse_methods(arguments.method or [])
        self.explainer = Explainer(
            arguments.bundle,
            arguments.backend,
            arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            cache=arguments.cache,
            progress=not arguments.quiet,
            export=export_of(arguments, arguments.bundle, asked),
            detections=DetectionLimits(arguments.detect_score, arguments.detect_overlap),
            trusted_key=arguments.trusted_key,
        )
        self.targets: list[Target] = [written_class(text, self.explainer.space) for text in arguments.target or []]
        self.targets += [Like(reference) for reference in arguments.like or []]
        self.targets = self.targets or [None]
        asked = asked or parse_methods([default_method(self.explainer.bundle.manifest)])
        self.input = self.explainer.bundle.manifest.input
        manifests = [self.explainer.bundle.manifest]
        asked = expand_sets(asked, manifests, any_part(self.targets, self.explainer.space))
        methods = at_layers(asked, arguments.combine, manifests)
        self.methods = with_segments(methods, arguments.segments)
        self.paths = find_images(arguments.image, (Path(arguments.out or OUT), OUT), arguments.recursive)
        self.names = unique_names(self.paths)
        self.places = {path: place for place, path in enumerate(self.paths)}
        self.beside = of_commands(arguments.input or (), self.paths, self.explainer.bundle.manifest)
        warn_of(self.explainer, arguments.bundle)
        # The lambda, since the results come last.
        self.drawing = Drawing(arguments, self.explainer, lambda name, data: self.results.write(name, data))  # noqa: PLW0108
        self.page = None if arguments.no_report else self._report_page()
        card, count = arguments.report, len(self.paths)
        self.card = None if card is None else Card(self.explainer, card, count, arguments.overwrite)
        self.images: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self.going_on = GoingOn(arguments.quiet)
        self.recording = Recording.of(arguments, self.explainer, self.targets)
        # Last: from here on there may be a folder, which `__exit__` removes if nothing is done.
        self.results = open_results(arguments.out, OUT, arguments.image, self._plan(), arguments.overwrite)

    def _report_page(self) -> ReportPage | None:
        """The page; None, with a warning, on a device that lacks jinja2. The maps do not need it."""
        try:
            return ReportPage(self.explainer, self.drawing.style)
        except BackendNotInstalledError as error:
            log.warning("no report.html: %s, or give --no-report", error)
            return None

    def __enter__(self) -> Explanations:
        self.results.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        self.results.__exit__(kind, error, at)
        if self.recording is not None:
            self.recording.close()
        if isinstance(error, KeyboardInterrupt):
            self.going_on.interrupted()

    def report(self) -> dict[str, Any]:
        """Explain everything, write the files, and return what `results.json` holds."""
        started = time.perf_counter()
        silence_opencv()
        self._show_earlier()
        done, count = self._count(), len(self.paths)
        self.going_on(self.results.folder, done, count)
        shown = not self.arguments.quiet and count > 1
        for chunk in progress(self._chunks(done), count, "images", shown, len, done):
            self._do(chunk)
            self.going_on(self.results.folder, self._count(), count)
        if not self.images:
            raise XaiError(f"none of the {count} images can be read")
        self.drawing.finish()
        report = self._describe(time.perf_counter() - started)
        if self.page:
            methods = [(method.name, method.options) for method in self.methods]
            self.results.write(PAGE, self.page.render(report, methods, self.arguments.command))
        if self.recording is not None:
            self.recording.close()  # no result is published whose record can't be written
        if self.card:
            self.card.write(report, self.arguments.command)
        self.results.publish(as_json(report))
        return report

    def _plan(self) -> dict[str, Any]:
        """Everything that the files depend on."""
        options = {name: value for name, value in vars(self.arguments).items() if name not in _APART + _RECORDS}
        files = [[str(path), *state(path)] for path in self.paths]
        manifest, beside = self.explainer.bundle.manifest, self.arguments.input or ()
        versions = answers.origin(self.explainer)["versions"]
        return {"versions": versions, "network": manifest.digest, "images": files, **options} | (
            {"beside": [state(Path(text.partition("=")[2])) for text in beside]} if beside else {}
        )

    def _chunks(self, done: int) -> Iterator[list[tuple[Path, NDArray[Any]] | Bad]]:
        """The images after the first `done`, in chunks. An interrupted call had the same chunks: its maps have the same bits."""
        arguments = self.arguments
        slow = any(cls.slow for method in self.methods if (cls := methods.get(method.name)))
        # A slow method fills its batches from one image. One at a time, an interruption loses one image at most.
        step = 1 if slow else min(arguments.batch_size, _CHUNK)
        return read_chunks(self.paths[done:], step, arguments.max_pixels, self.input, arguments.input_range)

    def _count(self) -> int:
        return len(self.images) + len(self.skipped)

    def _do(self, chunk: Sequence[tuple[Path, NDArray[Any]] | Bad]) -> None:
        """Explain the images of a chunk that can be read, and say that the chunk is done.

        Raises:
            InputError: An image can't be read, and is not to be skipped. The images before it are done.
        """
        bad = [item for item in chunk if isinstance(item, Bad)]
        if bad and not self.arguments.skip_bad:
            chunk = chunk[: chunk.index(bad[0])]
        good = [item for item in chunk if not isinstance(item, Bad)]
        before = self._count()
        skipped = []
        for item in bad if self.arguments.skip_bad else ():
            item.report(skip=True)
            skipped.append({"file": str(item.path), "reason": str(item.reason)})
        entries, unfound = self._explain_each(good) if good else ([], [])
        skipped += unfound
        self.skipped += skipped
        if chunk:
            self.results.done(before, entries, skipped)
        if bad and not self.arguments.skip_bad:
            bad[0].report(skip=False)

    def _show_earlier(self) -> None:
        """Put what an interrupted call has explained into the report and on the contact sheet, from its files."""
        by_path = {str(path): path for path in self.paths}
        for chunk in self.results.earlier:
            self.skipped += chunk["skipped"]
            for image in chunk["rows"]:
                path = by_path[image["file"]]
                picture = read_pixels(path, self.input, self.arguments.max_pixels, self.arguments.input_range)
                shown = [
                    answers.restored(self.explainer, entry, np.load(io.BytesIO(self.results.read(entry["raw"]))))
                    for entry in image["explanations"]
                ]
                self._add(image, path, self._photos(path, as_photo(picture, self.input), shown), shown)

    def _explain_each(
        self, good: Sequence[tuple[Path, NDArray[Any]]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """The entries of images, and those in which the network finds nothing of what was asked about.

        Raises:
            NotPredictedError: There is such an image, and it is not to be skipped.
        """
        try:
            # lists: a tuple of as many images as a network takes would be one image for each of its inputs
            return self._explain([path for path, _ in good], [pixels for _, pixels in good]), []
        except NotPredictedError as error:
            if len(good) > 1:
                each = [self._explain_each([one]) for one in good]
                return [entry for entries, _ in each for entry in entries], [one for _, lost in each for one in lost]
            bad = Bad(good[0][0], type(error)(f"{good[0][0]}: {error}"))
            bad.report(self.arguments.skip_bad)
            return [], [{"file": str(bad.path), "reason": str(error)}]

    def _explain(self, paths: list[Path], pictures: list[NDArray[Any]]) -> list[dict[str, Any]]:
        """Explain one chunk and write its files; return its entries in the report."""
        specs = [(method.name, method.options) for method in self.methods]
        index = [self.places[path] for path in paths] if self.beside else []
        manifest = self.explainer.bundle.manifest
        beside = of_some(self.beside, index, manifest)
        explanations = self.explainer.explain_many(pictures, specs, self.targets, beside)
        if not self.images and not self.drawing.sheet.fits(len(explanations)):
            log.warning("the contact sheet has no room for all %d maps of an image", len(explanations))
        entries = []
        for i, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
            shown = [answers.answer(self.explainer, explanation, i) for explanation in explanations]
            seen = frame_of(picture, self.input)
            photos = self._photos(path, as_photo(picture, self.input), shown)
            asked = zip(shown, self._methods_of(shown), strict=True)
            names = numbered(f"{self.names[path]}--{method.title}--{answer.mark}" for answer, method in asked)
            written = [
                self._write(answer, name, photos[answer.network.input.name])
                for answer, name in zip(shown, names, strict=True)
            ]
            prediction = answers.predicted(self.explainer, explanations[0], i, shown)
            if self.recording is not None:
                self.recording.add(path, shown, prediction, of_some(self.beside, index[i : i + 1], manifest))
            image = {
                "file": str(path),
                "transparent": is_transparent(path),
                "name": self.names[path],
                "crop": seen._asdict(),
                "prediction": prediction,
                "explanations": written,
            }
            self._add(image, path, photos, shown)
            entries.append(image)
        return entries

    def _methods_of(self, shown: Sequence[Answer]) -> list[MethodRequest]:
        """The method of each of an image's maps, as the user wrote it.

        The maps are ordered by method, then target. A "topK" is K targets, so their number follows from that of the maps."""
        return [method for method in self.methods for _ in range(len(shown) // len(self.methods))]

    def _photos(self, path: Path, photo: Pixels, shown: Sequence[Answer]) -> dict[str, Pixels]:
        """The photos that some map is drawn on, by the network's inputs: an image, and those that are given with it.

        Raises:
            InputError: One of these is no picture.
        """
        photos, drawn = {self.input.name: photo}, {answer.network.input.name for answer in shown}
        for spec in self.explainer.bundle.manifest.further.images:
            if spec.name in drawn:
                value = self.beside[spec.name]
                file = value[self.places[path]] if isinstance(value, list) else value
                try:
                    photos[spec.name] = as_photo(read_for(file, spec), spec)
                except InputError as error:
                    raise type(error)(f"{spec.name!r}, on which its layers' maps are drawn: {error}") from None
        return photos

    def _add(self, image: dict[str, Any], path: Path, photos: Mapping[str, Pixels], shown: Sequence[Answer]) -> None:
        """Put an image into the report, on the contact sheet and on the page."""
        asked = self._methods_of(shown)
        pictures = self.drawing.show(path, photos, image["prediction"], list(zip(asked, shown, strict=True)))
        if self.page:
            self.page.add(image, [method.title for method in asked], pictures)
        if self.card:
            drawn = [answer.overlay(photos[answer.network.input.name], self.drawing.style) for answer in shown]
            titles = (method.title for method in asked)
            self.card.add(image, photos[self.input.name], list(zip(titles, shown, drawn, strict=True)))
        self.images.append(image)

    def _write(self, answer: Answer, name: str, photo: Pixels) -> dict[str, Any]:
        """Write the two files of one answer; return its entry in the report."""
        self.results.write(name + self.drawing.suffix, self.drawing.overlay(answer, photo))
        raw = io.BytesIO()
        np.save(raw, answer.raw)
        if answer.constant is not None:
            log.warning("%s: the map is the same everywhere (%s)", printable(name), answer.constant)
        self.results.write(f"{name}.npy", raw.getvalue())
        return answer.as_json({"overlay": name + self.drawing.suffix, "raw": f"{name}.npy"})

    def _describe(self, seconds: float) -> dict[str, Any]:
        origin = answers.origin(self.explainer)
        return {
            **origin,
            "bundle": {"path": str(self.arguments.bundle), **origin["bundle"]},
            "seconds": seconds,
            "images": self.images,
            "skipped": self.skipped,
            "contact_sheets": [page.name for page in self.drawing.sheet.pages],
            "report": PAGE if self.page else None,
        }
