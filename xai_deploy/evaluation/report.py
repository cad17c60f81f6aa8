"""The report: one self-contained HTML page with what was measured and how, what was found, charts, and maps side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ..answer import origin
from ..format.bundle import PREDICTED
from ..format.image_input import written
from ..foundation.journal import Line
from ..reports import Origin, charts, render
from ..reports import require as require_jinja
from . import findings, pictures, summary
from .metrics import Column
from .plan import P, Plan, said
from .subjects import Subject
from .summary import FEWEST, RESAMPLES, Figure, Group, Ranking

SHARES = [(share / 100, f"{share} %") for share in (0, 25, 50, 75, 100)]


def require() -> None:
    """Refuse if the package that renders pages is missing.

    Raises:
        BackendNotInstalledError: jinja2 is missing.
    """
    require_jinja(extra="evaluate")


def html(
    subjects: Sequence[Subject],
    plan: Plan,
    rows: Sequence[Line],
    groups: Sequence[Group],
    columns: Sequence[Column],
    skipped: Sequence[Line],
    command: str = "",
) -> bytes:
    """The page, as UTF-8.

    Args:
        subjects: The networks; they explain some images again, for the pictures.
        plan: What was measured.
        rows: All rows.
        groups: Their summary.
        columns: The columns of both.
        skipped: The images that could not be read.
        command: The command line; "" if a program asked.

    Raises:
        BackendNotInstalledError: jinja2 is missing.
    """
    shown = [column for column in columns if any(column.name in g.figures for g in groups) and ":" not in column.name]
    rankings = {column.name: ranking for column in shown if (ranking := summary.rank(rows, groups, column)) is not None}
    images = len({row["image"] for row in rows})
    names = [name_of(subjects, plan, group) for group in groups]
    # Images are ranked by the first column that has a value per image and a better direction.
    judge = next((column for column in shown if column.better and column.of_means is None), None)
    steps = findings.sanity_columns(columns)  # they have a chart of their own
    versions: dict[str, str] = {}
    for subject in subjects:
        versions |= origin(subject.explainer)["versions"]
    return render(
        "evaluation",
        Origin("xai-evaluate", command, versions),
        heading="Evaluation of explanations",
        sentences=findings.sentences(names, groups, rankings, columns, images),
        networks=[_network(subject) for subject in subjects],
        choices=choices(plan),
        images=images,
        root=str(plan.root),
        columns=shown,
        methods=plan.titles,
        groups=groups,
        names=names,
        rankings=rankings,
        fewest=FEWEST,
        dots=[_dots(c, groups, names, rankings.get(c.name)) for c in shown if c.name not in steps],
        curves=[*_curves(subjects, plan, rows, groups), *_sanity(subjects, plan, groups, columns)],
        parts=[pictures.parts(subject, number, plan, rows, judge) for number, subject in enumerate(subjects)]
        if judge
        else [],
        colorbars=pictures.colorbars(plan),
        boxed=plan.scores_boxes,
        judge=judge,
        skipped=skipped,
    )


def name_of(subjects: Sequence[Subject], plan: Plan, group: Group) -> str:
    """A group's name: its method, and its network if there are several."""
    return plan.titles[group.method] + (f" on {subjects[group.network].name}" if len(subjects) > 1 else "")


def choices(plan: Plan) -> list[str]:
    """The choices that the figures depend on, in words: every metric with its options, the class explained, the ground truth."""
    described = plan.describe([])
    lines = [
        f"{name}: " + (", ".join(f"{key}={value}" for key, value in options.items()) or "no options")
        for name, options in described["metrics"]
    ]
    target = "the predicted class of each image" if plan.target in (None, PREDICTED) else f"class {plan.target!r}"
    if plan.labelled:
        target = "the class that each image's archive gives"
    if plan.gives == "classes":
        lines.append(f"class explained: {target}; {P['classes']}")
    else:
        lines.append(f"explained: {said(plan.target, plan.gives)}; {P[plan.gives]}")
    if plan.boxes or plan.masks or any("sanity" in name or "class-s" in name for name, _ in plan.metrics):
        lines.append(
            "n: the number of images for which a figure is defined, if that is not all of them: localisation needs boxes or a "
            "mask, a correlation needs a map that is not constant"
        )
    if plan.boxes:
        known = sum(map(plan.boxes.has, plan.images))
        where = f"{plan.boxes.source}, {plan.boxes.path}, which names {known} of {len(plan.images)} images"
        lines.append(f"boxes: {where}; those of {_OF[plan.boxes_of]}")
    if plan.masks:
        lines.append(f"masks: {plan.masks.source}, {plan.masks.path}")
    lines.append(f"intervals: 95 %, percentile bootstrap over the images, {RESAMPLES} resamples")
    return lines


