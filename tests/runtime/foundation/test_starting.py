"""Ctrl-C while a command imports what it needs, and who else's handler stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import xai_deploy
from xai_deploy.foundation import starting

INTERRUPTS = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(1)\n"
"""A package that takes long to import, while the user presses Ctrl-C."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def run(folder: Path, *command: str, ignored: bool = False) -> tuple[int, str]:
    """Run Python with a numpy that is interrupted; returns the status and standard error."""
    (folder / "stand_in").mkdir()
    (folder / "stand_in" / "numpy.py").write_text(INTERRUPTS)
    places = [str(folder / "stand_in"), str(Path(xai_deploy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    handler = signal.SIG_IGN if ignored else signal.default_int_handler
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["explain", "serve"])
def test_an_installed_command_ends_in_silence(tmp_path: Path, name: str) -> None:
    program = tmp_path / f"xai-{name}"
    program.write_text(f"import sys\nfrom xai_deploy.cli.{name} import main\nsys.exit(main())\n")
    assert run(tmp_path, str(program), "--help") == (-signal.SIGINT, "")


def test_a_module_that_is_run_ends_in_silence(tmp_path: Path) -> None:
    assert run(tmp_path, "-m", "xai_deploy", "serve", "--help") == (-signal.SIGINT, "")


def test_programs_of_others_keep_their_handler(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("try:\n    import xai_deploy\nexcept KeyboardInterrupt:\n    raise SystemExit(7)\n")
    assert run(tmp_path, str(own)) == (7, "")


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """nohup, and jobs of a shell script in the background: the stand-in lacks what is imported of numpy, and that is all."""
    status, said = run(tmp_path, "-m", "xai_deploy", "--version", ignored=True)
    assert (status, "numpy" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["python", "/usr/bin/xai-serve", "net.xai"], True),
        (["python", "-P", r"Scripts/xai-explain.exe"], True),
        (["python", "-P", "-m", "xai_deploy", "explain"], True),
        (["python", "-m", "xai_exporters"], True),
        (["python", "-m", "pytest", "xai-serve"], False),
        (["python", "server.py", "-m", "xai_deploy"], False),
        (["python", "-c", "import xai_deploy"], False),
        (["python"], False),
        ([""], False),
    ],
)
def test_what_a_command_is(words: list[str], ours: bool) -> None:
    assert starting.is_command(words) == ours


def test_from_then_on_it_raises(tmp_path: Path) -> None:
    """`exits.run` gives the handler back before the command does anything."""
    program = tmp_path / "xai-own"
    program.write_text(
        "import os, signal, sys\n"
        "from xai_deploy.foundation import exits\n"
        "sys.exit(exits.run('xai-own', lambda: os.kill(os.getpid(), signal.SIGINT)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(Path(xai_deploy.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, "xai-own: interrupted\n")
