"""xai-evaluate: the papers' metrics on a deployed network and one's own images."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import Explainer, XaiError, backend_names
from ..errors import OptionError
from ..evaluation import dataset, report, summary, tables
from ..evaluation.journal import Journal
from ..evaluation.metrics import Column, metrics
from ..evaluation.run import CHUNK, Plan, Subject, evaluate
from ..evaluation.summary import Figure, Group
from ..evaluation.truth import Boxes, read_boxes, read_masks, unknown
from ..format.randomised import step_of_name
from ..foundation.exits import printable
from ..foundation.whole_files import write_whole
from ..methods import applicable
from .arguments import MethodRequest, describe_options, parse_methods, parse_target
from .console import Parser, command, positive, silence_opencv, warn_of

JOURNAL = "journal.jsonl"
RESULTS = "results.json"
ALL = ["average-drop", "average-increase", "deletion", "insertion", "coherency", "complexity", "adcc"]
WITH_BOXES = ["energy-pointing", "argmax-pointing", "iou"]
WITH_MASKS = ["segmentation"]

log = logging.getLogger("xai_deploy.cli.evaluate")  # also where it is run as __main__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command(_parser(), _evaluate, argv)


def _evaluate(arguments: argparse.Namespace) -> None:
    report.require()  # before hours of work, not after
    tables.require()
    silence_opencv()
    subjects = _subjects(arguments)
    plan, methods = _plan(arguments, subjects)
    out = Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise XaiError(f"{out}: is a file; the results go to a folder")
    described = plan.describe(subjects)
    with Journal(out / JOURNAL, described, arguments.overwrite) as journal:  # its lock is for the results, too
        if journal.chunks and not arguments.quiet:
            print(printable(f"going on with {out / JOURNAL}: {_kept(journal, plan)}"), file=sys.stderr)
        try:
            evaluate(subjects, plan, journal)
        except KeyboardInterrupt:
            print(printable(f"{_kept(journal, plan)} in {out / JOURNAL}; the same command goes on"), file=sys.stderr)
            raise
        finally:
            for problem in plan.boxes.cut if plan.boxes else ():
                log.warning("%s", printable(problem))
        _write(arguments, out, subjects, plan, methods, described, journal)


def _kept(journal: Journal, plan: Plan) -> str:
    done = sum(len(plan.images[number * CHUNK : (number + 1) * CHUNK]) for number in journal.chunks)
    return f"{done} of {len(plan.images)} images are done"


def _write(
    arguments: argparse.Namespace,
    out: Path,
    subjects: Sequence[Subject],
    plan: Plan,
    methods: Sequence[str],
    described: Mapping[str, Any],
    journal: Journal,
) -> None:
    """The results, to files and to the terminal."""
    rows, skipped = summary.rows(journal), summary.skipped(journal)
    for entry in skipped:
        log.error("%s (skipped)", printable(entry["reason"]))
    if not rows:
        raise XaiError(f"all {len(plan.images)} images are skipped, for the reasons above")
    columns = plan.columns(subjects)
    groups = summary.summarise(rows, columns)
    names = [subject.name for subject in subjects]
    records = tables.long(rows, names, methods, columns)
    document = tables.as_json(described, groups, names, methods, skipped, len(plan.images) - len(skipped))
    for name, data in {
        "images.csv": tables.as_csv(records),
        "images.parquet": tables.as_parquet(records),
        "report.html": report.html(subjects, plan, methods, rows, groups, columns, skipped),
        RESULTS: document,
    }.items():
        write_whole(out / name, data)
    if arguments.json:
        print(json.dumps(json.loads(document), indent=1))
    elif not arguments.quiet:
        for line in _table(groups, names, methods, columns, len(plan.images) - len(skipped)):
            print(printable(line))
        for line in report.choices(plan):
            print(printable(f"  {line}"))
        read = len(plan.images) - len(skipped)
        print(printable(f"{read} images{f', {len(skipped)} skipped' * bool(skipped)}; see {out / 'report.html'}"))


def _subjects(arguments: argparse.Namespace) -> list[Subject]:
    """Every bundle on every backend."""
    backends = list(dict.fromkeys(name.strip() for text in arguments.backend or [] for name in text.split(","))) or [
        None
    ]
    bundles = list(dict.fromkeys(arguments.bundle))
    found = []
    for bundle in bundles:
        randomised = _randomised(bundle, arguments)
        for backend in backends:
            made = [_open(path, backend, arguments) for path in (bundle, *randomised)]
            _check_randomised(made)
            name = Path(bundle).name.removesuffix(".xai") or bundle
            if sum(Path(other).name.removesuffix(".xai") == name for other in bundles) > 1:
                name = bundle
            if backend == backends[0]:
                warn_of(made[0], bundle)
            found.append(Subject(name + f" ({made[0].backend})" * (len(backends) > 1), made[0], made[1:]))
    classes = [subject.explainer.bundle.manifest.classes for subject in found]
    for subject, count in zip(found, classes, strict=True):
        if count != classes[0] and not isinstance(_target(arguments), str):
            log.warning(
                "%s has %d classes, %s has %d: their maps are not compared; give --target LABEL to explain the same class",
                printable(subject.name),
                count,
                printable(found[0].name),
                classes[0],
            )
    return found


def _open(path: str, backend: str | None, arguments: argparse.Namespace) -> Explainer:
    return Explainer(
        path,
        backend,
        arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
    )


def _randomised(bundle: str, arguments: argparse.Namespace) -> list[str]:
    """The bundles that xai-export --randomise wrote beside this one, in their order; only where they are asked for. Where
    there are several whole sets, that of the most steps.

    Raises:
        XaiError: There is no whole set, but a part of one.
    """
    if not any(request.name == "sanity" for request in parse_methods(arguments.metrics or [])):
        return []
    path = Path(os.path.abspath(bundle))
    sets: dict[int, dict[int, str]] = {}
    for found in path.parent.iterdir() if path.parent.is_dir() else ():
        if (step_of := step_of_name(path.name, found.name)) is not None:
            step, of = step_of
            sets.setdefault(of, {})[step] = str(found)
    whole = [of for of, steps in sets.items() if sorted(steps) == list(range(1, of + 1))]
    if sets and not whole:
        of = max(sets)
        raise XaiError(f"{bundle}: of its {of} randomised bundles only {len(sets[of])} are there; export it again")
    if len(sets) > 1:
        log.warning(
            "%s: randomised bundles of %s steps lie there; sanity takes those of %d",
            printable(bundle),
            " and of ".join(map(str, sorted(sets))),
            max(whole),
        )
    return [steps for _, steps in sorted(sets[max(whole)].items())] if whole else []


def _check_randomised(made: Sequence[Explainer]) -> None:
    """Refuse randomised bundles that are not the first one's.

    Raises:
        XaiError: They say so themselves: another step, seed, layer, input or network.
    """
    own = made[0].bundle.manifest
    seeds = set()
    for step, explainer in enumerate(made[1:], 1):
        manifest = explainer.bundle.manifest
        random = manifest.randomised
        fits = (manifest.input, manifest.target, manifest.classes) == (own.input, own.target, own.classes)
        if random is None or (random.step, random.of) != (step, len(made) - 1) or not fits:
            raise XaiError(
                f"{explainer.bundle.path}: is not step {step} of {len(made) - 1} in randomising {made[0].bundle.path}; export "
                "both again with --randomise"
            )
        if random.trained not in ("", own.network):
            raise XaiError(
                f"{explainer.bundle.path}: was made of other weights than {made[0].bundle.path} has; export both again with "
                "--randomise"
            )
        seeds.add(random.seed)
    if len(seeds) > 1:
        raise XaiError(f"{made[0].bundle.path}: its randomised bundles are of several seeds; export them again")


def _plan(arguments: argparse.Namespace, subjects: Sequence[Subject]) -> tuple[Plan, list[str]]:
    """What to measure, and the methods' titles."""
    root = Path(arguments.images)
    apart = [Path(folder) for folder in (arguments.masks, arguments.out) if folder]
    masks = read_masks(arguments.masks, root, apart=apart) if arguments.masks else None
    boxes = read_boxes(arguments.boxes, root, apart) if arguments.boxes else None
    if boxes:
        for problem in (*boxes.problems, *(_unknown(boxes, subjects) if arguments.boxes_of == "class" else ())):
            log.warning("%s", printable(problem))
    images = dataset.find(root, arguments.limit, arguments.seed, apart)
    if arguments.methods:
        methods = parse_methods(arguments.methods)
    else:
        names = applicable([subject.explainer.bundle.manifest for subject in subjects])
        methods = [MethodRequest(name) for name in names]
    wanted = ALL + WITH_BOXES * bool(boxes) + WITH_MASKS * bool(masks)
    metrics = parse_methods(arguments.metrics) if arguments.metrics else [MethodRequest(name) for name in wanted]
    names = [metric.name for metric in metrics]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(
            f"{twice}: given twice; a metric's columns are there once, so evaluate again with -o elsewhere"
        )
    plan = Plan(
        root,
        images,
        [(method.name, method.options) for method in methods],
        [(metric.name, metric.options) for metric in metrics],
        _target(arguments),
        boxes,
        masks,
        arguments.boxes_of,
        arguments.max_pixels,
        arguments.input_range,
        progress=not arguments.quiet,
    )
    return plan, [method.title for method in methods]