_OF = {"all": "all objects in the image", "class": "the class explained"}


def _network(subject: Subject) -> dict[str, str]:
    explainer = subject.explainer
    manifest = explainer.bundle.manifest
    how = manifest.input.preprocess
    return {
        "name": subject.name,
        "layer": manifest.layers_title,
        "backend": f"{explainer.backend} on {explainer.device}, {explainer.precision}",
        "input": f"{manifest.input.height} x {manifest.input.width}, resize {written(how.resize)}, {how.interpolation}"
        + ", assumed" * how.assumed,
        "digest": manifest.digest[:16],
    }


def _dots(column: Column, groups: Sequence[Group], names: Sequence[str], ranking: Ranking | None) -> charts.Dots:
    rows = []
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        figure = group.figures.get(column.name) or Figure(None, None, None, 0)
        best = ranking is not None and ranking.best and ranking.leader == number
        rows.append(charts.Dot(name, figure.mean, figure.low, figure.high, "best" if best else ""))
    better = f" ({column.better} is better)" if column.better else ""
    return charts.dots(column.name + ", %" * column.percent + better, rows)


def _curves(
    subjects: Sequence[Subject], plan: Plan, rows: Sequence[Line], groups: Sequence[Group]
) -> list[charts.LineChart]:
    """A chart of mean curves for each metric that has them and each network."""
    by_chart: dict[tuple[str, int], list[summary.Curve]] = {}
    for curve in summary.curves(rows, groups):
        by_chart.setdefault((curve.name, groups[curve.group].network), []).append(curve)
    drawn = []
    for (name, network), members in by_chart.items():
        count = len(members[0].points)
        every = sum(1 for row in rows if (row["network"], row["method"]) == (network, groups[members[0].group].method))
        few = f", {members[0].points[0].count} of {every} images" * (members[0].points[0].count < every)
        drawn.append(
            charts.line_chart(
                name + _on(subjects, network) + few,
                [_line(plan.titles[groups[curve.group].method], curve.points) for curve in members],
                [point / (count - 1) for point in range(count)],
                SHARES,
                ("pixels, highest of the map first", f"{_MEAN[plan.gives]}, with its 95 % interval"),
                (0.0, 1.0),
            )
        )
    return drawn


_MEAN = {
    "classes": "mean probability of the class explained",
    "dense": "mean of the class in its region",
    "numbers": "mean of the number explained",
    "embedding": "mean cosine",
    "rows": "mean score of the best-matching detection",
}


def _sanity(
    subjects: Sequence[Subject], plan: Plan, groups: Sequence[Group], columns: Sequence[Column]
) -> list[charts.LineChart]:
    """One chart for each network: rank correlation with the trained network's maps over the share of random layers."""
    steps = findings.sanity_columns(columns)
    trained = Figure(1.0, None, None, 0)  # a map is equal to itself
    drawn = []
    for network in range(len(subjects) if steps else 0):
        members = [g for g in groups if g.network == network and steps[0] in g.figures]
        if not members:
            continue
        there = [step for step in steps if step in members[0].figures]
        ticks = [(0.0, "0"), *((float(i + 1), f"{i + 1}/{len(there)}") for i in range(len(there)))]
        drawn.append(
            charts.line_chart(
                "sanity check" + _on(subjects, network),
                [_line(plan.titles[g.method], [trained, *(g.figures[step] for step in there)]) for g in members],
                [place for place, _ in ticks],
                ticks,
                (
                    "random layers, from the output on",
                    "mean rank correlation with the trained network's map, with its 95 % interval; it should fall to 0",
                ),
                (0.0, 1.0),
                mark=True,
            )
        )
    return drawn


def _line(name: str, points: Sequence[Figure]) -> charts.Line:
    return charts.Line(name, [p.mean for p in points], [p.low for p in points], [p.high for p in points])


def _on(subjects: Sequence[Subject], network: int) -> str:
    return f" on {subjects[network].name}" if len(subjects) > 1 else ""
