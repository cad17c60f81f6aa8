"""xai-check: does a deployed network still predict what its reference predicts, and for the same pixels?"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import DetectionLimits, Explainer, backend_names
from ..agreement import compare as agreement
from ..agreement import recording
from ..agreement import report as check_report
from ..agreement.compare import Explained, ImageAgreement
from ..agreement.networks import described, warn_of_differences, warn_of_reference
from ..agreement.other_outputs import require_same
from ..agreement.recording import RecordedMethod, Recording, RecordingHeader
from ..answer import label
from ..beside import ByPath
from ..caveats import Gives, gives, warn_of
from ..errors import InputError, NotApplicableError, OptionError
from ..foundation.arrays import array_digest
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.printable import printable
from ..foundation.whole_files import write_whole
from ..methods import applicable, create
from ..methods.method import lacks
from ..methods.sets import default_method
from ..preprocess import as_photo
from ..reports import require as require_reports
from ..targets import Target
from . import examples
from .arguments import Bad, expand_sets, parse_methods, with_segments
from .check_figures import add_limits, by_class_of, limits_of, show
from .check_images import chunks, find
from .check_target import target_of
from .console import Parser, command, silence_opencv
from .model_file import RECORDING, add_export, export_of, is_model

PROGRAM = "xai-check"
DISAGREE = 1
DEFAULT = ("reciprocam", "grad-cam", "relevance-cam")  # those for which both bundles have the graphs
_COMPARING = (
    "backend",
    "device",
    "precision",
    "min_top1",
    "max_difference",
    "min_correlation",
    "min_overlap",
    "min_iou",
    "min_cosine",
    "min_ap",
    "json",
    "report",
)

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 if the networks disagree."""
    return command(_parser(), _check, argv)


def _check(arguments: argparse.Namespace) -> int:
    silence_opencv()
    if arguments.record:
        return _record(arguments)
    for path in (arguments.json, arguments.report):
        require_place(path)  # before minutes of work, not after
    if arguments.report:
        require_reports()
    _refuse(arguments, ("overwrite",), "it is only for replacing a recording; give --record too, or leave it out")
    if len(arguments.paths) < 2:
        raise InputError("give REFERENCE, DEPLOYED and at least one image")
    deployed_path, *images = arguments.paths
    files = find(images, arguments, "give one REFERENCE and one DEPLOYED, then images")
    reference = _Reference(arguments)
    warned = [arguments.reference]
    deployed = _open(deployed_path, arguments.backend, arguments.device, arguments.precision, arguments, warned)
    if reference.explainer is not None:
        warn_of_differences(reference.explainer, deployed)
    manifest = deployed.bundle.manifest
    require_same(reference.gives, gives(manifest), (reference.classes, manifest.named))
    reference.require_limits(deployed)
    target = target_of(arguments, reference.gives, reference.explainer)
    methods = _methods(arguments, reference, deployed)
    agreements: list[ImageAgreement] = []
    skipped: list[Bad] = []
    beside = ByPath(arguments.input or (), files, manifest)
    own = reference.beside(arguments.input or (), files, beside)
    moved, spec = check_report.MostMoved(), deployed.bundle.manifest.input
    for paths, pictures in chunks(files, arguments, skipped, spec):
        # A recording knows its images by file name, because their folder on the device may be another.
        names = [path.name if reference.recording else str(path) for path in paths]
        wanted = reference.explain(paths, pictures, methods, target, own)
        # Both explain what the reference explains, even if the deployed network predicts another class.
        got = agreement.explain(deployed, pictures, methods, wanted.wanted, beside.of(paths))
        warn_of_reference(names, wanted)
        chunk = agreement.compare(names, wanted, got)
        agreements += chunk
        if arguments.report:
            moved.add(chunk, [as_photo(picture, spec) for picture in pictures], wanted, got)
    figures = agreement.judge(agreements, limits_of(arguments))
    by_class = {label(deployed, index): share for index, share in by_class_of(agreements).items()}
    passed = all(figure.passed for figure in figures)
    report = {
        "passed": passed,
        "reference": reference.described,
        "deployed": described(deployed),
        "methods": {title: [name, dict(options)] for title, (name, options) in methods.items()},
        "figures": [asdict(figure) for figure in figures],
        **({"classes": by_class} if by_class else {}),
        "images": [image.as_json() for image in agreements],
        "skipped": [{"file": str(bad.path), "reason": str(bad.reason)} for bad in skipped],
    }
    if arguments.json:
        write_json(report, arguments.json)
    if arguments.report:
        page = check_report.html(reference.described, deployed, figures, agreements, moved.images, arguments.command)
        write_whole(Path(arguments.report), page)
    if arguments.json != PRINTED and not arguments.quiet:
        show(figures, agreements, passed, by_class)
    return 0 if passed else DISAGREE


