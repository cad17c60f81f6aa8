"""The OpenAPI document of a server: what it takes, with the models and methods that it serves."""

from __future__ import annotations

import typing
from typing import Any

from ..version import __version__
from .asked import Shown
from .pictures import KINDS
from .service import Service

_FILE = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_NUMBERS = {
    "type": "array",
    "items": {},
    "minItems": 1,
    "description": "nested lists of numbers, as the network takes them",
}
_TARGET = {
    "description": "the predicted class by default; a class, a label, 'cat vs dog', 'not cat', 'top3', 'road@10,20,40,40'; "
    "a weight for each class; a region, a reference, a contrast",
    "anyOf": [
        {"type": "integer"},
        {"type": "string"},
        {"type": "null"},
        {"type": "array", "items": {"type": "number"}, "minItems": 1},
        {"type": "object"},
    ],
}
_ERRORS = {
    "400": "the request is wrong; one line says how",
    "404": "no such model or version",
    "405": "not with this method",
    "408": "the body was too slow",
    "413": "too many or too large images",
    "422": "the network gives no finite numbers for this input",
    "429": "the server is full, or can't answer in time; Retry-After says when to come again",
    "503": "the server is starting or stopping",
}


def document(service: Service) -> dict[str, Any]:
    """The document, as JSON."""
    models = service.models
    known = [one for name in models.names if (one := models.current(name)) is not None]
    served = sorted({method for one in known for method in one.served})
    v1: dict[str, Any] = {
        "application/json": {"schema": _v1(served, service.limits.images)},
        "application/octet-stream": {},
    }
    v2: dict[str, Any] = {"application/json": {"schema": _v2()}}
    model = _given("name", "path", {"type": "string", "enum": list(models.names)})
    version = _given("version", "path", {"type": "string"})
    query = [_given(key, "query", one) for key, one in _parameters(served).items() if key not in ("options", "target")]
    query.append(_given("target", "query", {"type": "string"}))
    paths: dict[str, Any] = {
        "/v1/models": _get("names of the models"),
        "/v1/models/{name}": _get("whether a model is ready", model),
        "/v1/models/{name}:predict": _post("predict", v1, model),
        "/v1/models/{name}:explain": _post("explain", v1, model, *query),
        "/v2": _get("the server"),
        "/v2/health/live": _get("whether the server runs"),
        "/v2/health/ready": _get("whether all models are ready"),
        "/v2/models/{name}": _get("inputs and outputs", model),
        "/v2/models/{name}/ready": _get("whether a model is ready", model),
        "/v2/models/{name}/infer": _post("predict, or explain with the parameter `explain`", v2, model),
        "/v2/models/{name}/versions/{version}": _get("inputs and outputs", model, version),
        "/v2/models/{name}/versions/{version}/ready": _get("whether a model is ready", model, version),
        "/v2/models/{name}/versions/{version}/infer": _post("predict, or explain", v2, model, version),
        "/metrics": _get("counts for Prometheus", kind="text/plain"),
    }
    return {"openapi": "3.1.0", "info": {"title": "xai-serve", "version": __version__}, "paths": paths}


def _parameters(served: list[str]) -> dict[str, Any]:
    hints = typing.get_type_hints(Shown)
    return {
        "method": {"type": "string", "enum": served},
        "options": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
        "target": _TARGET,
        "timeout_ms": {"type": "number", "exclusiveMinimum": 0},
        **{name: {"type": "string", "enum": list(typing.get_args(hint))} for name, hint in hints.items()},
    }


def _v1(served: list[str], images: int) -> dict[str, Any]:
    image = {"anyOf": [_FILE, _NUMBERS]}
    whole = {
        "type": "object",
        "properties": {"image": image, "target": _TARGET, "inputs": {"type": "object"}},
        "required": ["image"],
    }
    return {
        "type": "object",
        "properties": {
            "instances": {
                "type": "array",
                "items": {"anyOf": [_FILE, _NUMBERS, whole]},
                "minItems": 1,
                "maxItems": images,
            },
            "parameters": {"type": "object", "properties": _parameters(served), "additionalProperties": False},
        },
        "required": ["instances"],
        "additionalProperties": False,
    }


def _v2() -> dict[str, Any]:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
            "datatype": {"type": "string", "enum": [*KINDS, "BYTES"]},
            "parameters": {"type": "object"},
            "data": {"type": "array", "items": {}},
        },
        "required": ["name", "shape", "datatype"],
    }
    output = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["inputs"],
    }


def _given(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter of the address; those of a query go with an image file as the body."""
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _responses(kind: str = "application/json") -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "200": {"description": "done", "content": {kind: {}}},
        **{
            status: {"description": text, "content": {"application/json": {"schema": error}}}
            for status, text in _ERRORS.items()
        },
    }


def _get(summary: str, *parameters: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": _responses(kind)}}


def _post(summary: str, body: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    request = {"required": True, "content": body}
    return {
        "post": {"summary": summary, "parameters": list(parameters), "requestBody": request, "responses": _responses()}
    }
