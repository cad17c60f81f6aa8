"""Runtimes: the protocol, devices that are not there, precision, and graphs that a runtime refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from xai_deploy import Bundle, Explainer
from xai_deploy.backends import Config, create
from xai_deploy.backends.backend import DeviceTensor, backends
from xai_deploy.backends.onnxruntime import BoundSession, HostSession
from xai_deploy.errors import BackendNotInstalledError, DeviceError, RuntimeFailure, UnknownBackendError
from xai_deploy.format.bundle import ACTIVATION
from xai_deploy.forward import ForwardPass
from xai_deploy.foundation.registry import Registry
from xai_deploy.methods.reciprocam import ReciproCam
from xai_deploy.opened_network import OpenedNetwork
from xai_deploy.targets.seeds import Seed

from ...support.compressed import compressed
from .. import oracles, tiny
from ..conftest import Bundles


def test_unknown_backend(bundles: Bundles) -> None:
    with pytest.raises(UnknownBackendError, match="no backend 'tensorflow'; there are onnxruntime, openvino"):
        Explainer(bundles("pooled").path, "tensorflow")


def test_first_installed_backend(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Explainer(bundles("pooled").path).backend == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Explainer(bundles("pooled").path).backend == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendNotInstalledError, match=r"no inference runtime is installed; pip install 'xai-deploy\["):
        Explainer(bundles("pooled").path)


def test_names_itself_and_its_version(bundles: Bundles, backend: str) -> None:
    """The registered name, and the package's own version in full."""
    created = create(backend, Config())
    assert (created.name, created.version) == (backend, sys.modules[backend].__version__)
    explainer = Explainer(bundles("pooled").path, backend)
    assert (explainer.backend, explainer.backend_version) == (created.name, created.version)


def test_nobody_keeps_the_bytes_of_a_graph(bundles: Bundles, backend: str) -> None:
    """They are as large as the weights, which the opened graph has already."""
    model = (bundles("residual").path / "head.onnx").read_bytes()
    before = sys.getrefcount(model)
    session = create(backend, Config()).open(model)
    manifest = Bundle.open(bundles("residual").path).manifest
    assert session.run({manifest.input.name: tiny.inputs("residual", 1)}, [ACTIVATION])
    assert sys.getrefcount(model) == before


def test_backend_not_installed(bundles: Bundles, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(BackendNotInstalledError, match=rf"pip install 'xai-deploy\[{backend}\]'"):
        Explainer(bundles("pooled").path, backend)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "CUDAExecutionProvider", "npu", "nonsense", "", "cpu:x", "cpu:1"])
def test_device_not_there(bundles: Bundles, backend: str, device: str) -> None:
    if backend == "onnxruntime" and device.startswith("c") and "CUDAExecutionProvider" in _providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="has no device"):
        Explainer(bundles("pooled").path, backend, device)


def test_cuda_says_where_it_comes_from(bundles: Bundles) -> None:
    if "CUDAExecutionProvider" in _providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match=r"no device 'cuda'; it has .*CPUExecutionProvider; CUDA comes with"):
        Explainer(bundles("pooled").path, "onnxruntime", "cuda")


def _providers() -> list[str]:
    found: list[str] = onnxruntime.get_available_providers()
    return found


