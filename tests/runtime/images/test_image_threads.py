"""Reading leaves the process as it is: standard error, other threads and forked children notice nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from xai_deploy import write_image

LOGGING = """
import logging, sys, threading
from xai_deploy import read_image
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="line %(message)s")

def work(name):
    for i in range(100):
        logging.info("%s-%d", name, i)
        try:
            read_image(sys.argv[1 + i % 2])
        except ValueError:
            raise
        except Exception as error:
            assert "truncated" in str(error)

threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
"""

FORKING = """
import os, sys, threading
from xai_deploy import read_image
read_image(sys.argv[1])  # imports OpenCV: a fork amid an import hangs in Python itself
done = threading.Event()

def work():
    while not done.is_set():
        read_image(sys.argv[1])

threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
[t.start() for t in threads]
for _ in range(10):
    child = os.fork()
    if child == 0:
        read_image(sys.argv[1])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
[t.join() for t in threads]
"""


def run(code: str, *files: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, files)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **environment}
    )


def pictures(folder: Path) -> tuple[Path, Path]:
    """A whole file, and one that is truncated."""
    write_image(folder / "a.png", np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    write_image(folder / "b.jpg", np.zeros((60, 80, 3), np.uint8))
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-200])
    return folder / "a.png", folder / "b.jpg"


def test_no_line_is_lost(tmp_path: Path) -> None:
    found = [line for line in run(LOGGING, *pictures(tmp_path)).stderr.splitlines() if line.startswith("line ")]
    assert sorted(found) == sorted(f"line {name}-{i}" for name in range(8) for i in range(100))


def test_forked_children_read_on(tmp_path: Path) -> None:
    run(FORKING, *pictures(tmp_path))


def test_no_temporary_folder(tmp_path: Path) -> None:
    """None is needed."""
    code = "import sys, tempfile; tempfile.tempdir = '/nowhere'; from xai_deploy import read_image; read_image(sys.argv[1])"
    run(code, pictures(tmp_path)[0], TMPDIR="/nowhere")
