"""Arrays on disk: `.npy` and `.npz` files read without pickle and within bounds, and folders of a JSON header beside such a file.

NumPy allocates what an array's header claims, and a small compressed file unpacks to any size. So sizes are compared before
anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .whole_files import umask
from .zip_files import sound_entries

HEADER, ARRAYS = "header.json", "arrays.npz"
_HEADER_LIMIT = 16 << 20  # bytes


class TooLargeError(ValueError):
    """There is more than the limit allows."""


def read_npy(
    path: Path, limit: int, said: str, refusal: type[Exception], too_large: type[Exception] | None = None
) -> NDArray[Any]:
    """The array of a `.npy` file that may be a stranger's, or one line why there is none.

    Args:
        path: A plain file, or a link to one.
        limit: The file's bytes.
        said: What the line begins with.
        refusal: The error to raise.
        too_large: The one of a file that is larger than the limit; None: `refusal`.
    """
    try:
        return _read_npy(path, limit)
    except OSError as error:
        raise refusal(f"{said}: can't be read ({error.strerror})") from None
    except OverflowError:
        raise (too_large or refusal)(f"{said}: the file is larger than {limit >> 20} MiB") from None
    except ValueError as error:
        raise refusal(f"{said}: {error}") from None


def _read_npy(path: Path, limit: int) -> NDArray[Any]:
    """The array of a `.npy` file.

    Args:
        path: A plain file, or a link to one.
        limit: The file's bytes.

    Raises:
        OSError: The file can't be read.
        OverflowError: It is larger than the limit.
        ValueError: It is no `.npy` file, is damaged, or holds Python objects; the message says which.
    """
    if not path.is_file():
        raise ValueError("not a plain file" if path.exists() else "no such file")
    if path.stat().st_size > limit:
        raise OverflowError
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("not a .npy file; write it with numpy.save")
        file.seek(0)
        try:
            shape, dtype = _header(file)
        except Exception:  # the header is a Python expression, and damaged ones fail in many ways
            raise ValueError("its header is damaged; write it again with numpy.save") from None
        if dtype.hasobject:
            raise ValueError("holds Python objects, which are not read; save an array of numbers")
        if file.tell() + math.prod(shape) * dtype.itemsize != path.stat().st_size:
            raise ValueError(f"its header announces {dtype} {shape}, but the file has another size; it is damaged")
        file.seek(0)
        try:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
        except Exception:  # negative sizes, and sizes that are truth values, fail here
            raise ValueError("its header is damaged; write it again with numpy.save") from None
    return array


def read_npz(file: Path | IO[bytes], limit: int, stored: bool = False) -> dict[str, NDArray[Any]]:
    """All arrays of an `.npz` file.

    Args:
        file: Its path, or the opened file.
        limit: Bytes that all arrays may have together, unpacked.
        stored: Refuse compressed arrays, so that they can't be larger than the file.

    Raises:
        OSError: The file can't be read.
        TooLargeError: The arrays are larger than the limit.
        UnsoundZipError: Two readers could read its archive in two ways.
        Exception: It is damaged: zipfile, zlib and NumPy's headers (Python expressions) fail in more ways than they document.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return read_npz(opened, limit, stored)
    entries = sound_entries(file)
    if sum(entry.file_size for entry in entries) > limit:
        raise TooLargeError
    with zipfile.ZipFile(file) as members:
        for entry in entries:
            if stored and entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(entry.filename)
            _check_size(members, entry)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:  # a pickle in a file from elsewhere could run code
        return dict(arrays)


def _check_size(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims another size than its data have.

    Raises:
        ValueError: The sizes differ, or the array holds Python objects.
    """
    with members.open(member) as file:
        shape, dtype = _header(file)
        # After the header, `tell` is where the data begin.
        if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(member.filename)


def array_digest(array: NDArray[Any]) -> str:
    """The SHA-256 digest of an array's shape, type and values, in hexadecimal."""
    kind = "" if array.dtype == np.uint8 else str(array.dtype)
    return hashlib.sha256((repr(array.shape) + kind).encode() + array.tobytes()).hexdigest()


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type in the header of a `.npy` file; the file is then where the data begin."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def write_folder(folder: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a folder of `header.json` and `arrays.npz`, whole or not at all.

    Args:
        folder: It must not exist; its parent must.
        header: Plain JSON.
        arrays: Arrays of numbers, written without compression.

    Raises:
        OSError: The folder exists (FileExistsError) or can't be written; `filename` is the folder.
        ValueError: The header holds NaN or what JSON does not know, or an array holds Python objects.
    """
    text = json.dumps(header, indent=1, allow_nan=False).encode()
    if odd := next((name for name, array in arrays.items() if array.dtype.kind not in "biuf"), None):
        raise ValueError(f"{odd} holds {arrays[odd].dtype}, and only numbers can be saved")
    if os.path.lexists(folder):
        raise FileExistsError(17, "exists; choose another folder, or remove it", str(folder))
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    try:
        with (part / ARRAYS).open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        (part / HEADER).write_bytes(text)
        part.chmod(0o777 & ~umask())
        part.rename(folder)  # fails if a folder with files has appeared meanwhile
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)  # nothing is there any more if it was renamed


def read_folder(folder: Path, limit: int) -> tuple[Any, dict[str, NDArray[Any]]]:
    """What `write_folder` wrote, also if a stranger wrote it: the decoded header and the arrays.

    Args:
        folder: Its path.
        limit: Bytes that all arrays may have together.

    Raises:
        OSError, TooLargeError, Exception: As for `read_npz`. Links and what is no plain file are refused.
    """
    with _plain(folder / HEADER) as file:
        data = file.read(_HEADER_LIMIT + 1)
    if len(data) > _HEADER_LIMIT:
        raise TooLargeError
    with _plain(folder / ARRAYS) as file:
        return json.loads(data), read_npz(file, limit, stored=True)


def _plain(path: Path) -> IO[bytes]:
    """Open a plain file, without following a link or waiting at a pipe."""
    if path.is_symlink():
        raise ValueError(f"{path.name} is a link")
    handle = os.open(
        path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is no plain file")
    return open(handle, "rb")