def _unknown(boxes: Boxes, subjects: Sequence[Subject]) -> list[str]:
    """Where no box is of a class that a network has; told once for networks with the same labels."""
    networks = {(tuple(s.explainer.labels), s.explainer.bundle.manifest.classes): s.name for s in reversed(subjects)}
    return [told for known, name in networks.items() if (told := unknown(boxes, name, *known))]


def _target(arguments: argparse.Namespace) -> int | str | None:
    return parse_target(arguments.target) if arguments.target else None


def _table(
    groups: Sequence[Group], networks: Sequence[str], methods: Sequence[str], columns: Sequence[Column], images: int
) -> list[str]:
    """The figures as people read them, five columns, and the next five below."""
    shown = [c for c in columns if ":" not in c.name and any(c.name in group.figures for group in groups)]
    heads = [(f"{networks[group.network]}: " if len(networks) > 1 else "") + methods[group.method] for group in groups]
    width = max(map(len, heads))
    lines = []
    for start in range(0, len(shown), 5):
        block = [[c.name, *(_cell(g.figures.get(c.name), c, images) for g in groups)] for c in shown[start : start + 5]]
        wide = [max(22, *map(len, cells)) for cells in block]
        for head, *cells in zip(["", *heads], *block, strict=True):
            lines.append(f"{head:{width}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, wide, strict=True)))
        lines.append("")
    return lines


def _cell(figure: Figure | None, column: Column, images: int) -> str:
    if figure is None or figure.mean is None:
        return "-"
    digits = 1 if column.percent else 3
    few = f" n={figure.count}" if figure.count < images else ""  # not defined for the others
    if figure.low is None or figure.high is None:
        return f"{figure.mean:.{digits}f}{few}"
    return f"{figure.mean:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]{few}"


class _ListMetrics(argparse.Action):
    """Like --version: print and leave, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name in metrics:
            print("\n".join(describe_options(name, metrics.get(name))))
        parser.exit()


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"at least 0, not {text}")
    return value


def _parser() -> Parser:
    parser = Parser(
        prog="xai-evaluate",
        description="Measure explanations of a deployed network on a folder of images: faithfulness, complexity, localisation, "
        "sanity. An evaluation that was interrupted goes on where it stopped when the same command is given again.",
        epilog="example: xai-evaluate resnet50.xai --images val/ --boxes instances.json --methods grad-cam,score-cam -o scores",
    )
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", nargs="+", help="folder written by xai-export; several are compared with the first")
    add("--images", required=True, metavar="DIR", help="folder of images, sub folders included")
    add("--boxes", metavar="PATH", help="boxes: COCO json, csv, or a folder of YOLO txt or Pascal VOC xml files")
    add("--boxes-of", choices=("all", "class"), default="all", help="all boxes, or those of the class explained")
    add("--masks", metavar="DIR", help="folder of PNG masks with the images' names")
    add("-m", "--methods", action="append", metavar="M[,M...]", help="methods, with options as in rise:masks=2000")
    add("--metrics", action="append", metavar="M[,M...]", help="metrics, with options as in deletion:steps=50")
    add("-t", "--target", metavar="ID|LABEL", help="class to explain (default: each image's predicted class)")
    add(
        "-b", "--backend", action="append", metavar="B[,B...]", help=f"inference runtimes: {', '.join(backend_names())}"
    )
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--precision", default="f32", choices=("f32", "tf32", "f16", "bf16"), help="arithmetic (default: f32)")
    add("--limit", type=positive, metavar="N", help="take N of the images, drawn at random (default: all)")
    add("--seed", type=_seed, default=0, help="of that draw (default: 0)")
    add("-o", "--out", default="xai-evaluation", metavar="OUT", help="folder for the results (default: xai-evaluation)")
    add("--overwrite", action="store_true", help="begin anew where OUT holds an evaluation")
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    add("--list-metrics", action=_ListMetrics, nargs=0, help="list the metrics and their options, and exit")
    parser.add_resources()
    parser.add_common()
    return parser


if __name__ == "__main__":
    sys.exit(main())
