"""The jobs of a benchmark: a `Job` describes one measurement; a `Bench` opens the bundle that it needs and makes it a call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Config, Session, create
from ..backends.backend import to_host
from ..beside import noise as beside_noise
from ..detections import DetectionLimits, best_scores
from ..errors import InputError, RuntimeFailure
from ..explainer import Explainer
from ..format.bundle import Manifest
from ..format.guard import check_self_contained
from ..images import InputRange
from ..preprocess import Prepared, read_pixels
from ..probabilities import decided, has_probabilities, probabilities
from ..settle import rows_of
from ..targets import Like, Target

PLAIN = "plain"
SEED = 0  # seed of the noise
_BOXES = 20  # rows of a detector above the lowest score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The settings that all jobs have in common.

    Attributes:
        device: As for `Explainer`.
        threads: As for `Explainer`.
        batch_size: As for `Explainer`: the largest batch that any graph is given.
        model: ONNX file of the whole network, which plain inference runs; None: it runs the bundle's head and tail.
        image: Image file that fills the batch; None: noise.
        predicted: Explain the predicted classes instead of given ones.
        input_range: As for `read_image`.
        trusted_key: As for `Explainer`.
    """

    device: str = "cpu"
    threads: int | None = None
    batch_size: int = 16
    model: str | None = None
    image: str | None = None
    predicted: bool = False
    input_range: InputRange | None = None
    trusted_key: str | None = None


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        bundle: Path of the bundle.
        backend: Name of the backend.
        batch: How many images.
        method: A method's name, or `PLAIN`: inference without an explanation.
        options: The method's options, as pairs of name and value.
        targets: How many targets; 0 for plain inference.
    """

    bundle: str
    backend: str
    batch: int
    method: str = PLAIN
    options: tuple[tuple[str, Any], ...] = ()
    targets: int = 0


class Bench:
    """The bundles on one backend, each opened once, as in a server.

    Args:
        backend: The backend's name.
        settings: The settings of all jobs.
    """

    def __init__(self, backend: str, settings: Settings) -> None:
        self.backend = backend
        self.settings = settings
        self._explainers: dict[str, Explainer] = {}
        self._images: dict[tuple[str, int], Prepared] = {}
        self._model: Session | None = None

    def call(self, job: Job) -> Callable[[], object]:
        """The job as a call. The first call opens the graphs that it needs.

        Raises:
            XaiError: The bundle, the image or the model can't be used.
        """
        explainer, images = self._explainer(job.bundle), self._batch(job.bundle, job.batch)
        if job.method == PLAIN and self.settings.model is not None:
            return partial(self._run_model, job.bundle, images)
        if job.method == PLAIN:
            return partial(explainer.predict, images)
        targets = _targets(explainer.bundle.manifest, job.targets, self.settings.predicted)
        return partial(explainer.explain_many, images, [(job.method, dict(job.options))], targets)

    def check_model(self, bundle: str, batch: int) -> None:
        """Run the whole model once on the bundle's input, and warn if it predicts other classes than the bundle.

        Raises:
            InputError: The model does not take the bundle's input, or lacks one of the bundle's outputs.
        """
        explainer, images = self._explainer(bundle), self._batch(bundle, batch)
        outputs = self._run_model(bundle, images)
        manifest = explainer.bundle.manifest
        explained = next((o for o in manifest.outputs if o.kind != "other"), None)
        if explained is not None and explainer.network.kind == "classes":
            own, logits = outputs[explained.name].reshape(batch, -1), explainer.predict(images)
            classes = decided(own, own if explained.kind == "probabilities" else None)
            shared = has_probabilities(manifest.activation, logits.shape[1])
            if (classes != decided(logits, probabilities(logits, manifest.activation) if shared else None)).any():
                log.warning("%s predicts other classes than %s; is it the same network?", self.settings.model, bundle)

    def _explainer(self, bundle: str) -> Explainer:
        if bundle not in self._explainers:
            explainer = self._explainers[bundle] = self._open(bundle, DetectionLimits())
            if explainer.network.kind == "rows":
                limits = _limits(explainer, self._batch(bundle, 1), self.settings.image is None)
                explainer.close()
                self._explainers[bundle] = self._open(bundle, limits)
        return self._explainers[bundle]

    def _open(self, bundle: str, limits: DetectionLimits) -> Explainer:
        s = self.settings
        return Explainer(
            bundle,
            self.backend,
            s.device,
            threads=s.threads,
            batch_size=s.batch_size,
            trusted_key=s.trusted_key,
            detections=limits,
        )

    def _batch(self, bundle: str, count: int) -> Prepared:
        """Preprocessed inputs of the network, [count, ...]: preprocessing is not part of the measurement."""
        key = bundle, count
        if key not in self._images:
            explainer, rng = self._explainer(bundle), np.random.default_rng(SEED)
            spec = explainer.bundle.manifest.input
            noise: NDArray[Any]
            beside = beside_noise(explainer.bundle.manifest, count)
            if self.settings.image is not None:
                one = explainer.prepare(
                    [read_pixels(self.settings.image, spec, input_range=self.settings.input_range)]
                ).x
                self._images[key] = Prepared(np.repeat(one, count, axis=0), beside)
            elif spec.dtype == "uint8":
                noise = rng.integers(0, 256, (count, *spec.image_shape), dtype=np.uint8)
                self._images[key] = Prepared(noise, beside)
            else:
                noise = rng.standard_normal((count, *spec.image_shape), dtype=np.float32)
                self._images[key] = Prepared(noise.astype(spec.dtype), beside)
            if explainer.network.kind == "rows":  # one image, so that a lowest score fits all
                self._images[key] = self._images[key].rows(np.zeros(count, np.int64))
        return self._images[key]

    def _run_model(self, bundle: str, images: Prepared) -> dict[str, NDArray[Any]]:
        """The outputs of the whole model, copied to the host, as `Explainer.predict` copies those of the bundle."""
        manifest, model = self._explainer(bundle).bundle.manifest, self.settings.model
        assert model is not None
        if self._model is None:
            data = Path(model).read_bytes()
            check_self_contained(data, model)
            backend = create(self.backend, Config(self.settings.device, threads=self.settings.threads))
            try:
                self._model = backend.open(data)
            except RuntimeFailure as error:
                raise RuntimeFailure(f"{model}: {error}") from None
        outputs = [output.name for output in manifest.outputs]
        try:
            # A network exported for a batch of 1 runs once per image.
            count = len(images.x)
            parts = [images] if manifest.batch == "any" else [images.rows(slice(i, i + 1)) for i in range(count)]
            runs = [self._model.run({manifest.input.name: part.x, **part.beside}, outputs) for part in parts]
            return {name: np.concatenate([to_host(run[name]) for run in runs]) for name in outputs}
        except RuntimeFailure as error:
            raise InputError(
                f"{model}: does not take {bundle}'s input {manifest.input.name!r} {list(images.x.shape)}, or does not give its "
                f"outputs {', '.join(outputs)} ({error})"
            ) from None


def _limits(explainer: Explainer, image: Prepared, noise: bool) -> DetectionLimits:
    """The limits with which noise has as many boxes as a photo: a trained detector finds none there. An image has at least one."""
    best = np.sort(best_scores(rows_of(explainer, image), explainer.bundle.manifest)[0])
    reached, usual = float(best[-min(len(best), _BOXES)]), DetectionLimits()
    return replace(usual, score=reached if noise else min(usual.score, float(best[-1])))


def _targets(manifest: Manifest, count: int, predicted: bool) -> list[Target]:
    """So many targets of the kind that the network has: classes, those in the whole image, numbers, random vectors, or boxes.

    Args:
        manifest: The bundle's manifest.
        count: How many.
        predicted: The best classes of each image; for dense scores each where it is predicted, else in the whole image.
    """
    scores = manifest.scores
    if scores.kind == "rows":
        return [f"box {i}" for i in range(count)]
    if scores.kind == "dense":
        return [-1] if predicted else [f"{i}@all" for i in range(count)]
    if scores.normalised:
        vectors = np.random.default_rng(SEED).standard_normal((count, *scores.shape), dtype=np.float32)
        return [Like(vector) for vector in vectors]
    if scores.kind == "vector":
        return [f"#{i}" for i in range(count)]
    if not predicted:
        return list(range(count))
    return [f"top{count}"] if count > 1 else [-1]  # "topK" is K targets, -1 the predicted class
