"""The results as files for other programs: one row per image, network and method as CSV and Parquet, the summary as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import BackendNotInstalledError
from ..foundation.journal import Line
from .metrics import Column
from .summary import Curve, Group

KEYS = ("image", "network", "method", "target", "predicted")


def long(
    rows: Sequence[Line], networks: Sequence[str], methods: Sequence[str], columns: Sequence[Column]
) -> list[Line]:
    """The rows as records: names instead of indices, a key for each column, None if a figure is not defined."""
    measured = [column.name for column in columns if column.of_means is None]
    return [
        {
            "image": row["image"],
            "network": networks[row["network"]],
            "method": methods[row["method"]],
            "target": row["target"],
            "predicted": row["predicted"],
            **{name: row["values"].get(name) for name in measured},
        }
        for row in rows
    ]


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
    lines = []
    for cells in (list(records[0]), *(record.values() for record in records)):
        text = io.StringIO()
        # Python before 3.13 quotes a \r in a name only if the line terminator contains one.
        csv.writer(text, lineterminator="\r\n").writerow(cells)
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def require() -> Any:
    """The module pyarrow, with `pyarrow.parquet` imported.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BackendNotInstalledError(
            'Parquet needs pyarrow, which is not installed; pip install "xai-deploy[evaluate]"'
        ) from None
    return pyarrow


def as_parquet(records: Sequence[Line]) -> bytes:
    """Parquet; an undefined figure is null.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    pyarrow = require()
    kinds = {"image": pyarrow.string(), "network": pyarrow.string(), "method": pyarrow.string()}
    # An explicit schema: pyarrow would guess "null" for a column in which no figure is defined.
    kinds |= {"target": pyarrow.int64(), "predicted": pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in records[0]])
    names = ("image", "network", "method")
    clean = [record | {name: _utf8(record[name]) for name in names} for record in records]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(clean, schema), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def as_json(
    plan: Mapping[str, Any],
    groups: Sequence[Group],
    networks: Sequence[str],
    methods: Sequence[str],
    skipped: Sequence[Line],
    images: int,
) -> bytes:
    """The plan, the images skipped, and every figure with its interval."""
    document = {
        "plan": plan,
        "images": images,
        "skipped": list(skipped),
        "results": [
            {
                "network": networks[group.network],
                "method": methods[group.method],
                "figures": {name: asdict(figure) for name, figure in group.figures.items()},
            }
            for group in groups
        ],
    }
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")


def _utf8(text: str) -> str:
    """The text without lone surrogates, which stand for bytes of a file name that are not UTF-8; Parquet refuses them."""
    return text.encode("utf-8", "backslashreplace").decode()
