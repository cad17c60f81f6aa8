"""Read which callables a torch file's pickles name, without running them.

torch's weights_only reading allows `bytearray`. Weights do not need it, and it can take all memory: `bytearray(2**40)` is a few
bytes of pickle. It also allows any key in a dictionary: a tuple of two references to a tuple of two references, and so on, is a
few bytes a level, and its hash takes twice as long with each.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

_BOMBS = ("__builtin__ bytearray", "builtins bytearray")
_DEEPEST = 12
"""Tuples within tuples; torch's own files have three."""
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
            depths: list[int] = []  # of the tuples on the stack; 0 for everything else, -1 for a mark
            memo: dict[Any, int] = {}
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name == "GLOBAL" and argument in _BOMBS:  # torch knows no other opcode that names things
                    return str(argument).split(" ")[1]
                if _follow(opcode, argument, depths, memo) > _DEEPEST:
                    return "nested tuples"
    except Exception:  # pickletools raises several types for damage, which torch then reports
        pass
    return None


def _follow(opcode: pickletools.OpcodeInfo, argument: Any, depths: list[int], memo: dict[Any, int]) -> int:
    """Do to the depths what an opcode does to the stack; returns the depth of what it leaves on top."""
    if opcode.name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if opcode.name == "MEMOIZE" else argument] = depths[-1]
        return 0
    taken = []
    if pickletools.markobject in opcode.stack_before:
        while (depth := depths.pop()) != -1:
            taken.append(depth)
    for _ in [kind for kind in opcode.stack_before if kind not in (pickletools.markobject, pickletools.stackslice)]:
        taken.append(depths.pop())
    for kind in opcode.stack_after:
        if kind is pickletools.markobject:
            depths.append(-1)
        elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
            depths.append(memo.get(argument, 0))
        elif opcode.name.startswith("TUPLE"):
            depths.append(1 + max(taken, default=0))
        else:
            depths.append(0)
    return depths[-1] if depths else 0
