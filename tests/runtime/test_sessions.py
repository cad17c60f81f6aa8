"""What becomes of the sessions: an Explainer that is closed, and one whose process is forked."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.errors import ClosedError

from . import tiny
from .conftest import Bundles

FORKED = """
import os, signal, sys
import numpy as np
from xai_deploy import Explainer, XaiError

bundle, backend, device, x = *sys.argv[1:4], np.load(sys.argv[4])
explainer = Explainer(bundle, backend, device, threads=2)
before = explainer.explain(x, "reciprocam", 1).raw
inherited = explainer._sessions.opened
child = os.fork()
if child == 0:
    signal.alarm(60)  # a session whose threads are missing may wait for ever
    try:
        after = explainer.explain(x, "reciprocam", 1).raw
        own = explainer._sessions.opened
        assert own["head"] is not inherited["head"]
        print("same" if np.array_equal(before, after) else "other", flush=True)
    except XaiError as error:
        print(error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert np.array_equal(before, explainer.explain(x, "reciprocam", 1).raw)
"""


def forked(bundles: Bundles, backend: str, device: str, folder: str) -> str:
    np.save(f"{folder}/x.npy", tiny.inputs("pooled", 3))
    command = [sys.executable, "-c", FORKED, str(bundles("pooled").path), backend, device, f"{folder}/x.npy"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_a_forked_process_opens_its_own(
    bundles: Bundles, backend: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert forked(bundles, backend, "cpu", str(tmp_path_factory.mktemp("forked"))) == "same"


def test_a_fork_from_another_device_is_refused(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> None:
    said = forked(bundles, "openvino", "auto", str(tmp_path_factory.mktemp("forked")))
    assert said.startswith("this process was forked after its Explainer had run on 'auto', and no driver allows that")
    assert said.endswith("open the Explainer in each worker (gunicorn: without --preload, or in post_fork)")


def test_close(bundles: Bundles, backend: str) -> None:
    x = tiny.inputs("pooled", 1)
    with Explainer(bundles("pooled").path, backend) as explainer:
        explainer.explain(x, "reciprocam", 1)
        sessions = [weakref.ref(session) for session in explainer._sessions.opened.values()]
        assert sessions
    gc.collect()
    assert all(session() is None for session in sessions)  # nothing else holds them: their memory is free
    for call in (lambda: explainer.predict(x), lambda: explainer.explain(x)):
        with pytest.raises(ClosedError, match=r"^this Explainer is closed; open another for the same bundle$"):
            call()
    explainer.close()
