"""Parquet files as archives of images: a column of bytes, a row an image, as Hugging Face and Spark write them (pyarrow).

Rows are read one by one: of a file one page and one image are in memory. Reading goes on from the last row, so rows are best asked
for in order.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageFileError, ImageTooLargeError
from ..foundation.tables import require_pyarrow
from .archive import FILE_LIMIT

_IMAGE = ("image", "img", "jpg", "jpeg", "png", "bytes", "content")
_MASK = ("mask", "segmentation", "annotation")
_NAME = ("name", "file_name", "filename", "path", "image_path", "key", "__key__")
_LABEL = ("label", "class", "cls", "target")
_GROUP_LIMIT = 1 << 32  # bytes of the images of a row group, before compression
_TEXT_LIMIT = 1 << 29  # bytes of a column of names or labels, before compression
_LEAST_IMAGE = 32  # bytes of an image in a file of many
_FEW_ROWS = 1 << 17  # rows that a file of any size may state
_BUFFER = 1 << 16  # bytes read at a time


class Parquet:
    """A Parquet file. See `Archive`.

    The images are the column named image, or the only one of bytes; a column of {bytes, path}, as of Hugging Face, is one of bytes.
    An image has the name that its path or a column such as file_name gives, if no other has it, else the number of its row.

    Raises:
        BackendNotInstalledError: pyarrow is missing.
        ImageFileError: It can't be read, or holds no column of images.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = require_pyarrow("evaluate")
        self._lock = threading.Lock()
        # column -> a row group, its next row, and an iterator that gives this row
        self._rows: dict[str, tuple[int, int, Iterator[Any]]] = {}
        with self._one_line():
            self._file = self._arrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
            metadata = self._file.metadata
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            self._check_counts(counts)
            fields = {field.name: field for field in self._file.schema_arrow}
        bytes_of = {name: leaf for name, field in fields.items() if (leaf := self._leaf(field)) is not None}
        self._first = [0, *itertools.accumulate(counts)][:-1]  # the first row of each group
        self._image = self._the_image(bytes_of)
        mask = next((name for name in _MASK if name in bytes_of and name != self._image), None)
        self._columns = {"": bytes_of[self._image]} | ({} if mask is None else {"mask": bytes_of[mask]})
        self._check_groups()
        label = next((name for name in _LABEL if name in fields), None)
        count = sum(counts)
        names = self._names(fields, bytes_of, count) or [
            f"{row:0{max(len(str(count - 1)), 1)}}" for row in range(count)
        ]
        self.images: Sequence[str] = tuple(names)
        self._row = {name: row for row, name in enumerate(names)}
        self.masks: Mapping[str, str] = (
            {} if mask is None else {_stem(name): f"mask/{row}" for row, name in enumerate(names)}
        )
        self._row |= {name: row for row, name in enumerate(self.masks.values())}
        self._labels = None if label is None else self._column(label)

    def _check_counts(self, counts: Sequence[int]) -> None:
        """Refuse more rows than there can be images in a file of this size: rows without bytes take none in it."""
        size = self.path.stat().st_size
        self._most_rows = max(_FEW_ROWS, size // _LEAST_IMAGE)
        if min(counts, default=0) < 0 or sum(counts) > self._most_rows:
            raise ImageTooLargeError(
                f"{self.path}: states {sum(counts)} rows, the limit is {self._most_rows} in a file of {size} bytes; is it damaged?"
            )

    def _leaf(self, field: Any) -> str | None:
        """The path of a column's bytes, or None if it has none."""
        types = self._arrow.types
        kinds = (types.is_binary, types.is_large_binary)
        if any(is_kind(field.type) for is_kind in kinds):
            return str(field.name)
        if types.is_struct(field.type):
            inside = {one.name: one.type for one in field.type}
            if "bytes" in inside and any(is_kind(inside["bytes"]) for is_kind in kinds):
                return f"{field.name}.bytes"
        return None

    def _the_image(self, bytes_of: Mapping[str, str]) -> str:
        if named := next((name for name in _IMAGE if name in bytes_of), None):
            return named
        if len(bytes_of) == 1:
            return next(iter(bytes_of))
        if not bytes_of:
            raise ImageFileError(f"{self.path}: has no column of bytes, which the images would be")
        raise ImageFileError(
            f"{self.path}: has several columns of bytes ({', '.join(bytes_of)}); name that of the images 'image'"
        )

    def _check_groups(self) -> None:
        """Refuse a row group that would take more memory than any honest one."""
        metadata = self._file.metadata
        leaves = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
        for group in range(metadata.num_row_groups):
            for leaf in self._columns.values():
                size = metadata.row_group(group).column(leaves[leaf]).total_uncompressed_size
                if not 0 <= size <= _GROUP_LIMIT:
                    raise ImageTooLargeError(
                        f"{self.path}: its row group {group} has {size} bytes, the limit is {_GROUP_LIMIT}; write smaller ones"
                    )

    def _names(self, fields: Mapping[str, Any], bytes_of: Mapping[str, str], count: int) -> list[str] | None:
        """The images' names, if the file gives each a name of its own that is a path inside it."""
        columns = [name for name in _NAME if name in fields and self._arrow.types.is_string(fields[name].type)]
        if bytes_of[self._image] != self._image and any(one.name == "path" for one in fields[self._image].type):
            columns.insert(0, f"{self._image}.path")
        for column in columns:
            names = self._column(column)
            safe = all(isinstance(name, str) and _is_inside(name) and not name.startswith("mask/") for name in names)
            if safe and len(names) == count == len(set(names)):
                return ["/".join(part for part in name.split("/") if part not in ("", ".")) for name in names]
        return None

    def _column(self, path: str) -> list[Any]:
        """All values of a small column; of a column inside another the inner values.

        Texts are read as positions in a dictionary: a text that stands in every row is in memory once.
        """
        self._check_column(path)
        values: list[Any] = []
        options = {"metadata": self._file.metadata, "read_dictionary": [path], "buffer_size": _BUFFER}
        with self._one_line(), self._arrow.parquet.ParquetFile(self.path, pre_buffer=False, **options) as file:
            for group in range(file.metadata.num_row_groups):
                for part in file.read_row_group(group, columns=[path], use_threads=False).column(0).chunks:
                    values += self._values(part, inner=path.rpartition(".")[0] != "")
        return values

    def _values(self, part: Any, inner: bool) -> list[Any]:
        if inner and self._arrow.types.is_struct(part.type):
            [part] = part.flatten()  # a row without the outer value has no inner one
        if not self._arrow.types.is_dictionary(part.type):
            return list(part.to_pylist())
        texts = part.dictionary.to_pylist()
        return [None if at is None else texts[at] for at in part.indices.to_pylist()]

    def _check_column(self, path: str) -> None:
        """Refuse a column of names or labels that takes more memory than any honest one."""
        metadata = self._file.metadata
        own = [
            i
            for i in range(metadata.num_columns)
            if (leaf := metadata.schema.column(i).path) == path or leaf.startswith(f"{path}.")
        ]
        chunks = [metadata.row_group(group).column(i) for group in range(metadata.num_row_groups) for i in own]
        sizes, counts = ([getattr(one, key) for one in chunks] for key in ("total_uncompressed_size", "num_values"))
        for numbers, what, limit in ((sizes, "bytes", _TEXT_LIMIT), (counts, "values", len(own) * self._most_rows)):
            if min(numbers, default=0) < 0 or sum(numbers) > limit:
                raise ImageTooLargeError(
                    f"{self.path}: its column {path!r} has {sum(numbers)} {what}, the limit is {limit}; shorten it, or leave it out"
                )

    def read(self, name: str) -> bytes:
        """See `Archive.read`."""
        if name not in self._row:
            raise ImageFileError(f"{self.path / name}: no such row")
        with self._lock, self._one_line(name):
            value = self._value("mask" if self.masks and name.startswith("mask/") else "", self._row[name])
        if value is None:
            raise ImageFileError(f"{self.path / name}: the row holds no bytes")
        if len(value) > FILE_LIMIT:
            raise ImageTooLargeError(f"{self.path / name}: {len(value)} bytes, the limit is {FILE_LIMIT}")
        if not value:
            raise ImageFileError(f"{self.path / name}: is empty; copy or download it again")
        return value

    def _value(self, column: str, row: int) -> bytes | None:
        group = bisect.bisect_right(self._first, row) - 1
        own_group, at, rows = self._rows.pop(column, (-1, -1, iter(())))  # dropped if reading fails
        if own_group != group or at > row:
            at = self._first[group]
            rows = self._file.iter_batches(1, row_groups=[group], columns=[self._columns[column]], use_threads=False)
        for _ in range(row - at):
            next(rows)
        values = next(rows).column(0)
        values = values.field("bytes") if self._arrow.types.is_struct(values.type) else values
        self._rows[column] = (group, row + 1, rows)
        own: bytes | None = values[0].as_py()
        return own

    def label(self, name: str) -> int | str | None:
        """See `Archive.label`."""
        own = None if self._labels is None else self._labels[self._row[name]]
        if own is None or (isinstance(own, (int, str)) and not isinstance(own, bool)):
            return own
        raise ImageFileError(
            f"{self.path / name}: its label is {type(own).__name__}; it is an index or a class's label"
        )

    @contextlib.contextmanager
    def _one_line(self, name: str = "") -> Iterator[None]:
        """Turn an error of pyarrow's into one of ours."""
        try:
            yield
        except (self._arrow.ArrowException, OSError, StopIteration, UnicodeDecodeError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")[:200]
            raise ImageFileError(f"{self.path / name}: can't be read ({reason}); is it a whole Parquet file?") from None


def _is_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in re.split(r"[/\\]", name) and "\0" not in name


def _stem(name: str) -> str:
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name