def _record(arguments: argparse.Namespace) -> int:
    """Write a recording of the reference's outputs for the images."""
    out = Path(arguments.record)
    _refuse(
        arguments, _COMPARING, "nothing is compared with --record; the reference has its own --reference-... options"
    )
    if not arguments.paths:
        raise InputError("with --record give REFERENCE and at least one image")
    if out.suffix != RECORDING:
        raise InputError(f"{out}: the file that --record writes must end in .npz; choose such a name")
    if out.exists() and not (arguments.overwrite and out.is_file()):
        raise InputError(f"{out}: exists; choose another name" + (", or give --overwrite" if out.is_file() else ""))
    require_place(arguments.record)
    files = find(arguments.paths, arguments, "with --record give one REFERENCE, then images")
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice}: two images have this name, and a recording finds an image by its name; rename one")
    explainer = _open(arguments.reference, arguments.reference_backend, arguments.reference_device, "f32", arguments)
    methods = _methods(arguments, None, explainer)
    own = gives(explainer.bundle.manifest)
    target = target_of(arguments, own, explainer)
    beside = ByPath(arguments.input or (), files, explainer.bundle.manifest)
    parts: list[Explained] = []
    pixels: list[str] = []
    names = []
    for paths, pictures in chunks(files, arguments, [], explainer.bundle.manifest.input):
        names += [path.name for path in paths]
        parts.append(agreement.explain(explainer, pictures, methods, target, beside.of(paths)))
        pixels += [array_digest(picture) + beside.digest(path) for path, picture in zip(paths, pictures, strict=True)]
    facts = described(explainer)
    written = {
        title: RecordedMethod(name, {key: str(value) for key, value in options.items()})
        for title, (name, options) in methods.items()
    }
    header = RecordingHeader(
        recording.FORMAT,
        facts["name"],
        facts["digest"],
        facts["runtime"],
        written,
        tuple(names),
        tuple(pixels),
        facts["layer"],
        own,
        parts[0].shared,
        (explainer.limits.score, explainer.limits.overlap) if own == "rows" else None,
    )
    Recording(header, recording.joined(parts)).save(out)
    if not arguments.quiet:
        print(printable(f"{len(names)} image{'s' * (len(names) > 1)} recorded in {out}"))
    return 0


