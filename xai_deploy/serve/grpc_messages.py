"""The messages of V2 over gRPC, described here and built by protobuf when the server starts.

No generated code: that would tie the server to one generation of protobuf. The numbers are those of the protocol's own definition
(kserve, `grpc_predict_v2.proto`). The descriptions live in a pool of their own, beside those of any client in the process.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = ["METHODS", "SERVICE", "DecodeError", "build"]

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TYPES = {
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "int32": 5,
    "int64": 3,
    "uint32": 13,
    "uint64": 4,
    "float": 2,
    "double": 1,
}
_ONE, _MANY, _MESSAGE = 1, 3, 11

# Message -> fields in order: "type name [number]". A type with * is repeated, one that ends in {} is a map from text, one with ?
# belongs to the message's only oneof.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready",
    "ModelReadyRequest": "string name, string version",
    "ModelReadyResponse": "bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name, string version, string* extensions",
    "ModelMetadataRequest": "string name, string version",
    "TensorMetadata": "string name, string datatype, int64* shape",
    "ModelMetadataResponse": "string name, string* versions, string platform, TensorMetadata* inputs, TensorMetadata* outputs",
    "InferParameter": "bool? bool_param, int64? int64_param, string? string_param, double? double_param, uint64? uint64_param",
    "InferTensorContents": "bool* bool_contents, int32* int_contents, int64* int64_contents, uint32* uint_contents, "
    "uint64* uint64_contents, float* fp32_contents, double* fp64_contents, bytes* bytes_contents",
    "InferInputTensor": "string name, string datatype, int64* shape, InferParameter{} parameters, InferTensorContents contents",
    "InferRequestedOutputTensor": "string name, InferParameter{} parameters",
    "ModelInferRequest": "string model_name, string model_version, string id, InferParameter{} parameters, "
    "InferInputTensor* inputs, InferRequestedOutputTensor* outputs, bytes* raw_input_contents",
    "InferOutputTensor": "string name, string datatype, int64* shape, InferParameter{} parameters, InferTensorContents contents",
    "ModelInferResponse": "string model_name, string model_version, string id, InferParameter{} parameters, "
    "InferOutputTensor* outputs, bytes* raw_output_contents",
}

METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
"""The methods of the service; each takes NAMERequest and gives NAMEResponse."""


def build() -> dict[str, Any]:
    """Message name -> its class."""
    file = descriptor_pb2.FileDescriptorProto(name="xai_deploy_v2.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(filter(None, fields.split(", ")), 1):
            _add(message, text, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
    }


def _add(message: Any, text: str, number: int) -> None:
    kind, name = text.split()
    plain = kind.rstrip("*{}?")
    if kind.endswith("{}"):
        entry = "".join(part.title() for part in name.split("_")) + "Entry"
        nested = message.nested_type.add(name=entry)
        nested.options.map_entry = True
        nested.field.add(name="key", number=1, label=_ONE, type=_TYPES["string"])
        nested.field.add(name="value", number=2, label=_ONE, type=_MESSAGE, type_name=f".{PACKAGE}.{plain}")
        own = f".{PACKAGE}.{message.name}.{entry}"
        message.field.add(name=name, number=number, label=_MANY, type=_MESSAGE, type_name=own)
        return
    field = message.field.add(name=name, number=number, label=_MANY if kind.endswith("*") else _ONE)
    if plain in _TYPES:
        field.type = _TYPES[plain]
    else:
        field.type, field.type_name = _MESSAGE, f".{PACKAGE}.{plain}"
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
