"""A `.pt2` whose example inputs are a pickle that runs code: torch.export.load falls back to plain pickle by itself."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.errors import UntrustedSourceError

from .. import nets
from ..running import program


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def poisoned(folder: Path) -> tuple[Path, Path]:
    good, evil, mark = folder / "good.pt2", folder / "net.pt2", folder / "PWNED"
    program(nets.plain(), good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(evil, "w", zipfile.ZIP_STORED) as target:
        names = source.namelist()
        assert any("sample_inputs" in name for name in names)
        for name in names:
            target.writestr(name, pickle.dumps(Evil(mark)) if "sample_inputs" in name else source.read(name))
    return evil, mark


def test_a_poisoned_program_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    evil, mark = poisoned(tmp_path)
    load = torch.load
    with pytest.raises(UntrustedSourceError, match=r"holds Python objects.*--trust-pickle"):
        export(Request(evil, output_path=tmp_path / "net.xai"))
    assert not mark.exists()
    assert not (tmp_path / "net.xai").exists()
    assert torch.load is load
