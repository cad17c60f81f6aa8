"""Runtimes that compute with one thread."""

from __future__ import annotations

import contextlib
from typing import Any

from xai_deploy.foundation import runtimes


def one_thread() -> None:
    """Let a runtime compute with one thread unless a test asks for more.

    Each worker has one core. A second thread takes the other worker's: an idle one of ONNX Runtime's spins, and opening a small
    graph with three runs took twice the processor time. Neither runtime reads OMP_NUM_THREADS.
    """
    with contextlib.suppress(ImportError):
        onnxruntime = runtimes.onnxruntime()
        options: Any = onnxruntime.SessionOptions

        class Options(options):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.intra_op_num_threads = 1

        onnxruntime.SessionOptions = Options
    with contextlib.suppress(ImportError):
        openvino = runtimes.openvino()
        core: Any = openvino.Core

        class Core(core):  # type: ignore[misc]
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                self.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})

        openvino.Core = Core
