"""A target with every fault that the fuzzers look for."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from xai_deploy.errors import InputError


def seeds() -> list[bytes]:
    """An input without fault."""
    return [b"good"]


def one(data: bytes) -> None:
    """Do as the input says."""
    match data:
        case b"refused":
            raise InputError("as it should be")
        case b"uncaught":
            raise ValueError("nobody's")
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"hang":
            time.sleep(60)
        case b"memory":
            np.ones(3 << 26, np.uint8)
        case b"unallocated":
            np.ones(1 << 40, np.uint8)
