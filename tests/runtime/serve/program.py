"""xai-serve in a process of its own, and a client that asks it over a socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import xai_deploy

from .. import tiny

X = tiny.inputs("residual", 2)
BODY = json.dumps({"instances": [X[0].tolist()]})


class Program:
    """xai-serve in a process of its own, ready."""

    def __init__(self, *arguments: str) -> None:
        path = os.pathsep.join([str(Path(xai_deploy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "xai_deploy",
                "serve",
                *arguments,
                "--port",
                "0",
                "--grpc-port",
                "0",
                "--threads",
                "1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) and, for gRPC, at 127\.0\.0\.1:(\d+)$", self.line.strip())
        assert found is not None, (self.line, self.stop())
        self.port, self.grpc = int(found[1]), int(found[2])

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]


def ask(port: int, place: str = "/v1/models/net:explain", body: str = BODY) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", place, body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
