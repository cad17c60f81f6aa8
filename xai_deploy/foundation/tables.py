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
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_GROUP = 10_000  # rows of a Parquet row group


def write_csv(file: IO[bytes], columns: Iterable[str], rows: Iterable[Row]) -> None:
    """UTF-8, one header line; None is an empty cell.

    Bytes of a file name that are not UTF-8 stay what they are. A lone surrogate that stands for no byte becomes JSON's escape.
    """
    names = list(columns)
    for cells in itertools.chain([names], ([row[name] for name in names] for row in rows)):
        text = io.StringIO()
        # Python before 3.13 quotes a \r in a name only if the line terminator contains one.
        csv.writer(text, lineterminator="\r\n").writerow(cells)
        line = _NO_BYTE.sub(lambda lone: f"\\u{ord(lone[0]):04x}", text.getvalue().removesuffix("\r\n"))
        file.write(f"{line}\n".encode("utf-8", "surrogateescape"))


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