class _Reference:
    """The reference: a bundle or a recording."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        path = Path(arguments.reference)
        self.recording = None if path.is_dir() or is_model(arguments.reference) else recording.read(path)
        self.explainer: Explainer | None = None
        if self.recording is None:
            self.explainer = _open(
                arguments.reference, arguments.reference_backend, arguments.reference_device, "f32", arguments
            )
            self.described = described(self.explainer)
            self.classes: int | None = self.explainer.bundle.manifest.named
            self.gives: Gives = gives(self.explainer.bundle.manifest)
        else:
            _refuse(
                arguments,
                ("reference_backend", "reference_device", "target", "like"),
                "the reference is a recording and does not run",
            )
            header, self.gives = self.recording.header, self.recording.explained.gives
            self.classes = None if self.gives == "rows" else self.recording.explained.logits.shape[1]
            self.described = {
                "name": header.network, "digest": header.digest, "layer": header.layer, "runtime": header.runtime
            }  # fmt: skip

    def require_limits(self, deployed: Explainer) -> None:
        """Refuse other limits of detections than those of a recording.

        Raises:
            InputError: They differ.
        """
        own = None if self.recording is None else self.recording.header.detections
        if own is not None and own != (deployed.limits.score, deployed.limits.overlap):
            raise InputError(
                f"the recording was made with --detect-score {own[0]:g} --detect-overlap {own[1]:g}; give the same here"
            )

    def beside(self, texts: Sequence[str], files: Sequence[Path], deployed: ByPath) -> ByPath:
        """What the reference takes beside the images; a recording knows what the deployed network takes."""
        return deployed if self.explainer is None else ByPath(texts, files, self.explainer.bundle.manifest)

    def explain(
        self,
        paths: Sequence[Path],
        pictures: Sequence[Any],
        methods: dict[str, agreement.Spec],
        target: Target,
        beside: ByPath,
    ) -> Explained:
        if self.recording is not None:
            names = [path.name for path in paths]
            every = self.recording.rows(names, pictures, [beside.digest(path) for path in paths])
            return replace(every, heatmaps={title: every.heatmaps[title] for title in methods})
        assert self.explainer is not None
        return agreement.explain(self.explainer, pictures, methods, target, beside.of(paths))


def _open(
    path: str,
    backend: str | None,
    device: str,
    precision: Any,
    arguments: argparse.Namespace,
    warned: Sequence[str] = (),
) -> Explainer:
    explainer = Explainer(
        path,
        backend,
        device,
        precision=precision,
        threads=arguments.threads,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
        progress=not arguments.quiet,
        export=export_of(
            arguments, path, parse_methods(arguments.method or []), [arguments.reference, *arguments.paths[:1]]
        ),
        trusted_key=arguments.trusted_key,
        detections=DetectionLimits(arguments.detect_score, arguments.detect_overlap),
    )
    if path not in warned:  # a network may be compared with itself on another runtime: warn once
        warn_of(explainer, path)
    return explainer


def _methods(
    arguments: argparse.Namespace, reference: _Reference | None, deployed: Explainer
) -> dict[str, agreement.Spec]:
    """Title -> name and options."""
    explainers = [deployed] if reference is None or reference.explainer is None else [deployed, reference.explainer]
    manifests = [explainer.bundle.manifest for explainer in explainers]
    requests = with_segments(parse_methods(arguments.method or []), arguments.segments)
    if reference is None or reference.recording is None:  # a recording has its own methods, no sets of them
        requests = expand_sets(requests, manifests)
    asked = {request.title: (request.name, request.options) for request in requests}
    if reference is not None and reference.recording is not None:
        recorded = {title: (each.name, each.options) for title, each in reference.recording.header.methods.items()}
        if missing := next((title for title in asked if title not in recorded), None):
            raise OptionError(f"{missing}: not recorded; the recording has {', '.join(recorded)}")
        if asked:
            return {title: recorded[title] for title in asked}
        usable: dict[str, agreement.Spec] = {}
        for title, (name, options) in recorded.items():
            if lacks(create(name, options), deployed.bundle.manifest) is None:
                usable[title] = (name, options)
            else:
                log.warning("%s: recorded, but the deployed network's bundle has no graph for it; left out", title)
        return usable or dict(recorded)  # if none is usable, the error of the first one says what to do
    if asked:
        return dict(asked)
    there = applicable(manifests)
    default = DEFAULT if deployed.network.kind != "rows" else (default_method(deployed.bundle.manifest),)
    chosen = [name for name in default if name in there] or there
    if not chosen:
        raise NotApplicableError("both networks allow no quick method; name a slow one with -m, for example rise")
    return {name: (name, {}) for name in chosen}


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse options that have no effect in this call.

    Raises:
        InputError: One of the options `names` differs from its default; the message gives `why`.
    """
    parser = _parser()
    for name in names:
        if getattr(arguments, name) != parser.get_default(name):
            raise InputError(f"--{name.replace('_', '-')}: {why}")


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s [options] REFERENCE DEPLOYED IMAGE [IMAGE ...]\n"
        "       %(prog)s [options] --record FILE.npz REFERENCE IMAGE [IMAGE ...]",
        description="Check that a deployed network agrees with its reference: the same predictions, and similar maps "
        "for the class that the reference predicts. The exit status is 1 if they disagree.",
        epilog=examples.CHECK,
    )
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="bundle, model file, or a recording made with --record")
    add(
        "paths",
        metavar="DEPLOYED IMAGE ...",
        nargs="*",
        help="bundle or model file to check, then image files or folders of them",
    )
    add(
        "--record",
        metavar="FILE.npz",
        help="write a recording of REFERENCE's answers for the IMAGEs; nothing is compared",
    )
    add("--overwrite", action="store_true", help="replace an existing recording")
    parser.add_method(f"those of {', '.join(DEFAULT)} that both allow; of detectors layer-cam")
    parser.add_segments()
    parser.add_detections()
    add(
        "-t",
        "--target",
        action="append",
        metavar="TARGET",
        help="for regions, numbers and detectors: what both networks explain, such as road@all, #3 or 'box 0'",
    )
    add("--like", action="append", metavar="FILE", help="for embeddings: an image, or a vector (.npy), to be alike to")
    parser.add_recursive()
    parser.add_skip_bad()
    parser.add_inputs()
    add("--reference-backend", choices=backend_names(), help="runtime of the reference (default: the first installed)")
    add("--reference-device", default="cpu", help="device of the reference (default: cpu)")
    add(
        "-b",
        "--backend",
        choices=backend_names(),
        help="runtime of the deployed network (default: the first installed)",
    )
    add("-d", "--device", default="cpu", help="device of the deployed network (default: cpu)")
    add(
        "--precision",
        default="f32",
        choices=("f32", "tf32", "f16", "bf16"),
        help="arithmetic of the deployed network (default: f32)",
    )
    add_limits(parser)
    parser.add_json()
    add("--report", metavar="FILE.html", help="write a page with the figures and the images that moved most")
    parser.add_resources()
    parser.add_trusted_key()
    parser.add_common()
    add_export(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
