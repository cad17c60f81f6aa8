"""What is recorded of an answer, and of arrays that another program has computed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import answer as answers
from ..answer import Answer
from ..beside import digest as beside_digest
from ..captions import caption
from ..errors import InputError, RecordsError
from ..explained_network import ExplainedNetwork
from ..explainer import Explainer
from ..format.bundle import Bundle, Input
from ..foundation import schema
from ..foundation.arrays import array_digest
from ..foundation.options import options_of
from ..images.archive import split
from ..images.given import as_array
from ..images.read import contents
from ..methods import create, methods
from ..preprocess import Prepared
from ..probabilities import has_probabilities, probabilities
from ..version import __version__
from .record import Explained, Predicted, RecordedInput, RecordedMap, Source
from .statistics import measure, shown

_TOP = re.compile(r"top[1-9]\d*")
_NETWORKS_CHOICE = (None, -1)
_LONGEST = 1000  # characters of a text that a caller writes


@dataclass(frozen=True)
class Deployed:
    """A network in use: what records say of it.

    Attributes:
        source: The bundle and the runtime.
        network: Labels, activation and input.
    """

    source: Source
    network: ExplainedNetwork

    @classmethod
    def of(cls, explainer: Explainer, signature: str | None = None) -> Deployed:
        """The network of an Explainer; `signature` is that of its bundle, None: the key that it was checked with."""
        checked = explainer.bundle.signature
        signature = checked.key if signature is None and checked is not None else signature
        origin = answers.origin(explainer)
        runtime = {key: origin[key] for key in ("backend", "device", "precision", "versions")}
        return cls._of(explainer.network, origin["bundle"]["layer"], signature, runtime)

    @classmethod
    def elsewhere(
        cls, bundle: Bundle, backend: str, device: str = "", precision: str = "", signature: str | None = None
    ) -> Deployed:
        """A network that another program runs, such as a model server with a graph of the bundle.

        Args:
            bundle: The bundle that the graph comes from.
            backend: What runs it: "triton 2.65".
            device: The device, if it is known.
            precision: The arithmetic, if it is known.
            signature: Of the bundle.
        """
        versions = {"xai-deploy": __version__, "numpy": np.__version__}
        runtime = {"backend": backend, "device": device, "precision": precision, "versions": versions}
        return cls._of(ExplainedNetwork.of(bundle), bundle.manifest.layers_title, signature, runtime)

    @classmethod
    def _of(cls, network: ExplainedNetwork, layer: str, signature: str | None, runtime: Mapping[str, Any]) -> Deployed:
        spec = network.input
        source = Source(network.name, network.digest, signature, layer, spec.size, preprocessing(spec), **runtime)
        return cls(source, network)


def preprocessing(spec: Input) -> str:
    """The sha256 of how an image becomes the input: of the manifest's entry as JSON with sorted keys."""
    text = json.dumps(schema.dump(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def of_answer(
    deployed: Deployed,
    answer: Answer,
    prediction: Sequence[Mapping[str, Any]],
    image: RecordedInput,
    asked: object,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of a record of an answer.

    Args:
        deployed: The network.
        answer: The map and its facts.
        prediction: What `answer.predicted` gives.
        image: The image.
        asked: The target as the caller wrote it.
        fields: What the caller adds.
    """
    source = deployed.source
    if answer.network.input.size != source.size:  # the map shows a further image of the network
        source = Deployed._of(answer.network, source.layer, source.signature, _runtime(source)).source
    target = Explained(
        answer.target,
        answer.label,
        answer.versus,
        answer.versus_label,
        answer.sign,
        answer.title,
        *_asked(asked, answer.caption),
        answer.probability,
        answer.logit,
        answer.score,
    )
    return {
        **_common(source, image, fields),
        "prediction": tuple(map(_predicted, prediction)),
        "target": target,
        "method": answer.method,
        "options": answer.options,
        "seed": _seed(answer.options),
        "seconds": answer.seconds,
        **_map(answer.raw, answer.signed, answer.constant, source),
        "stated_error": answer.stated_errors,
    }


def _predicted(one: Mapping[str, Any]) -> Predicted:
    box = one.get("box")
    number = one.get("value", one["logit"])
    return Predicted(one["class"], one["label"], one["probability"], number, None if box is None else tuple(box))


def of_arrays(
    deployed: Deployed,
    raw: NDArray[Any],
    scores: NDArray[Any],
    method: str,
    image: RecordedInput,
    *,
    target: int | None,
    given: Literal["logits", "probabilities"],
    options: Mapping[str, Any],
    signed: bool,
    seconds: float | None,
    stated_error: Mapping[str, float],
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of a record of a map that another program has computed; see `Recorder.record`.

    Raises:
        RecordsError: The scores are not one finite number for each class, or the class does not exist.
    """
    network, values = deployed.network, np.asarray(scores)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "fiu":
        raise RecordsError(f"scores to record are numbers [classes], not {values.dtype} {list(values.shape)}")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise RecordsError("scores to record hold NaN or infinity")
    if network.labels and len(network.labels) != len(values):
        raise RecordsError(f"{len(values)} scores are given, and the network has {len(network.labels)} classes")
    index = int(np.argmax(values)) if target in _NETWORKS_CHOICE else target
    if type(index) is not int or not 0 <= index < len(values):
        raise RecordsError(f"target {index!r}: the network has the classes 0 to {len(values) - 1}")
    shares = values if given == "probabilities" else _shares(values, network)
    best = np.argsort(-values, kind="stable")[: answers.BEST]

    def chance(i: int) -> float | None:
        return None if shares is None else float(shares[i])

    def logit(i: int) -> float | None:
        return float(values[i]) if given == "logits" else None

    label = network.label(index)
    own = options_of(create(method, options)) if method in methods else dict(options)  # with their defaults
    return {
        **_common(deployed.source, image, fields),
        "prediction": tuple(Predicted(int(i), network.label(int(i)), chance(i), logit(i)) for i in best),
        "target": Explained(
            index, label, None, None, 1, None, *_asked(target, label), chance(index), logit(index), logit(index)
        ),
        "method": method,
        "options": own,
        "seed": _seed(own),
        "seconds": seconds,
        **_map(raw, signed, None, deployed.source),
        "stated_error": {name: float(value) for name, value in stated_error.items()},
    }


def of_image(image: Any, keep: bool, file: str | None = None, beside: Mapping[str, Any] | None = None) -> RecordedInput:
    """What is recorded of an image.

    Args:
        image: A path or the bytes of a file, an array or anything that the Explainer takes; None if it is not known.
        keep: Keep the image itself, too.
        file: The file's name, in place of the path.
        beside: What the network took beside this image, by name.

    Raises:
        RecordsError: The file can't be read.
    """
    of: Literal["file", "array"] | None
    if isinstance(image, (str, Path)):
        file = str(image) if file is None else file
        try:
            image = contents(Path(image)) if split(Path(image)) else Path(image).read_bytes()
        except InputError as error:
            raise RecordsError(str(error)) from None
        except OSError as error:
            raise RecordsError(f"{image}: can't be read ({error.strerror})") from None
    if isinstance(image, (bytes, bytearray, memoryview)):
        of, sha256, data = "file", hashlib.sha256(image).hexdigest(), bytes(image)
    elif image is None:
        of, sha256, data = None, "", b""
    else:
        array = image.x if isinstance(image, Prepared) else as_array(image)
        of, sha256, data = "array", array_digest(array), _npy(array) if keep else b""
    kept = base64.b64encode(data).decode("ascii") if keep and of else None
    return RecordedInput(sha256, of, file, beside_digest(beside or {}), kept)


def _common(source: Source, image: RecordedInput, fields: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"id": uuid.uuid4().hex, "time": now, "source": source, "input": image, "fields": dict(fields)}


def _asked(asked: object, title: str) -> tuple[str | None, Literal["network", "caller"]]:
    """The target as text, and who chose it."""
    if asked is None or (isinstance(asked, (int, np.integer)) and asked in _NETWORKS_CHOICE):
        return None, "network"
    text = str(asked) if isinstance(asked, (str, int, np.integer)) else title
    return text[:_LONGEST], "network" if _TOP.fullmatch(text) else "caller"


def _seed(options: Mapping[str, Any]) -> int | None:
    seed = options.get("seed")
    return seed if type(seed) is int else None


def _map(raw: NDArray[Any], signed: bool, constant: str | None, source: Source) -> dict[str, Any]:
    kept = RecordedMap.of(raw, signed, constant)
    values = np.asarray(raw, np.float32)
    if values.ndim != len(source.size):
        raise RecordsError(f"a map of {list(values.shape)} is none of the input {list(source.size)}")
    return {"map": kept, "statistics": measure(shown(values, signed, source.size))}


def _shares(logits: NDArray[np.float32], network: ExplainedNetwork) -> NDArray[np.float32] | None:
    if network.kind != "classes" or not has_probabilities(network.activation, len(logits)):
        return None
    return probabilities(logits, network.activation)


def _runtime(source: Source) -> dict[str, Any]:
    return {key: getattr(source, key) for key in ("backend", "device", "precision", "versions")}


def _npy(array: NDArray[Any]) -> bytes:
    whole = io.BytesIO()
    np.save(whole, array, allow_pickle=False)
    return whole.getvalue()


def subject(label: str, versus: str | None, sign: int, title: str | None) -> str:
    """What a record explains, for people."""
    return title if title is not None else caption(label, versus, sign)
