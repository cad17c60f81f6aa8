"""Records as tables: a row for each, for spreadsheets (CSV) and data frames (Parquet)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .reading import Place
from .record import Record
from .statistics import GRID

TEXT, WHOLE, NUMBER, BYTES = "string", "int64", "float64", "binary"

COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("id", "time", "chain"), TEXT),
    **dict.fromkeys(("number", "lost"), WHOLE),
    **dict.fromkeys(("bundle", "digest", "signature", "layer", "preprocessing"), TEXT),
    **dict.fromkeys(("backend", "device", "precision", "versions"), TEXT),
    **dict.fromkeys(("input_sha256", "input_of", "file", "beside"), TEXT),
    "predicted": WHOLE,
    "predicted_label": TEXT,
    **dict.fromkeys(("predicted_probability", "predicted_logit"), NUMBER),
    "target": WHOLE,
    "target_label": TEXT,
    "versus": WHOLE,
    "versus_label": TEXT,
    "sign": WHOLE,
    **dict.fromkeys(("title", "asked", "chosen_by"), TEXT),
    **dict.fromkeys(("probability", "logit", "score"), NUMBER),
    **dict.fromkeys(("method", "options"), TEXT),
    "seed": WHOLE,
    "seconds": NUMBER,
    **dict.fromkeys(("map_height", "map_width"), WHOLE),
    "map_scale": NUMBER,
    "map_sha256": TEXT,
    "constant": TEXT,
    **{f"energy_{row}_{column}": NUMBER for row in range(GRID) for column in range(GRID)},
    **dict.fromkeys(("border", "entropy", "top"), NUMBER),
    **dict.fromkeys(("stated_error", "fields", "previous"), TEXT),
}
"""Column -> its type. Lists and objects are JSON in a text."""


def columns(maps: bool) -> dict[str, str]:
    """The columns; with the maps' own numbers, little-endian float16, if asked."""
    return {**COLUMNS, "map": BYTES} if maps else dict(COLUMNS)


def rows(records: Iterator[tuple[Place, Record]], maps: bool) -> Iterator[dict[str, Any]]:
    """The records as rows of `columns(maps)`; None where there is nothing to say."""
    return (_row(record, maps) for _, record in records)


def _row(record: Record, maps: bool) -> dict[str, Any]:
    source, seen, target, kept, stated = record.source, record.input, record.target, record.map, record.statistics
    best = record.prediction[0] if record.prediction else None
    row: dict[str, Any] = {
        name: getattr(source, name) for name in ("bundle", "digest", "signature", "layer", "preprocessing")
    }
    row |= {name: getattr(source, name) for name in ("backend", "device", "precision")}
    row |= {
        name: getattr(record, name) for name in ("id", "time", "chain", "number", "lost", "method", "seed", "seconds")
    }
    row |= {name: getattr(target, name) for name in ("versus", "versus_label", "sign", "title", "asked", "chosen_by")}
    row |= {name: getattr(target, name) for name in ("probability", "logit", "score")}
    row |= {name: None if stated is None else getattr(stated, name) for name in ("border", "entropy", "top")}
    energy = [None] * GRID**2 if stated is None else stated.energy
    row |= {f"energy_{i // GRID}_{i % GRID}": share for i, share in enumerate(energy)}
    return row | {
        "versions": _json(source.versions),
        "input_sha256": seen.sha256,
        "input_of": seen.of,
        "file": seen.file,
        "beside": seen.beside,
        "predicted": best and best.index,
        "predicted_label": best and best.label,
        "predicted_probability": best and best.probability,
        "predicted_logit": best and best.logit,
        "target": target.index,
        "target_label": target.label,
        "options": _json(record.options),
        "map_height": kept.shape[-2],
        "map_width": kept.shape[-1],
        "map_scale": kept.scale,
        "map_sha256": kept.sha256,
        "constant": kept.constant,
        "stated_error": _json(record.stated_error),
        "fields": _json(record.fields),
        "previous": record.previous,
        **({"map": kept.numbers.tobytes()} if maps else {}),
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
