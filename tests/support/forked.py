"""Our commands as processes of their own that pay for no import: a server has imported what they need, and forks.

To import the exporters takes 4 s of processor time, torch as much again, and the tests start some hundred commands and readers.
A forked process has its own folder, environment, limits and end, like any other. What differs: Python's own start, and what a
module reads while it is imported; where a test is about these, it starts Python itself.

This file is the server, too, and a client: a program in a shell's PATH, which starts in 20 ms as it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

SOCKET, PROGRAMS = "socket", "bin"
"""In the server's folder: its socket, and its clients as programs."""
IMPORTED = (
    "torch.onnx",
    "torchvision",
    "xai_deploy.cli.bench",
    "xai_deploy.cli.check",
    "xai_deploy.cli.evaluate",
    "xai_deploy.cli.explain",
    "xai_deploy.cli.records",
    "xai_exporters.cli",
    "xai_exporters.sources.openvino_ir.child",
    "xai_exporters.bundle.everywhere",
)


def request(
    address: str,
    entry: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    descriptors: Sequence[int] = (0, 1, 2),
    timeout: float | None = None,
) -> int:
    """Run a module's `main` in a forked process.

    Args:
        address: The server's socket.
        entry: The module, whose `main` takes the arguments and returns the exit status.
        arguments: What follows the program.
        environment: All environment variables.
        folder: Its current one.
        descriptors: What the process has as its standard input, output and error.
        timeout: Seconds after which it is killed.

    Returns:
        Its exit status, negative if a signal ended it.

    Raises:
        TimeoutError: It was killed.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address)
        text = json.dumps([entry, list(arguments), dict(environment), folder]).encode()
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], list(descriptors))
        connection.sendall(text)
        with connection.makefile("r", encoding="ascii") as answers:
            process = int(answers.readline())
            connection.settimeout(timeout)
            try:
                return int(answers.readline())
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise


def serve(address: str) -> None:
    """Import all, and fork for each request until the standard input ends."""
    import importlib
    import selectors
    import shutil
    from pathlib import Path
    from typing import Any

    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from tests.support.one_thread import one_thread

    one_thread()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]  # an export notes what an architecture has imported
    # `xai-explain net.onnx` starts xai-export: our client, and not the one that is installed beside Python
    program: Any = importlib.import_module("xai_deploy.exported.program")
    found = os.path.join(os.path.dirname(address), PROGRAMS)
    program.find = lambda source: Path(found, program.NAME)
    gc = importlib.import_module("gc")
    gc.collect()
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads: a forked process would lack some"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, selectors.DefaultSelector() as ready:
        listener.bind(address)
        listener.listen()
        ready.register(listener, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while all(key.fileobj is listener for key, _ in ready.select()):
            connection = listener.accept()[0]
            if os.fork() == 0:
                listener.close()
                _watch(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    shutil.rmtree(os.path.dirname(address))


def _watch(connection: socket.socket) -> None:
    """Fork the process that is asked for, and tell the client its number and its exit status."""
    head, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as content:
        entry, arguments, environment, folder = json.loads(content.read(int.from_bytes(head, "big")))
    process = os.fork()
    if process == 0:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        _end(_status(entry, arguments))
    with contextlib.suppress(OSError):  # a client that is gone
        connection.sendall(b"%d\n" % process)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    os._exit(0)


def _status(entry: str, arguments: list[str]) -> int:
    """The exit status of a module's `main`, as Python's own end finds it."""
    import importlib
    import traceback

    sys.argv[:] = [entry, *arguments]
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return int(importlib.import_module(entry).main(arguments))
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
    except BaseException:
        traceback.print_exc()
    return 1


def _end(status: int) -> None:
    """Python's own end but for its taking apart of all modules."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(request(sys.argv[1], sys.argv[2], sys.argv[3:], os.environ, os.getcwd()))
