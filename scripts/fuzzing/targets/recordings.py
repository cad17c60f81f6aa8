"""Recordings of xai-check: the archive, NumPy's headers and the JSON are changed."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from xai_deploy.agreement import recording

from ..formats.zips import mutate_zip
from ..material import folder
from ..mutations import mutate_bytes


@cache
def seeds() -> list[bytes]:
    """A small recording, its members compressed or stored."""
    header = {
        "format": 1,
        "network": "net",
        "digest": "d",
        "runtime": "onnxruntime on cpu, f32",
        "methods": {"cam": {"name": "cam", "options": {}}},
        "images": ["a.png", "b.png"],
        "pixels": ["0" * 64, "1" * 64],
        "layer": "layer4",
    }
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "logits": np.zeros((2, 3), np.float32),
        "probabilities": np.ones((2, 3), np.float32),
        "heatmaps-0": np.ones((2, 4, 5), np.float32),
    }
    files = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, allow_pickle=False, **arrays)
        files.append(buffer.getvalue())
    return files


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Bytes of the archive, numbers in its records, or bytes of one member in an archive that is in order."""
    if rng.random() < 0.2:
        return mutate_zip(data, rng)
    if rng.random() < 0.4:
        return mutate_bytes(data, others, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # of an archive that was changed before
        return mutate_bytes(data, others, rng)
    changed = rng.choice(list(members))
    members[changed] = mutate_bytes(members[changed], list(members.values()), rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return buffer.getvalue()


def one(data: bytes) -> None:
    """Read it.

    Raises:
        XaiError: It is refused.
    """
    path = folder() / f"recording-{os.getpid()}.npz"
    path.write_bytes(data)
    recording.read(path)
