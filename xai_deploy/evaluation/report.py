"""The report: one self-contained HTML page with what was measured and how, the figures, plots, and the best and worst maps."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .. import heatmap
from ..answer import label
from ..errors import BackendNotInstalledError, InputError
from ..format.bundle import PREDICTED
from ..foundation.exits import printable
from ..foundation.journal import Line
from ..images import encode_image, read_image
from ..preprocess import view
from .metrics import Column
from .plan import Plan
from .subjects import Subject
from .summary import RESAMPLES, Group

EXAMPLES = 4  # best and worst maps of each method
_SIDE = 224  # pixels of a picture in the report


def require() -> tuple[Any, Any]:
    """The modules jinja2 and matplotlib, with `matplotlib.figure` imported.

    Raises:
        BackendNotInstalledError: One of them is missing.
    """
    try:
        import jinja2
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise BackendNotInstalledError(
            f'the report needs {error.name}, which is not installed; pip install "xai-deploy[evaluate]"'
        ) from None
    return jinja2, matplotlib


def html(
    subjects: Sequence[Subject],
    plan: Plan,
    rows: Sequence[Line],
    groups: Sequence[Group],
    columns: Sequence[Column],
    skipped: Sequence[Line],
) -> bytes:
    """The page, as UTF-8.

    Args:
        subjects: The networks; they explain the best and the worst images again, for the pictures.
        plan: What was measured.
        rows: All rows.
        groups: Their summary.
        columns: The columns of both.
        skipped: The images that could not be read.

    Raises:
        BackendNotInstalledError: jinja2 or matplotlib is missing.
    """
    jinja2, matplotlib = require()
    methods = plan.titles
    text = resources.files(__package__ or "").joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown = [
        column for column in columns if any(column.name in group.figures for group in groups) and ":" not in column.name
    ]
    # Best and worst images are ranked by the first column that has a value per image and a better direction.
    judge = next((column for column in shown if column.better and column.of_means is None), None)
    page: str = environment.from_string(text).render(
        networks=[_network(subject) for subject in subjects],
        choices=choices(plan),
        images=len({row["image"] for row in rows}),
        root=str(plan.root),
        columns=shown,
        methods=methods,
        groups=groups,
        best={column.name: _best(groups, column) for column in shown},
        plot="" if not shown else _plots(matplotlib, groups, [s.name for s in subjects], methods, shown),
        examples=[
            (
                subjects[group.network].name,
                methods[group.method],
                _examples(subjects[group.network], plan, group, rows, judge),
            )
            for group in groups
        ]
        if judge
        else [],
        judge=judge,
        skipped=skipped,
    )
    return page.encode("utf-8", "backslashreplace")


def choices(plan: Plan) -> list[str]:
    """The choices that the figures depend on, in words: every metric with its options, the class explained, the ground truth."""
    described = plan.describe([])
    lines = [
        f"{name}: " + (", ".join(f"{key}={value}" for key, value in options.items()) or "no options")
        for name, options in described["metrics"]
    ]
    target = "the predicted class of each image" if plan.target in (None, PREDICTED) else f"class {plan.target!r}"
    lines.append(f"class explained: {target}; p is the network's own probability")
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
        "layer": manifest.target.asked,
        "backend": f"{explainer.backend} on {explainer.device}, {explainer.precision}",
        "input": f"{manifest.input.height} x {manifest.input.width}, resize {how.resize}, {how.interpolation}"
        + ", assumed" * how.assumed,
        "digest": manifest.digest[:16],
    }


def _best(groups: Sequence[Group], column: Column) -> float | None:
    means = [f.mean for group in groups if (f := group.figures.get(column.name)) is not None and f.mean is not None]
    if not column.better or len(means) < 2:
        return None
    return max(means) if column.better == "higher" else min(means)


def _plots(
    matplotlib: Any, groups: Sequence[Group], networks: Sequence[str], methods: Sequence[str], columns: Sequence[Column]
) -> str:
    """One panel of bars for each column, as SVG."""
    names = [methods[g.method] + (f" | {networks[g.network]}" if len(networks) > 1 else "") for g in groups]
    across = 3
    down = -(-len(columns) // across)  # rounded up
    # Names may hold any character: "$" must not begin a formula, and a letter that the font lacks must not give a warning.
    # A fixed salt gives the SVG's elements the same ids each time.
    with warnings.catch_warnings(), matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "xai-evaluate"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        return _panels(
            matplotlib.figure.Figure(figsize=(13, down * (0.9 + 0.24 * len(groups))), layout="constrained"),
            (down, across),
            groups,
            [printable(name) for name in names],
            columns,
        )


def _panels(
    figure: Any, grid: tuple[int, int], groups: Sequence[Group], names: Sequence[str], columns: Sequence[Column]
) -> str:
    down, across = grid
    figure.get_layout_engine().set(h_pad=0.1)
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    for place, (axis, column) in enumerate(zip(axes.flat, columns, strict=False)):
        found = [group.figures.get(column.name) for group in groups]
        means = [f.mean if f and f.mean is not None else math.nan for f in found]  # NaN draws no bar
        low = [m - f.low if f and f.low is not None else 0.0 for m, f in zip(means, found, strict=True)]
        high = [f.high - m if f and f.high is not None else 0.0 for m, f in zip(means, found, strict=True)]
        # A percentile interval may leave out the mean; matplotlib refuses negative error bars.
        errors = [[max(v, 0.0) for v in low], [max(v, 0.0) for v in high]]
        axis.barh(range(len(groups)), means, xerr=errors, color="#3b6ea5", ecolor="#222", capsize=2, height=0.7)
        axis.set_yticks(range(len(groups)), names if place % across == 0 else [])
        axis.set_ylim(len(groups) - 0.5, -0.5)  # the first group is on top, even if it has no bar
        unit = ", %" if column.percent else ""
        axis.set_title(column.name + unit + (f" ({column.better} is better)" if column.better else ""), fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # without the XML declaration and doctype, which do not belong inside HTML


def _examples(
    subject: Subject, plan: Plan, group: Group, rows: Sequence[Line], judge: Column
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The best and the worst images of a method, by one column, with their maps."""
    mine = [row for row in rows if (row["network"], row["method"]) == (group.network, group.method)]
    known = [row for row in mine if row["values"].get(judge.name) is not None]
    known.sort(key=lambda row: row["values"][judge.name], reverse=judge.better == "higher")
    count = min(EXAMPLES, len(known) // 2)  # at most half, so that no image is among the best and the worst
    parts = [("best", known[:count]), ("worst", known[len(known) - count :][::-1])]
    shown = [(title, [p for row in part if (p := _picture(subject, plan, row, judge))]) for title, part in parts]
    return [(title, pictures) for title, pictures in shown if pictures]


def _picture(subject: Subject, plan: Plan, row: Line, judge: Column) -> Mapping[str, Any] | None:
    """What the page shows of an image; None if the file can no longer be read."""
    try:
        pixels = read_image(Path(plan.root, row["image"]), plan.max_pixels, plan.input_range)
    except InputError:
        return None
    name, options = plan.methods[row["method"]]
    explained = subject.explainer.explain(pixels, name, row["target"], **options)
    seen = view(pixels, subject.explainer.bundle.manifest.input)
    # Keep every step-th pixel: the shorter side then has _SIDE to 2 * _SIDE pixels, fewer in a small or very long picture.
    step = max(min(seen.shape[:2]) // _SIDE, max(seen.shape[:2]) // (4 * _SIDE), 1)
    small = seen[::step, ::step]
    return {
        "image": row["image"],
        "value": row["values"][judge.name],
        "label": label(subject.explainer, row["target"]),
        "plain": _data(encode_image(small, ".jpg")),
        "overlay": _data(encode_image(heatmap.overlay(small, explained.heatmap[0]), ".jpg")),
    }


def _data(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
