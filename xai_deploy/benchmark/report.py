"""The benchmark: choose the jobs, measure them, and collect the report."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import __version__
from ..backends import Backend, Config, create
from ..backends import backends as all_backends
from ..errors import BackendNotInstalledError, InputError, NotABundleError, TargetError, XaiError
from ..explainer import MethodSpec
from ..format.bundle import Bundle, Manifest
from ..format.signature import TrustedKey
from ..foundation.paths import path_of, paths_of
from ..foundation.progress import progress
from ..images import InputRange
from ..methods import methods as all_methods
from ..methods.method import create as create_method
from ..methods.method import require_roles
from ..methods.sets import expanded
from .jobs import PLAIN, Bench, Job, Settings
from .memory import own_peak, peak_memory
from .results import LeftOut, Report, Result, Tested
from .timing import Summary, interleave, summarise

_SLOW_REASON = "costs tens of inferences or more; measured if it is named"
_NO_PEAK = "this system does not report the peak memory of a process"

log = logging.getLogger(__name__)


def benchmark(
    bundles: Sequence[str | os.PathLike[str]],
    methods: Sequence[MethodSpec] | None = None,
    backends: Sequence[str] | None = None,
    *,
    batches: Sequence[int] = (1,),
    targets: Sequence[int] = (1,),
    runs: int = 30,
    warmup: int = 3,
    device: str = "cpu",
    threads: int | None = None,
    model: str | os.PathLike[str] | None = None,
    image: str | os.PathLike[str] | None = None,
    predicted: bool = False,
    input_range: InputRange | None = None,
    memory: bool = True,
    show_progress: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    trusted_key: str | None = None,
) -> Report:
    """Measure plain inference and explanations, with the same settings and in the same rounds.

    (Most of the length of this function is its arguments.)

    Args:
        bundles: Their paths; several are compared, usually one network cut at several layers.
        methods: Names, or pairs of a name and its options; None: all that the bundles' graphs allow, except the slow ones.
        backends: Names; None: all that are installed.
        batches: Numbers of images; each number is measured separately.
        targets: Numbers of distinct classes that one call explains; each number is measured separately.
        runs: Number of timed rounds.
        warmup: Number of runs of each job before the timed rounds; the first of them opens its graphs.
        device: As for `Explainer`.
        threads: As for `Explainer`.
        model: ONNX file of the whole network, which plain inference runs; None: it runs each bundle's head and tail.
        image: Image file that fills the batch; None: noise from a fixed seed.
        predicted: Explain the best classes of each image, which must be found first, instead of given classes.
        input_range: As for `read_image`, for the image file.
        memory: Also measure peak memory, for each job in a process of its own.
        show_progress: Show progress bars at a terminal.
        clock: Gives the time in seconds.
        trusted_key: As for `Explainer`.

    Raises:
        XaiError: Something that an argument names does not exist, does not apply, or does not fit the other arguments.
        OSError: The model can't be read.

    This function has more than 60 lines because it names 17 arguments and 13 fields of the report; the work is in the
    functions below.
    """
    for what, counts in (("runs", [runs]), ("warmup", [warmup]), ("batches", batches), ("targets", targets)):
        # `type`, not `isinstance`: a bool is an int in Python.
        if not counts or any(type(count) is not int or count < 1 for count in counts):
            raise InputError(f"{what} are numbers from 1, not {counts!r}")
    if model is not None and trusted_key is not None:
        raise InputError(f"{os.fspath(model)}: a model file is not signed, and a trusted key was given; leave one out")
    settings = Settings(
        device,
        threads,
        max(16, *batches),  # so that each batch is run at once, not in parts
        None if model is None else str(path_of(model, "the model")),
        None if image is None else str(path_of(image, "the image")),
        predicted,
        input_range,
        trusted_key,
    )
    opened = _open(bundles, max(targets), trusted_key)
    chosen, left_out = _choose(opened, methods)
    created = _backends(backends, Config(device, threads=threads))
    no_memory = None if memory else "not requested"
    if memory and own_peak() is None:
        no_memory = _NO_PEAK
    rounds = _Rounds(runs, warmup, no_memory is None, show_progress, clock)
    results: list[Result] = []
    for backend in (one.name for one in created):
        bench = Bench(backend, settings)
        of_backend: list[Result] = []
        for batch in dict.fromkeys(batches):
            jobs = _jobs(chosen, backend, batch, list(dict.fromkeys(targets)), settings)
            if model is not None:
                for path in opened:
                    bench.check_model(path, batch)
            measured, failed = _measure(bench, jobs, opened, rounds, strict=methods is not None)
            left_out += [one for one in failed if one not in left_out]
            of_backend += measured
        results += _sorted(of_backend, list(opened))
    return Report(
        bundles=[Tested(path, m.name, m.layers_title, m.digest) for path, m in opened.items()],
        plain="head and tail of the bundle" if settings.model is None else settings.model,
        input="noise" if settings.image is None else settings.image,
        target="predicted" if predicted or any(m.scores.kind == "rows" for m in opened.values()) else "given",
        device=device,
        threads=threads,
        batch_size=settings.batch_size,
        runs=runs,
        warmup=warmup,
        versions=_versions(created),
        no_memory=no_memory,
        left_out=left_out,
        results=results,
    )


def _open(bundles: Sequence[str | os.PathLike[str]], targets: int, trusted_key: str | None) -> dict[str, Manifest]:
    """Path -> manifest, each bundle once; refuses what the key did not sign, and a network with fewer classes than `targets`."""
    key = None if trusted_key is None else TrustedKey(trusted_key)
    opened = {str(path): Bundle.open(path, key).manifest for path in paths_of(bundles, "a bundle", NotABundleError)}
    if not opened:
        raise InputError("no bundle was given")
    for path, manifest in opened.items():
        if targets > manifest.classes and manifest.scores.kind != "rows":
            raise TargetError(f"{path}: {targets} distinct targets; the network has {manifest.classes} classes")
    return opened


def _choose(
    opened: Mapping[str, Manifest], methods: Sequence[MethodSpec] | None
) -> tuple[dict[str, list[tuple[str, dict[str, Any]]]], list[LeftOut]]:
    """Bundle -> the methods to measure, and the methods left out. If the user names methods, none is left out."""
    if methods is not None:
        specs = [(spec, {}) if isinstance(spec, str) else (spec[0], dict(spec[1])) for spec in methods]
        specs = [(name, dict(options)) for name, options in expanded(specs, list(opened.values()))]
        if not specs:
            raise InputError("no method was given")
        for manifest in opened.values():
            for name, options in specs:
                require_roles(name, create_method(name, options), manifest)
        return dict.fromkeys(opened, specs), []
    chosen: dict[str, list[tuple[str, dict[str, Any]]]] = {path: [] for path in opened}
    left_out: list[LeftOut] = []
    for path, manifest in opened.items():
        for name in all_methods:
            method = create_method(name, {})
            try:
                require_roles(name, method, manifest)
            except XaiError as error:
                left_out.append(LeftOut(path, None, name, str(error)))
                continue
            if method.slow:
                left_out.append(LeftOut(path, None, name, f"{name}: {_SLOW_REASON}"))
            else:
                chosen[path].append((name, {}))
    return chosen, left_out


def _backends(asked: Sequence[str] | None, config: Config) -> list[Backend]:
    """The backends asked for, or all that are installed; `create` refuses one that lacks the device."""
    if asked is not None:
        return [create(name, config) for name in dict.fromkeys(asked)]
    installed = []
    for name in all_backends:
        try:
            installed.append(create(name, config))
        except BackendNotInstalledError:
            continue
    return installed or [create(None, config)]  # raises the error that says what to install


def _plain(job: Job, settings: Settings, first: str) -> Job:
    """The plain inference that a job is compared with; if the whole model runs it, one job serves all bundles."""
    bundle = job.bundle if settings.model is None else first
    return replace(job, bundle=bundle, method=PLAIN, options=(), targets=0)


def _jobs(
    chosen: Mapping[str, list[tuple[str, dict[str, Any]]]],
    backend: str,
    batch: int,
    targets: Sequence[int],
    settings: Settings,
) -> list[Job]:
    """All jobs of one backend and batch, plain inference first."""
    first = next(iter(chosen))
    plain = [_plain(Job(path, backend, batch), settings, first) for path in chosen]
    explained = [
        Job(path, backend, batch, name, tuple(options.items()), count)
        for path, methods in chosen.items()
        for name, options in methods
        for count in targets
    ]
    return list(dict.fromkeys(plain + explained))  # with a whole model, the plain jobs of all bundles are one


def _opened(bench: Bench, jobs: Sequence[Job], strict: bool) -> tuple[dict[Job, Callable[[], object]], list[LeftOut]]:
    """The jobs as calls, each run once to open its graphs, and, unless `strict`, the methods that failed."""
    calls, failed = {}, []
    for job in jobs:
        call = bench.call(job)
        try:
            call()
        except XaiError as error:
            if strict or job.method == PLAIN:
                raise
            failed.append(LeftOut(job.bundle, bench.backend, job.method, str(error)))
            continue
        calls[job] = call
    return calls, failed


@dataclass(frozen=True)
class _Rounds:
    """How jobs are measured; see `benchmark`."""

    runs: int
    warmup: int
    memory: bool
    show_progress: bool
    clock: Callable[[], float]


def _measure(
    bench: Bench, jobs: Sequence[Job], opened: Mapping[str, Manifest], rounds: _Rounds, strict: bool
) -> tuple[list[Result], list[LeftOut]]:
    """The jobs of one backend and batch, timed in the same rounds, and, unless `strict`, the methods that failed."""
    calls, failed = _opened(bench, jobs, strict)
    settings, label = bench.settings, f"{bench.backend}, batch {jobs[0].batch}: "
    seconds = interleave(
        calls,
        rounds.runs,
        rounds.warmup - 1,  # `_opened` has run each call once
        clock=rounds.clock,
        label=label + "time",
        show_progress=rounds.show_progress,
    )
    peaks: dict[Job, int | None] = {}
    if rounds.memory:
        shown = progress(calls, len(calls), label + "memory", rounds.show_progress)
        peaks = {job: _peak(job, settings) for job in shown}
    results = []
    for job in calls:
        plain = _plain(job, settings, next(iter(opened)))
        summary = summarise(seconds[job], seconds[plain])
        results.append(_result(job, summary, opened, settings, peaks.get(job), peaks.get(plain)))
    return results, failed


def _peak(job: Job, settings: Settings) -> int | None:
    try:
        return peak_memory(job, settings)
    except XaiError as error:  # a missing peak is no reason to lose the times
        log.warning("%s: %s", job.method, error)
        return None


def _sorted(results: list[Result], bundles: list[str]) -> list[Result]:
    """The results in the order of the table: by method, targets, batch, and bundle, the last varying fastest."""
    methods = list(dict.fromkeys(result.title for result in results))

    def place(result: Result) -> tuple[int, ...]:
        bundle = -1 if result.bundle is None else bundles.index(result.bundle)
        return methods.index(result.title), result.targets or 0, result.batch, bundle

    return sorted(results, key=place)


def _result(
    job: Job,
    summary: Summary,
    opened: Mapping[str, Manifest],
    settings: Settings,
    peak: int | None,
    plain_peak: int | None,
) -> Result:
    whole = job.method == PLAIN and settings.model is not None
    return Result(
        bundle=None if whole else job.bundle,
        layer=None if whole else opened[job.bundle].layers_title,
        backend=job.backend,
        method=job.method,
        options=dict(job.options),
        batch=job.batch,
        targets=job.targets or None,
        median_seconds=summary.median,
        iqr_seconds=summary.iqr,
        ratio=summary.ratio,
        ratio_iqr=summary.ratio_iqr,
        peak_bytes=peak,
        extra_bytes=None if peak is None or plain_peak is None else peak - plain_peak,
    )


def _versions(backends: Sequence[Backend]) -> dict[str, str]:
    own = {"xai-deploy": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return own | {backend.name: backend.version for backend in backends}
