"""The messages of TensorFlow's files, with the fields that are read here; all others are kept as they are.

Numbers and names of fields: tensorflow/core/protobuf/{saved_model,meta_graph}.proto and
tensorflow/core/framework/{graph,function,node_def,op_def,attr_value}.proto. A map is written as its entries.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELDS = {
    "SavedModel": "2 meta_graphs MetaGraph*",
    "MetaGraph": "2 graph_def Graph, 5 signature_def SignatureEntry*",
    "SignatureEntry": "1 key text, 2 value Signature",
    "Signature": "1 inputs TensorEntry*, 2 outputs TensorEntry*",
    "TensorEntry": "1 key text, 2 value Tensor",
    "Tensor": "1 name text, 2 dtype number, 3 tensor_shape Shape",
    "Shape": "3 unknown_rank number",
    "Graph": "1 node Node*, 2 library Library",
    "Library": "1 function Function*",
    "Function": "1 signature Op, 3 node_def Node*, 4 ret TextEntry*",
    "Op": "1 name text, 2 input_arg Argument*, 3 output_arg Argument*",
    "Argument": "1 name text, 3 type number",
    "TextEntry": "1 key text, 2 value text",
    "Node": "1 name text, 2 op text, 3 input text*, 5 attr AttributeEntry*",
    "AttributeEntry": "1 key text, 2 value Attribute",
    "Attribute": "1 list List, 6 type number, 10 func Called",
    "List": "6 type number*",
    "Called": "1 name text",
}
_PACKAGE = "network"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="network.proto", package=_PACKAGE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, text in _FIELDS.items():
        message = file.message_type.add(name=name)
        for part in text.split(", "):
            number, field, kind = part.split()
            new = message.field.add(name=field, number=int(number), label=kinds.LABEL_OPTIONAL)
            if kind.endswith("*"):
                new.label = kinds.LABEL_REPEATED
            simple = {"text": kinds.TYPE_STRING, "number": kinds.TYPE_INT64}.get(kind.rstrip("*"))
            new.type = kinds.TYPE_MESSAGE if simple is None else simple
            if simple is None:
                new.type_name = f".{_PACKAGE}.{kind.rstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


CLASSES = _classes()
