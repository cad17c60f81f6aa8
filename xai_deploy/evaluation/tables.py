"""The results as files for other programs: one row per image, network and method as CSV and Parquet, the summary as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..foundation.journal import Line
from ..foundation.tables import require_pyarrow, write_csv, write_parquet
from .metrics import Column
from .summary import Curve, Group

EXTRA = "evaluate"
KEYS = ("image", "network", "method", "target", "predicted")
ERROR = "error"


def long(
    rows: Sequence[Line],
    skipped: Sequence[Line],
    networks: Sequence[str],
    methods: Sequence[str],
    columns: Sequence[Column],
) -> list[Line]:
    """The rows as records: names instead of indices, a key for each column, None if a figure is not defined.

    Behind them comes a record for each image that was skipped: its name, and the reason as `error`.
    """
    measured = [column.name for column in columns if column.of_means is None]
    nothing = dict.fromkeys((*KEYS, *measured))
    return [
        {
            "image": row["image"],
            "network": networks[row["network"]],
            "method": methods[row["method"]],
            "target": row["target"],
            "predicted": row["predicted"],
            **{name: row["values"].get(name) for name in measured},
            ERROR: None,
        }
        for row in rows
    ] + [{**nothing, "image": entry["image"], ERROR: entry["reason"]} for entry in skipped]


def of_curves(
    curves: Sequence[Curve], groups: Sequence[Group], networks: Sequence[str], methods: Sequence[str]
) -> list[Line]:
    """The mean curves as records: one for each point of each network, method and curve."""
    return [
        {
            "network": networks[groups[curve.group].network],
            "method": methods[groups[curve.group].method],
            "curve": curve.name,
            "share": number / (len(curve.points) - 1),
            "mean": point.mean,
            "low": point.low,
            "high": point.high,
            "images": point.count,
        }
        for curve in curves
        for number, point in enumerate(curve.points)
    ]


def as_csv(records: Sequence[Line]) -> bytes:
    """UTF-8, one header line; an undefined figure is an empty cell."""
    file = io.BytesIO()
    write_csv(file, records[0], records)
    return file.getvalue()


def require() -> Any:
    """The module pyarrow; see `require_pyarrow`.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    return require_pyarrow(EXTRA)


def as_parquet(records: Sequence[Line]) -> bytes:
    """Parquet; an undefined figure is null.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    kinds = dict.fromkeys(("image", "network", "method", ERROR), "string") | dict.fromkeys(
        ("target", "predicted"), "int64"
    )
    file = io.BytesIO()
    write_parquet(file, {name: kinds.get(name, "float64") for name in records[0]}, records, EXTRA)
    return file.getvalue()


def document(
    plan: Mapping[str, Any],
    groups: Sequence[Group],
    networks: Sequence[str],
    methods: Sequence[str],
    skipped: Sequence[Line],
    images: int,
) -> dict[str, Any]:
    """The plan, the images skipped, and every figure with its interval, as they are read back from `as_json`."""
    found = {
        "plan": plan,
        "images": images,
        "skipped": list(skipped),
        "results": [
            {
                "network": networks[group.network],
                "method": methods[group.method],
                "figures": {name: asdict(figure) for name, figure in group.figures.items()},
                "diagnostics": {name: asdict(figure) for name, figure in group.diagnostics.items()},
            }
            for group in groups
        ],
    }
    read: dict[str, Any] = json.loads(as_json(found))
    return read


def as_json(document: Mapping[str, Any]) -> bytes:
    """`document` as the content of a file."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")
