"""Explainer: bundle + backend + method -> Explanation. The only place where methods meet backends."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from . import heatmap as _heatmap
from .backends import Backend, Config, Session, create
from .beside import Beside, Given, ImagesTogether, Rows, together
from .chunks import Part, joined, joined_maps, naming, run_method, why_constant
from .detections import DetectionLimits
from .errors import NotApplicableError, OptionError, TargetError, XaiError
from .explained_network import ExplainedNetwork
from .explanation import Explanation
from .exported import open_bundle
from .faithful import PRODUCTS, rounding, rounding_warning
from .format.bundle import Bundle
from .forward import ForwardPass
from .foundation.options import Named, options_of, specs
from .foundation.paths import path_of
from .guarded_session import GuardedSession
from .images.given import Image
from .in_regions import Scored, in_regions, rows_of, shares_of
from .methods import Method, MethodSet, applicable
from .methods import create as create_method
from .methods.across import image_of
from .methods.method import require_roles
from .methods.sets import default_method
from .opened_network import OpenedNetwork
from .pictures.thumbnail import small
from .preprocess import Prepared, prepare, read_for
from .sessions import Sessions
from .targets import CheckedTarget, ScoreSpace, Target
from .targets import read as read_targets
from .targets.seeds import versus_of

log = logging.getLogger(__name__)

Array = NDArray[np.float32]
MAX_THREADS = 1024  # a typing error must not start a hundred thousand

MethodSpec: TypeAlias = str | Named


class Explainer:
    """Explains a deployed network. Sessions are opened when first needed and kept; calls from several threads are safe.

    A process may be forked (gunicorn --preload): on the CPU the new one opens sessions of its own.

    Args:
        bundle: Path of a bundle written by xai-export; or of a model file (.onnx, .pt, .safetensors, ...), which the installed
            xai-export makes a bundle of first, in a private cache. See `exported.open_bundle`.
        backend: "onnxruntime", "openvino", or None for the first that is installed.
        device: "cpu", "cuda", "cuda:1", "gpu", "npu", "auto", or a name that only the backend knows. A device that is
            not there is an error; nothing falls back.
        precision: "f32" on every device unless asked otherwise ("tf32" on CUDA, "f16" or "bf16" on OpenVINO).
        threads: Threads within an operator; None leaves the runtime's choice.
        batch_size: The largest batch that any graph is given; bounds the memory. It is 1 if the bundle takes one image at a time.
        cache: Folder for compiled models (OpenVINO, TensorRT).
        hint: "latency" or "throughput".
        properties: Passed to the runtime as they are.
        progress: Show progress bars at a terminal.
        detections: Which rows of a detector count as detections; None: see `DetectionLimits`.
        export: For a model file: the long options of xai-export with _ in place of -, and `methods`, the methods that will be
            asked for: {"split": "layer4", "preprocess": "imagenet", "methods": ["lrp"]}.
        trusted_key: PEM file of a public key. A bundle that it did not sign, or that was changed since, is refused before any
            graph is opened. Only bytes that were checked are ever used.

    Attributes:
        bundle: The opened bundle.
        network: What explanations keep of it.
        labels: One label per class; empty if they are not known.
        backend: The name of the backend in use.
        backend_version: The version of its runtime.
        device: The device asked for, which is the one in use.
        precision: The arithmetic asked for.
        batch_size: The largest batch that any graph is given; 1 for a bundle that takes one image at a time.
        space: What targets can name.

    Raises:
        BundleError: The folder is not an intact bundle, or not one that the trusted key has signed.
        KeyFileError: The trusted key can't be read.
        ModelFileError, OptionError: The model file can't be exported as `export` says.
        BackendError: The backend or the device can't be used.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        backend: str | None = None,
        device: str = "cpu",
        *,
        precision: Literal["f32", "tf32", "f16", "bf16"] = "f32",
        threads: int | None = None,
        batch_size: int = 16,
        cache: str | None = None,
        hint: Literal["latency", "throughput"] = "latency",
        properties: Mapping[str, str] | None = None,
        progress: bool = False,
        export: Mapping[str, object] | None = None,
        detections: DetectionLimits | None = None,
        trusted_key: str | os.PathLike[str] | None = None,
    ) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise XaiError(f"batch_size is at least 1, not {batch_size!r}")
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
            raise XaiError(f"threads are 1 to {MAX_THREADS}, not {threads!r}")
        if cache is not None and (folder := path_of(cache, "the cache", XaiError)).exists() and not folder.is_dir():
            raise XaiError(f"{cache}: is a file; the cache is a folder")
        self.bundle = open_bundle(bundle, export, progress, trusted_key)
        self.network = ExplainedNetwork.of(self.bundle)
        self.labels = self.network.labels
        scores = self.bundle.manifest.scores
        classes, me = self.bundle.manifest.classes, weakref.proxy(self)
        self.space = ScoreSpace(
            classes, self.labels, scores.kind, scores.normalised, lambda image: me.predict(image)[0], scores.rows
        )
        self.device = device
        self.precision = precision
        self.threads = threads
        self.batch_size = batch_size if self.bundle.manifest.batch == "any" else 1
        self._backend = create(backend, Config(device, precision, threads, cache, hint, properties or {}))
        self.backend, self.backend_version = self._backend.name, self._backend.version
        self._sessions = Sessions(partial(_open, self.bundle, self._backend), device)  # no reference back: no cycle
        self._warned: set[str] = set()
        runtime = f"{self.backend} {self.backend_version.partition('-')[0]}"  # OpenVINO adds the build after a hyphen
        self._network = OpenedNetwork(
            self.bundle.manifest, self._sessions, self.batch_size, progress, runtime, precision, limits=detections
        )

    @property
    def limits(self) -> DetectionLimits:
        """Which rows of a detector count as detections."""
        return self._network.limits

    def close(self) -> None:
        """Close the sessions and free their memory, also at the end of `with Explainer(...) as explainer:`.

        Calls from then on raise `ClosedError`; so may a call of another thread that is under way. The bundle and what
        it says stay readable.
        """
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def explain(
        self,
        images: ImagesTogether,
        method: str | None = None,
        target: Target = None,
        *,
        inputs: Any = None,
        **options: object,
    ) -> Explanation:
        """Explain images by one method.

        Args:
            images: One or many: paths, PIL images, uint8 RGB arrays [h,w,3] or RGBA [h,w,4], uint8 tensors [3,h,w] or [h,w,3],
                of any size, preprocessed as the manifest says; or floats of the network's own input shape, taken as already
                preprocessed; or the result of `prepare`. Volumes are arrays [D,h,w] or [D,h,w,C]; see `volumes`.
            method: A method's name, see `xai_deploy.method_names`; None: reciprocam, of a detector layer-cam.
            target: A class index, a label, a contrast ("cat vs dog", or `Contrast`), the other direction ("not cat", or
                `Not`), or one of these per image; None or -1: the predicted class; floats [classes] or [N,classes]: the
                weights of all classes.
            inputs: For a network that takes more than these images: name -> images or an array, one for all or one for each. Images
                of several inputs may also be given together, as tuples.
            **options: The method's options.

        Raises:
            InputError, MethodError, BackendError, NonFiniteOutputError: See `xai_deploy.errors`.
        """
        if isinstance(target, str) and len(read_targets([target], 1, self.space)) != 1:
            raise TargetError(f"explain takes one target; for {target!r} call explain_many")
        name = default_method(self.bundle.manifest) if method is None else method
        return self.explain_many(images, [(name, options)], [target], inputs)[0]

    def explain_many(
        self,
        images: ImagesTogether,
        methods: Sequence[MethodSpec] = ("reciprocam",),
        targets: Sequence[Target] = (None,),
        inputs: Given | None = None,
    ) -> list[Explanation]:
        """Explain images by several methods and for several targets, with one run of the head.

        Args:
            images: As for `explain`.
            methods: Names, or pairs of a name and its options; a name alone is one method.
            targets: Each as for `explain`; "topK" stands for the K best classes of each image, as K targets.
            inputs: As for `explain`.

        Returns:
            One Explanation per method and target, the targets varying fastest.
        """
        manifest = self.bundle.manifest
        named: list[tuple[str, Method]] = []
        for name, options in specs("method", methods):
            method = create_method(name, options)
            require_roles(name, method, manifest)
            if manifest.levels and method.needs_layer and not options.keys() & {"combine", "layer"}:
                method = create_method(name, {**options, "combine": "max"})  # the option's default, on record
            special = manifest.scores.kind != "classes" or manifest.input.depth is not None
            if special and (why := method.why_not(manifest)) is not None:
                raise NotApplicableError(f"{name}: {why}")
            self._warn_of_rounding(name, method)
            named.append((name, method))
        batch, beside = together(images, inputs, manifest)
        wanted = read_targets(targets, len(batch), self.space)
        parts = [self._chunk(batch, beside, rows, named, wanted) for rows in self._rows(len(batch))]
        return self._join(parts, named, len(wanted))

    def _warn_of_rounding(self, name: str, method: Method) -> None:
        """Log, once for each method, which of its graphs gave values at export that rounding decides."""
        manifest, image = self.bundle.manifest, image_of(method, self.bundle.manifest)
        named = {} if image is None else manifest.roles_of(image)
        for what, share in rounding(manifest).items():
            runs = {named.get(role, role) for role in method.roles}
            concerned = method.sums_products if what == PRODUCTS else what in runs
            if concerned and name not in self._warned:
                self._warned.add(name)
                log.warning("%s: %s", name, rounding_warning(what, share, manifest))

    def methods(self, which: MethodSet = "all") -> list[str]:
        """The methods that this bundle's graphs allow, for `explain_many`.

        Args:
            which: "all", or "fast": without those that cost tens of inferences or more.
        """
        if which not in get_args(MethodSet):
            raise OptionError(f"methods: which is {' or '.join(map(repr, get_args(MethodSet)))}, not {which!r}")
        return applicable([self.bundle.manifest], which)

    def check_target(self, target: Target) -> None:
        """Refuse something that is no target of this network, before any image is read.

        Raises:
            TargetError: The class does not exist, the label is not listed, or the target is neither.
        """
        read_targets([target], 1, self.space)

    def predict(self, images: ImagesTogether, inputs: Given | None = None) -> NDArray[np.float32]:
        """The logits [N,classes] of images, as for `explain`."""
        batch, beside = together(images, inputs, self.bundle.manifest)
        rows = self._rows(len(batch))
        return np.concatenate([self._forward([batch[i] for i in own], beside.rows(own)).logits for own in rows])

    def prepare(self, images: ImagesTogether, inputs: Given | None = None) -> Prepared:
        """Preprocess images, given as for `explain`. `explain` and `predict` take the result in place of images."""
        batch, beside = together(images, inputs, self.bundle.manifest)
        prepared = np.stack([prepare(image, self.bundle.manifest.input) for image in batch])
        return Prepared(prepared, beside.rows(range(len(batch))))

    def passes(self, images: Prepared) -> Iterator[tuple[range, ForwardPass]]:
        """The batches of prepared images on their way through the graphs, and which images they are."""
        for rows in self._rows(len(images.x)):
            own = images.rows(slice(rows.start, rows.stop))
            yield rows, ForwardPass(self._network, own.x, beside=own.beside)

    def _rows(self, count: int) -> Iterator[range]:
        step = self._network.batch_size
        return (range(start, min(start + step, count)) for start in range(0, count, step))

    def _forward(self, images: Sequence[Image | Prepared], beside: Rows) -> ForwardPass:
        spec = self.bundle.manifest.input
        inputs = [prepare(image, spec) for image in images]
        x = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)
        return ForwardPass(self._network, x, beside=beside)

    def _chunk(
        self,
        images: Sequence[Image | Prepared],
        beside: Beside,
        rows: range,
        named: Sequence[tuple[str, Method]],
        wanted: Sequence[CheckedTarget],
    ) -> Part:
        """All methods and targets for the images in `rows`."""
        started = time.perf_counter()
        spec = self.bundle.manifest.input
        given = [image if isinstance(image, Prepared) else read_for(image, spec) for image in (images[i] for i in rows)]
        forward, photos = self._forward(given, beside.rows(rows)), [small(one, spec) for one in given]
        chosen = [target.part(rows.start, rows.stop) for target in wanted]
        forward.sizes = [size for size, _ in photos]
        if self.bundle.manifest.scores.by_region:
            forward, chosen = in_regions(forward, chosen, self.bundle.manifest, forward.sizes)
        self._prime(forward, chosen, named)
        seeds = [target.seed(lambda: forward.logits) for target in chosen]
        shared = time.perf_counter() - started
        maps, seconds, diagnostics = [], [], []  # every method's time includes the shared forward pass
        for name, method in named:
            started, forward.reported = time.perf_counter(), {}
            with naming(name):
                maps.append(run_method(forward, method, seeds, self.bundle.manifest))
            diagnostics.append(forward.reported)
            seconds.append(time.perf_counter() - started + shared)
        scored = [Scored.of(forward, target, seed, self.network) for target, seed in zip(chosen, seeds, strict=True)]
        constant = [why_constant(of, seeds) for of in maps]
        raws = [[one.raw for one in of] for of in maps]
        found = forward.detections() if self.bundle.manifest.scores.rows is not None else ()
        return Part(scored, forward.outputs, raws, seconds, constant, photos, diagnostics, found)

    def _prime(
        self, forward: ForwardPass, chosen: Sequence[CheckedTarget], named: Sequence[tuple[str, Method]]
    ) -> None:
        """Run a graph that propagates back before anything asks for the logits, if a method is going to run it anyway.

        The logits are among its outputs, so no other pass is run for them.
        """
        if any("own-map" in method.roles for _, method in named):
            forward.own_map()
            return
        classes, manifest = forward.compared, self.bundle.manifest
        runs = (
            (name, role, offset)
            for name, method in named
            for role in method.roles
            if (graph := manifest.graphs.get(role) if image_of(method, manifest) is None else None)
            and graph.propagated
            and (offset := method.offset(classes)) is not None
        )
        back = next(runs, None)
        if back is None:
            return
        name, role, offset = back
        with naming(name):
            for target in chosen:  # a single class, also one that is still to be predicted
                if target.classes is not None:
                    return forward.prime(role, target, target.classes, offset)
            for target in chosen:  # else a seed that is known without the logits
                if offset == 0 and not target.needs_logits:
                    forward.backward(role, target.seed(lambda: forward.logits))
                    return None

    def _join(self, parts: Sequence[Part], named: Sequence[tuple[str, Method]], count: int) -> list[Explanation]:
        manifest = self.bundle.manifest
        outputs = {
            output.name: joined([part.outputs[output.tensor] for part in parts])
            for output in self.bundle.manifest.outputs
        }
        # several targets of a classifier share one array
        logits = [joined([part.scored[t].logits for part in parts]) for t in range(count)]
        shares = [shares_of([part.scored[t] for part in parts]) for t in range(count)]
        explanations = []
        for m, (name, method) in enumerate(named):
            seconds = sum(part.seconds[m] for part in parts)
            for t in range(count):
                signed = tuple(method.signed(bool(own)) for part in parts for own in part.scored[t].seed.contrasts)
                maps = joined_maps(parts, m, t, method, signed, manifest)
                known = maps.input is manifest.input  # no photos are kept of other images
                seen = replace(self.network, layer=maps.layer, input=maps.input)
                explanations.append(
                    Explanation(
                        heatmap=_heatmap.heatmap(maps.raw, *maps.input.size),
                        raw=maps.raw,
                        logits=logits[t],
                        outputs=outputs,
                        target=joined([part.scored[t].seed.target for part in parts]),
                        versus=versus_of([part.scored[t].seed for part in parts]),
                        sign=joined([np.where(part.scored[t].seed.sign < 0, -1, 1).astype(np.int8) for part in parts]),
                        method=name,
                        options=options_of(method),
                        seconds=seconds,
                        constant=maps.constant,
                        signed=signed,
                        at_pixels=method.at_pixels,
                        sizes=tuple(size if known else None for part in parts for size, _ in part.photos),
                        thumbnails=tuple(small if known else None for part in parts for _, small in part.photos),
                        network=seen if manifest.levels or not known else self.network,
                        layers=maps.layers,
                        score=joined([part.scored[t].score for part in parts]),
                        titles=tuple(title for part in parts for title in part.scored[t].titles),
                        shares=shares[t],
                        detections=tuple(tuple(found) for part in parts for found in part.detections),
                        rows=rows_of([part.scored[t] for part in parts]),
                        diagnostics={
                            key: tuple(joined([part.diagnostics[m][key][t] for part in parts]).tolist())
                            for key in parts[0].diagnostics[m]
                        },
                    )
                )
        return explanations


def _open(bundle: Bundle, backend: Backend, role: str) -> Session:
    data, guarded = bundle.guarded(role)
    return GuardedSession(backend.open(data), guarded, bundle.manifest.graphs[role], role)
