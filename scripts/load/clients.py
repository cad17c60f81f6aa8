"""The clients of scripts/check_clients, in their own environment: python clients.py triton|kserve PHOTO EXPECTED.npz PORT PORT.

One process imports one of them, since both register the same messages.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

WHICH, PHOTO, EXPECTED, HTTP, GRPC = sys.argv[1:6]
PHOTO_BYTES = Path(PHOTO).read_bytes()
KNOWN = np.load(EXPECTED)
NAME = str(KNOWN["name"])
ASKED = {"explain": True, "method": "grad-cam", "target": 3}


def close(got: Any, key: str) -> None:
    np.testing.assert_allclose(np.asarray(got), KNOWN[key], atol=1e-4 * max(1.0, float(np.abs(KNOWN[key]).max())))


def triton() -> None:
    """tritonclient: tensors in JSON, binary, and over gRPC; image files; refusals."""
    import tritonclient.grpc as over_grpc
    import tritonclient.http as over_http

    rest: Any = over_http.InferenceServerClient(f"127.0.0.1:{HTTP}")
    grpc: Any = over_grpc.InferenceServerClient(f"127.0.0.1:{GRPC}")
    for module, client, ways in (
        (over_http, rest, ({"binary_data": True}, {"binary_data": False})),
        (over_grpc, grpc, ({},)),
    ):
        assert all((client.is_server_live(), client.is_server_ready(), client.is_model_ready("net")))
        assert all((client.get_server_metadata(), client.get_model_metadata("net")))
        for way in ways:
            floats = module.InferInput(NAME, KNOWN["prepared"].shape, "FP32")
            floats.set_data_from_numpy(KNOWN["prepared"], **way)
            wanted = [module.InferRequestedOutput(name, **way) for name in ("saliency_map", "answer")]
            for outputs in (None, wanted):
                answer = client.infer("net", [floats], parameters=ASKED, outputs=outputs, request_id="7")
                close(answer.as_numpy("saliency_map"), "map")
                assert json.loads(answer.as_numpy("answer")[0])["target"] == 3
            assert client.infer("net", [floats]).get_response()
            try:
                client.infer("net", [floats], parameters={**ASKED, "target": 10**6})
                said = ""
            except Exception as error:
                said = str(error)
            assert "does not exist" in said, said
            assert "\n" not in said, said
        files = module.InferInput("image", [1], "BYTES")
        files.set_data_from_numpy(np.array([PHOTO_BYTES], dtype=object))
        close(client.infer("net", [files], parameters=ASKED).as_numpy("saliency_map"), "map")
        print(f"{module.__name__}: fine")
    rest.close()
    grpc.close()


async def kserve() -> None:
    """KServe's clients."""
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    where = f"http://127.0.0.1:{HTTP}"
    instance = {"b64": base64.b64encode(PHOTO_BYTES).decode()}
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert (await v1.infer(where, {"instances": [instance]}, model_name="net"))["predictions"]
    told = await v1.explain(where, "net", {"instances": [instance], "parameters": {"target": 3, "map": "heatmap"}})
    close([told["explanations"][0]["explanations"][0]["map"]["values"]], "map")
    print("kserve V1: fine")

    def asked(binary: bool) -> Any:
        one = InferInput(NAME, list(KNOWN["prepared"].shape), "FP32")
        one.set_data_from_numpy(KNOWN["prepared"], binary_data=binary)
        return InferRequest(model_name="net", infer_inputs=[one], parameters=ASKED)

    v2, grpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(f"127.0.0.1:{GRPC}")
    assert all([await v2.is_server_live(where), await v2.is_server_ready(where), await v2.is_model_ready(where, "net")])
    assert all([await grpc.is_server_live(), await grpc.is_server_ready(), await grpc.is_model_ready("net")])
    for binary in (True, False):
        for answer in (await v2.infer(where, asked(binary), model_name="net"), await grpc.infer(asked(binary))):
            [found] = [output for output in answer.outputs if output.name == "saliency_map"]
            close(found.as_numpy(), "map")
    print("kserve V2, REST and gRPC: fine")


if __name__ == "__main__":
    if WHICH == "triton":
        triton()
    else:
        asyncio.run(kserve())
