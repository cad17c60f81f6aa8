"""Free memory goes back to the system: `heap.py`, against what glibc and the kernel count. Each case is a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

FREED = """
import sys
from xai_deploy.foundation.heap import give_back_freed

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))  # KiB

pieces = [bytearray(100_000) for _ in range(400)]  # 40 MB of pieces that are no pages of their own
pinned = pieces[-1]
before = resident()
del pieces
give_back_freed(int(sys.argv[1]))
print(before - resident())
"""


def test_what_opening_leaves_goes_back_to_the_system() -> None:
    """40 MB are freed below one piece that stays, so glibc keeps them, but for a graph of 4 MiB or more."""
    kept, given = (
        int(subprocess.run([sys.executable, "-c", FREED, size], check=True, stdout=subprocess.PIPE).stdout)
        for size in (str((4 << 20) - 1), str(4 << 20))
    )
    assert kept < 4_000
    assert given > 35_000


def test_large_blocks_go_back_to_the_system() -> None:
    """glibc counts blocks that are pages of their own; without the call, the second block of a size is none of them."""
    code = """
import ctypes, sys
import numpy as np
from xai_deploy.foundation.heap import give_back_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
if sys.argv[1] == "fixed":
    give_back_large_blocks()
np.empty(8 << 20, np.uint8)
before = libc.mallinfo2().hblks
kept = np.empty(8 << 20, np.uint8)
print(libc.mallinfo2().hblks - before)
"""
    run = [
        subprocess.run([sys.executable, "-c", code, how], check=True, stdout=subprocess.PIPE, text=True).stdout
        for how in ("own", "fixed")
    ]
    assert run == ["0\n", "1\n"]
