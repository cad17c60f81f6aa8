"""deploy/: KServe's and Kubernetes' files hold what their schemas allow, and start xai-serve as its parser takes it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from xai_deploy.cli import serve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def closed(schema: Any) -> Any:
    """The schema, with unknown fields refused: Kubernetes drops them without a word. Quantities and ports are texts or numbers."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    own = {key: closed(value) for key, value in schema.items() if key not in ("pattern", "x-kubernetes-int-or-string")}
    if "properties" in own and "additionalProperties" not in own and own.get("type") == "object":
        own["additionalProperties"] = False
    return own


SCHEMA = closed(json.loads((Path(__file__).parent / "schemas" / "inferenceservice.json").read_text(encoding="utf-8")))
POD = SCHEMA["pod"]


def component(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "properties": {**pod["properties"], "model": SCHEMA["model"]}}


INFERENCE_SERVICE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {"predictor": component(POD), "explainer": POD},
        },
    },
}


def manifests() -> list[Path]:
    return sorted((DEPLOY / "kserve").glob("*.yaml"))


@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.stem)
def test_inference_services(path: Path) -> None:
    service = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(service, INFERENCE_SERVICE)
    part = service["spec"].get("explainer") or service["spec"]["predictor"]
    [container] = part["containers"]
    shell, option, script = container["command"]
    assert (shell, option) == ("/bin/sh", "-c"), "what KServe appends goes to the shell"
    assert container["name"] == "kserve-container", "KServe finds it by this name"
    words = shlex.split(script)
    assert words[:2] == ["exec", "xai-serve"], "so that SIGTERM reaches it"
    hold(words[2:], part, container)
    name = service["metadata"]["name"]
    assert words[2] == f"{name}=/mnt/models", "KServe's addresses hold the service's name"
    assert {"name": "STORAGE_URI", "value": f"s3://models/{name}.xai"} in container["env"]


def hold(words: list[str], pod: dict[str, Any], container: dict[str, Any]) -> None:
    """The container starts xai-serve as its parser takes it, has time to stop, and asks for its health where it answers."""
    given = serve._parser().parse_args(words)
    assert given.host == "0.0.0.0"
    assert pod["terminationGracePeriodSeconds"] >= given.drain + given.timeout + 5
    ports = {port.get("name", port["containerPort"]): port["containerPort"] for port in container["ports"]}
    assert given.port in ports.values()
    for probe, place in (("readinessProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live")):
        asked = container[probe]["httpGet"]
        assert (asked["path"], ports[asked["port"]]) == (place, given.port)
    secured = container["securityContext"]
    assert secured["readOnlyRootFilesystem"]
    assert not secured["allowPrivilegeEscalation"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda service: service["spec"]["explainer"].update(replicas=2), "'replicas' was unexpected"),
        (
            lambda service: service["spec"]["explainer"]["containers"][0].update(arguments=[]),
            "'arguments' was unexpected",
        ),
        (
            lambda service: service["spec"]["explainer"]["containers"][0]["ports"][0].update(containerPort="x"),
            "'x' is not",
        ),
        (lambda service: service["spec"].pop("predictor"), "'predictor' is a required property"),
    ],
)
def test_the_schema_finds_faults(change: Any, line: str) -> None:
    service = yaml.safe_load((DEPLOY / "kserve" / "explainer.yaml").read_text(encoding="utf-8"))
    change(service)
    with pytest.raises(jsonschema.ValidationError, match=line):
        jsonschema.validate(service, INFERENCE_SERVICE)


class Helm:
    """As much of Helm's templates as the chart uses: `{{ function argument (...) | function }}`. Helm is no Python package."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._tree = {"Values": values, "Release": {"Name": "demo"}}

    def render(self, text: str) -> Any:
        return yaml.safe_load(re.sub(r"\{\{ (.+?) \}\}", lambda found: str(self.value(found[1])), text))

    def value(self, expression: str) -> Any:
        words = re.findall(r'"[^"]*"|[()|]|[^\s()|]+', expression)
        return self._pipe(words)

    def _pipe(self, words: list[str]) -> Any:
        result, piped = self._call(words, []), True
        while piped and words and words[0] == "|":
            words.pop(0)
            result = self._call(words, [result])
        return result

    def _call(self, words: list[str], last: list[Any]) -> Any:
        parts = []
        while words and words[0] not in ("|", ")"):
            word = words.pop(0)
            if word == "(":
                parts.append(self._pipe(words))
                assert words.pop(0) == ")"
            elif word.startswith('"'):
                parts.append(word[1:-1])
            elif word.startswith("."):
                found: Any = self._tree
                for key in word[1:].split("."):
                    found = found[key]
                parts.append(found)
            else:
                parts.append(int(word) if word.isdecimal() else getattr(self, f"f_{word}"))
        if not callable(parts[0]):
            return parts[0]
        return parts[0](*parts[1:], *last)

    f_quote = f_toJson = staticmethod(json.dumps)
    f_toString = staticmethod(str)

    @staticmethod
    def f_add(a: int, b: int) -> int:
        return a + b

    @staticmethod
    def f_list(*values: Any) -> list[Any]:
        return list(values)

    @staticmethod
    def f_concat(*lists: list[Any]) -> list[Any]:
        return [one for each in lists for one in each]

    @staticmethod
    def f_dict(key: str, value: Any) -> dict[str, Any]:
        return {key: value}

    @staticmethod
    def f_merge(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        return {**b, **a}


VALUES = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text(encoding="utf-8"))
VALUES_SCHEMA = json.loads((DEPLOY / "chart" / "values.schema.json").read_text(encoding="utf-8"))


def test_chart() -> None:
    """The default values pass their schema; the pod that they give is one that Kubernetes' fields allow."""
    jsonschema.Draft7Validator.check_schema(VALUES_SCHEMA)
    jsonschema.validate(VALUES, VALUES_SCHEMA)
    assert VALUES_SCHEMA["required"] == list(VALUES)
    deployment, service = (
        Helm(VALUES).render((DEPLOY / "chart" / "templates" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("deployment", "service")
    )
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    template = deployment["spec"]["template"]
    jsonschema.validate(template["spec"], POD)
    labels = template["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= labels.items()
    [container] = template["spec"]["containers"]
    assert container["command"] == ["xai-serve"]
    hold(container["args"], template["spec"], container)
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {
        port["name"]: port["containerPort"] for port in container["ports"]
    }
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in template["spec"]["volumes"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 0},
        {"bundles": []},
        {"bundles": ["net.xai"]},
        {"drain": -1},
        {"options": [3]},
        {"tag": "x"},
        {"volume": {}},
    ],
    ids=str,
)
def test_wrong_values_are_found(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**VALUES, **wrong}, VALUES_SCHEMA)


def test_dockerfile() -> None:
    """Not root, no build tools in the second stage; it starts xai-serve as its parser takes it. No image is built here."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]
    words = dict(found)
    assert [value for key, value in found if key == "FROM"] == ["python:3.11-slim AS build", "python:3.11-slim"]
    assert words["USER"].isdecimal()
    assert int(words["USER"]) > 0
    program, *arguments = json.loads(words["ENTRYPOINT"]) + json.loads(words["CMD"])
    assert program == "xai-serve"
    given = serve._parser().parse_args(arguments)
    assert (given.host, given.port) == ("0.0.0.0", 8080)
    extras = set(re.findall(r"\.\[([a-z,]+)\]", text)[0].split(","))
    assert extras == {"onnxruntime", "serve"}