def test_provider_that_does_not_load(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back to the CPU with a warning where a provider is listed but does not load; we refuse."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    opened = onnxruntime.InferenceSession

    def cpu_only(model: bytes, options: Any, providers: Any, **more: Any) -> Any:
        assert providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"}), "CPUExecutionProvider"]
        return opened(model, options, providers=["CPUExecutionProvider"], **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", cpu_only)
    for device in ("cuda", "CUDAExecutionProvider"):
        explainer = Explainer(bundles("pooled").path, "onnxruntime", device)
        with pytest.raises(DeviceError, match="could not load CUDAExecutionProvider and would have fallen back to CPU"):
            explainer.predict(tiny.inputs("pooled", 1))


@pytest.mark.parametrize("device", ["cpu", "CPU", "CPUExecutionProvider"])
def test_names_of_the_cpu(bundles: Bundles, device: str) -> None:
    Explainer(bundles("pooled").path, "onnxruntime", device).predict(tiny.inputs("pooled", 1))


@pytest.mark.parametrize("precision", ["tf32", "f16", "bf16"])
def test_onnxruntime_precision(bundles: Bundles, precision: Any) -> None:
    with pytest.raises(DeviceError, match=f"onnxruntime on 'cpu' computes in f32, not '{precision}'"):
        Explainer(bundles("pooled").path, "onnxruntime", precision=precision)


def test_openvino_has_no_tf32(bundles: Bundles) -> None:
    with pytest.raises(DeviceError, match="openvino computes in f32, f16, bf16, not 'tf32'"):
        Explainer(bundles("pooled").path, "openvino", precision="tf32")


@pytest.mark.parametrize("device", ["cpu", "auto", "multi:cpu", "hetero:cpu"])
@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
def test_openvino_precision_is_the_one_asked_for(bundles: Bundles, precision: Any, device: str) -> None:
    """f32 always; the others where the CPU has them, else an error: a CPU without f16 would silently take bf16 or f32."""
    explainer = Explainer(bundles("residual").path, "openvino", device, precision=precision)
    capable = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    net, x = bundles("residual"), tiny.inputs("residual", 2)
    if {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}[precision] not in capable:
        with pytest.raises(DeviceError, match=rf"computes in \w+ instead of '{precision}'"):
            explainer.predict(x)
        return
    logits = explainer.predict(x)
    error = np.abs(logits - net.logits(x).numpy()).max() / np.abs(logits).max()
    assert error < 1e-6 if precision == "f32" else 1e-6 < error < 0.05
    compiled = explainer._sessions.opened["tail"].session._compiled[False]  # type: ignore[attr-defined]
    if device == "cpu":
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == precision


def test_openvino_plugin_that_ignores_the_precision(bundles: Bundles) -> None:
    """A property that contradicts the precision stands in for a plugin that takes another."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU computes in f32 whatever it is told")
    explainer = Explainer(bundles("pooled").path, "openvino")
    session: Any = explainer._sessions("head").session  # type: ignore[attr-defined]
    core = session._core

    class Disobedient:
        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def compile_model(self, network: Any, device: str, properties: dict[str, Any]) -> Any:
            return core.compile_model(network, device, properties | {"INFERENCE_PRECISION_HINT": "bf16"})

    session._core = Disobedient()
    with pytest.raises(DeviceError, match="OpenVINO on CPU computes in bf16 instead of 'f32'"):
        explainer.predict(tiny.inputs("pooled", 1))


@pytest.mark.parametrize("device", ["cpu", "auto", "multi:cpu", "hetero:cpu"])
@pytest.mark.parametrize("batch", [1, 3])
def test_openvino_does_not_quantise_activations(device: str, batch: int) -> None:
    """With weights in 8 bits it would, and the results would differ by 0.5 %, unless the user asks for it."""
    model, weight = compressed()
    x = np.random.default_rng(1).standard_normal((batch, 64, 1, 1)).astype(np.float32)
    wanted = x[:, :, 0, 0] @ weight.T
    errors = []
    for properties in ({}, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}):
        opened = create("openvino", Config(device=device, properties=properties)).open(model)
        errors.append(np.abs(np.asarray(opened.run({"x": x}, ["y"])["y"]) - wanted).max() / np.abs(wanted).max())
    assert errors[0] < 1e-6 < errors[1] or max(errors) < 1e-6  # a CPU without such instructions never does it


@pytest.mark.parametrize("quantised", [False, True])
def test_onnxruntime_does_not_quantise_activations(quantised: bool) -> None:
    """It would, in a MatMul with weights in 8 bits; and other layers of the network may be of integers."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (64, 32)).astype(np.int8)
    scale, x = (rng.random(32) / 100 + 0.01).astype(np.float32), rng.standard_normal((2, 5, 64)).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["weight"], axis=1),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("QuantizeLinear", ["x", "step"], ["rounded"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 5, size]) for name, size in (("x", 64), ("y", 32))
    ]
    arrays = {"codes": codes, "scale": scale, "zero": np.zeros(32, np.int8), "step": np.float32(1)}
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes[: 2 + quantised], "g", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    wanted = x @ (codes * scale)
    got = np.asarray(create("onnxruntime", Config()).open(model).run({"x": x}, ["y"])["y"])
    assert np.abs(got - wanted).max() < 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_rounds_neither_float_weights_nor_once_for_twice(backend: str, batch: int) -> None:
    """Where roundings surround a Conv or Gemm it would round their float weights; two roundings in a row it would merge."""
    rng = np.random.default_rng(0)
    weights = {
        "conv": rng.standard_normal((4, 3, 3, 3)),
        "bias": rng.standard_normal(4),
        "gemm": rng.standard_normal((4 * 49, 5)),
    }
    arrays = {name: np.float32(value) for name, value in weights.items()} | {"zero": np.uint8(120)}
    nodes: list[Any] = []
    now = "x"

    def rounded(scale: float) -> None:
        nonlocal now
        arrays[name := f"scale{len(nodes)}"] = np.float32(scale)
        nodes.append(helper.make_node("QuantizeLinear", [now, name, "zero"], [f"{now}/codes"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{now}/codes", name, "zero"], [f"{now}/rounded"]))
        now += "/rounded"

    rounded(0.02)
    rounded(0.026)
    nodes.append(helper.make_node("Conv", [now, "conv", "bias"], [now := "convolved"]))
    rounded(0.1)
    nodes += [
        helper.make_node("Flatten", [now], ["flat"]),
        helper.make_node("Gemm", ["flat", "gemm"], [now := "product"]),
    ]
    rounded(0.3)
    x = rng.standard_normal((batch, 3, 9, 9)).astype(np.float32)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", now)]
    values[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 9])
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:], [numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    evaluator: Any = ReferenceEvaluator(model)
    [wanted] = evaluator.run(None, {"x": x})
    got = np.asarray(create(backend, Config()).open(model.SerializeToString()).run({"x": x}, [now])[now])
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_openvino_compiles_at_most_twice(bundles: Bundles) -> None:
    explainer = Explainer(bundles("residual").path, "openvino")
    for count in (1, 2, 1, 3, 5):
        explainer.explain(tiny.inputs("residual", count))
    session: Any = explainer._sessions("head").session  # type: ignore[attr-defined]
    assert sorted(session._compiled) == [False, True]
    assert session._compiled[True].inputs[0].partial_shape.is_static
    assert session._compiled[False].inputs[0].partial_shape.is_dynamic


def test_garbage_is_refused_by_the_runtime(backend: str) -> None:
    opened = create(backend, Config())
    for model in (b"", b"not a graph", b"\x08\x0a" * 50):
        with pytest.raises(RuntimeFailure, match=r"can't (open|read|compile) the graph|failed while running"):
            opened.open(model).run({}, ["y"])


def test_wrong_feeds(bundles: Bundles, backend: str) -> None:
    opened = create(backend, Config())
    session = opened.open(Bundle.open(bundles("pooled").path).graph("head"))
    good = tiny.inputs("pooled", 2)
    for feeds in ({}, {"image": good[:, :, :5]}, {"image": good[None]}):
        with pytest.raises(RuntimeFailure, match="failed while running a graph"):
            session.run(feeds, ["activation"])
    with pytest.raises(RuntimeFailure):
        session.run({"image": good}, ["none"])
    assert session.run({"image": good, "surplus": good}, ["activation"])["activation"].shape == (2, 6, 4, 5)


def test_threads_hint_cache_and_properties(bundles: Bundles, backend: str, tmp_path: Path) -> None:
    properties = {"onnxruntime": {"use_arena": "0"}, "openvino": {"NUM_STREAMS": "1"}}[backend]
    if backend == "onnxruntime":
        properties = {}
    explainer = Explainer(
        bundles("pooled").path,
        backend,
        threads=1,
        hint="throughput",
        cache=str(tmp_path / "cache"),
        properties=properties,
    )
    x = tiny.inputs("pooled", 2)
    np.testing.assert_allclose(explainer.predict(x), bundles("pooled").logits(x).numpy(), atol=1e-5)
    if backend == "openvino":
        assert list((tmp_path / "cache").iterdir())
        compiled: Any = explainer._sessions.opened["head"].session._compiled[False]  # type: ignore[attr-defined]
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"


@pytest.mark.parametrize("kind", ["pooled", "residual"])
@pytest.mark.parametrize("count", [1, 3])
def test_bound_session(bundles: Bundles, kind: tiny.Kind, count: int) -> None:
    """The session class for devices, on the one device that every machine has."""
    net, x = bundles(kind), tiny.inputs(kind, count)
    opened = Bundle.open(net.path)

    def session(role: str) -> BoundSession:
        model = onnxruntime.InferenceSession(opened.graph(role), providers=["CPUExecutionProvider"])
        return BoundSession(model, "cpu", 0)

    sessions = {role: session(role) for role in opened.manifest.graphs}
    given = sessions["head"].run({"image": x, "surplus": x}, ["activation"])["activation"]
    assert isinstance(given, DeviceTensor)
    assert not isinstance(given, np.ndarray)
    np.testing.assert_allclose(given.numpy(), net.head(x)[0].numpy(), atol=1e-5)

    network = OpenedNetwork(opened.manifest, sessions.__getitem__, 7, False)
    forward = ForwardPass(network, x)
    np.testing.assert_allclose(forward.logits, net.logits(x).numpy(), atol=1e-4)
    seeds = [Seed.of_class(np.full(count, 1))]
    for score in ("logit", "softmax"):
        raw = ReciproCam(score=score).maps(forward, seeds)[0]
        wanted = oracles.reciprocam(net, x, 1, score, "pixel")
        np.testing.assert_allclose(raw, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    strided = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(forward.network(strided, np.arange(count)), forward.logits, atol=1e-5)
    with pytest.raises(RuntimeFailure, match="failed while running"):
        sessions["head"].run({"image": x[:, :, :5]}, ["activation"])


def test_host_session_for_the_cpu(bundles: Bundles) -> None:
    session: Any = Explainer(bundles("pooled").path, "onnxruntime")._sessions("head")
    assert isinstance(session.session, HostSession)


def test_registering_twice() -> None:
    registry: Registry[int] = Registry("xai_deploy.backends")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="'one' is registered twice"):
        registry.register("one")(2)
    assert list(backends) == ["onnxruntime", "openvino"]
