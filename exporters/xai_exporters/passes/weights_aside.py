"""Large weights stay where they are while ONNX's converter works: it would copy them three times, and reads none of them."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from .opset import to_common_opset

_LARGE = 1 << 16  # bytes; axes, sizes and scales, which the converter reads, are smaller


def read_at_common_opset(model: onnx.ModelProto) -> ir.Model:
    """The model at the common opset; see `to_common_opset`. Its large weights are those of `model`, not copies.

    Raises:
        GraphError: An older model can't be converted.
    """
    large = {t.name: t for t in model.graph.initializer if t.ByteSize() >= _LARGE}
    light = _without(model, large)
    converted = to_common_opset(light)
    if converted is light:
        return ir.from_proto(model)
    read = ir.from_proto(converted)
    graph = read.graph
    inputs = {str(value.name): value for value in graph.inputs}
    own = {value.name for value in model.graph.input}
    present = dict(graph.initializers)
    graph.initializers.clear()
    for name in [t.name for t in model.graph.initializer]:  # in the file's order
        value = inputs.get(name) if name in large else present.pop(name, None)
        if value is None:  # the converter has turned it into an attribute
            continue
        if name in large:
            value.const_value = ir.from_proto(large[name])
            if name not in own:
                graph.inputs.remove(value)
        graph.initializers[name] = value
    graph.initializers.update(present)  # those that the converter has added
    return read


def _without(model: onnx.ModelProto, large: dict[str, onnx.TensorProto]) -> onnx.ModelProto:
    """A copy in which large weights are inputs."""
    light = onnx.ModelProto()
    for source, target in ((model, light), (model.graph, light.graph)):
        for field, value in source.ListFields():
            if field.name in ("graph", "initializer"):
                continue
            if hasattr(value, "extend"):
                getattr(target, field.name).extend(value)
            elif field.message_type is not None:
                getattr(target, field.name).CopyFrom(value)
            else:
                setattr(target, field.name, value)
    light.graph.initializer.extend(t for t in model.graph.initializer if t.name not in large)
    own = {value.name for value in model.graph.input}
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large.values() if t.name not in own
    )
    return light
