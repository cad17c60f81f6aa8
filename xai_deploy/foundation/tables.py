"""Rows as files for other programs: CSV and Parquet (pyarrow), written row by row."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import IO, Any

from ..errors import BackendNotInstalledError

Row = Mapping[str, Any]
_UNPRINTED = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and their full-width forms
_GROUP = 10_000  # rows of a Parquet row group


def write_csv(file: IO[bytes], columns: Iterable[str], rows: Iterable[Row]) -> None:
    """UTF-8, one header line; None is an empty cell.

    Bytes of a file name that are not UTF-8 stay what they are. Control characters, and a lone surrogate that stands for no byte,
    become JSON's escapes. A text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV Injection).
    """
    names = list(columns)
    for cells in itertools.chain([names], ([row[name] for name in names] for row in rows)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([_cell(one) if isinstance(one, str) else one for one in cells])
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _cell(text: str) -> str:
    escaped = _UNPRINTED.sub(lambda one: f"\\u{ord(one[0]):04x}", text)
    return f"'{escaped}" if escaped.startswith(_FORMULA) else escaped


def require_pyarrow(extra: str) -> Any:
    """The module pyarrow, with `pyarrow.parquet` imported; `extra` is what to install if it is missing.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BackendNotInstalledError(
            f'Parquet needs pyarrow, which is not installed; pip install "xai-deploy[{extra}]"'
        ) from None
    return pyarrow


def write_parquet(
    file: IO[bytes], columns: Mapping[str, str], rows: Iterable[Row], extra: str, group: int = _GROUP
) -> None:
    """Parquet; None is null.

    Args:
        file: Where to.
        columns: Column -> the name of its type: "string", "int64", "float64", "binary". An explicit schema: pyarrow would guess
            "null" for a column in which nothing is defined.
        rows: Each with all columns.
        extra: See `require_pyarrow`.
        group: Rows of a row group; so many are in memory.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
    """
    pyarrow = require_pyarrow(extra)
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])
    texts = [name for name, kind in columns.items() if kind == "string"]
    rest = iter(rows)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        while some := list(itertools.islice(rest, group)):
            clean = [{**row, **{name: _utf8(row[name]) for name in texts}} for row in some]
            writer.write_table(pyarrow.Table.from_pylist(clean, schema))


def _utf8(text: str | None) -> str | None:
    """The text without lone surrogates, which stand for bytes of a file name that are not UTF-8; Parquet refuses them."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
