"""Read which callables a torch file's pickles name, without running them.

torch's weights_only reading allows `bytearray`. Weights do not need it, and it can take all memory: `bytearray(2**40)` is a few
bytes of pickle.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

_BOMBS = ("__builtin__ bytearray", "builtins bytearray")
_LEGACY_PICKLES = 5  # torch < 1.6: magic number, protocol, system, the object, the storages' keys


def bomb_in(path: Path) -> str | None:
    """The first such callable in a torch file's pickles, or None. A damaged pickle is read up to the damage."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return _first(file, _LEGACY_PICKLES)
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return next(filter(None, (_first(io.BytesIO(archive.read(name)), 1) for name in pickles)), None)


def _first(file: IO[bytes], pickles: int) -> str | None:
    try:
        for _ in range(pickles):
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name == "GLOBAL" and argument in _BOMBS:  # torch knows no other opcode that names things
                    return str(argument).split(" ")[1]
    except Exception:  # pickletools raises several types for damage, which torch then reports
        pass
    return None
