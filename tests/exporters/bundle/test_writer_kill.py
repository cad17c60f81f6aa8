"""kill -9 while a bundle is written: what bears a bundle's name is whole, always."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xai_deploy.errors import XaiError
from xai_deploy.format.bundle import Bundle

from .. import onnx_nets as o
from ..running import export_onnx

KILLS = 60

# A child writes one bundle after the other; its parent kills it at a random moment of the first three, by what a write takes
# on this machine, and looks at what is there.
_SCRIPT = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
from xai_deploy.format.bundle import Bundle
from xai_exporters.bundle.stage import staged_bundle

kills, overwrite, folder = int(sys.argv[1]), sys.argv[2] == "True", Path(sys.argv[3])
bundles = [Bundle.open(p) for p in sys.argv[4:]]
files = [{name: b.read(name) for name in b.manifest.files} for b in bundles]
whole = {b.manifest.digest for b in bundles}
draw = random.Random(0)
seen = {"absent": 0, "whole": 0, "partial": 0, "strange": []}

def write(kill, turn):
    path = folder / ("net.xai" if overwrite else f"{kill}-{turn}.xai")
    with staged_bundle(path, bundles[turn % 2].manifest, files[turn % 2], overwrite):
        pass

write("first", 0)
start = time.perf_counter()
write("first", 1)
takes = time.perf_counter() - start
for kill in range(kills):
    child = os.fork()
    if child == 0:
        for turn in range(10**9):
            write(kill, turn)
    time.sleep(draw.uniform(0, 3 * takes))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = [p for p in folder.iterdir() if p.name.endswith(".xai")]
    seen["absent"] += not found
    for path in found:
        try:
            good = Bundle.open(path).manifest.digest in whole
        except Exception as error:
            good = False
        seen["whole"] += good
        seen["strange"] += [] if good else [path.name]
    for path in folder.iterdir():
        seen["partial"] += path.name.endswith(".partial")
        if path.name != "net.xai":
            shutil.rmtree(path)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles that differ, with enough bytes that a write can be cut."""
    folder = tmp_path_factory.mktemp("bundles")
    paths = []
    for i, split in enumerate(("layer", "conv_0")):
        b = o.Build(seed=i)
        x = b("MatMul", b.pooled(b.features()), b.draw(o.CHANNELS, 50_000), out="scores")
        paths.append(export_onnx(folder, b.model(x), split=split, output_path=folder / f"{i}.xai").path)
    return paths[0], paths[1]


@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
@pytest.mark.parametrize("overwrite", [False, True])
def test_kill(tmp_path: Path, bundles: tuple[Path, Path], overwrite: bool) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(KILLS), str(overwrite), str(tmp_path), *map(str, bundles)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert seen["strange"] == []
    assert seen["partial"] >= KILLS // 4, "few kills hit a write: the test shows little"
    if overwrite:  # the old, the new, or between two renames none
        assert seen["whole"] + seen["absent"] == KILLS
        assert seen["whole"] >= KILLS // 2


def test_an_incomplete_folder_is_no_bundle(tmp_path: Path, bundles: tuple[Path, Path]) -> None:
    """The manifest is written last: without it nothing opens."""
    source = Bundle.open(bundles[0])
    (tmp_path / "net.xai").mkdir()
    for name in [*source.manifest.files, None]:
        with pytest.raises(XaiError):
            Bundle.open(tmp_path / "net.xai")
        if name is not None:
            (tmp_path / "net.xai" / name).write_bytes(source.read(name))
