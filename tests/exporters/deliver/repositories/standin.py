"""The Python model that stands in for Triton's onnxruntime backend in a test, for the wheel's server has only Python's.

It runs inside the server, on the server's own Python; nothing of this project is imported. No repository that is exported
holds such a file.
"""

import os

import onnxruntime  # type: ignore[import-not-found,unused-ignore]
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    def initialize(self, arguments):  # type: ignore[no-untyped-def]
        path = os.path.join(arguments["model_repository"], arguments["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path)

    def execute(self, requests):  # type: ignore[no-untyped-def]
        responses = []
        for request in requests:
            inputs = [value.name for value in self.session.get_inputs()]
            feeds = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in inputs}
            names = [value.name for value in self.session.get_outputs()]
            results = zip(names, self.session.run(names, feeds), strict=True)
            responses.append(triton.InferenceResponse([triton.Tensor(*result) for result in results]))
        return responses
