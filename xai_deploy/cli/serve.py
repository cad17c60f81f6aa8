"""xai-serve: predictions and explanations over HTTP and gRPC."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import backend_names
from ..detections import DetectionLimits
from ..errors import NotApplicableError, OptionError
from ..explainer import Explainer
from ..foundation.heap import give_back_large_blocks
from ..images import transparency
from ..methods import create
from ..methods.method import require_roles
from ..records import Recorder
from ..serve import Limits, Listening, Models, Served, Server, Service, require
from . import examples
from .arguments import MethodRequest, expand_sets, parse_methods
from .console import Parser, command, positive, silence_opencv
from .recording import add_records, refuse_alone

PROGRAM = "xai-serve"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    with _early_signals():
        return command(_parser(), _serve, argv)


@contextlib.contextmanager
def _early_signals() -> Iterator[None]:
    """Until the server handles them, SIGTERM ends it as SIGINT does, and SIGHUP nothing: both would end it without a line."""
    wanted: dict[str, Any] = {"SIGTERM": signal.default_int_handler, "SIGHUP": signal.SIG_IGN}
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in wanted.keys() & {one.name for one in signal.Signals}:  # Windows has no SIGHUP
            before[name] = signal.signal(signal.Signals[name], wanted[name])
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(signal.Signals[name], handler)


def _serve(arguments: argparse.Namespace) -> None:
    paths = _named(arguments.bundles)
    methods = parse_methods(arguments.method or ["fast"])
    give_back_large_blocks()
    silence_opencv()
    require()
    limits = Limits(
        requests=arguments.max_requests,
        body=arguments.max_body * 2**20,
        pixels=arguments.max_pixels,
        images=arguments.max_images,
        timeout=arguments.timeout,
        batch=arguments.batch_size,
        batch_wait=arguments.batch_wait / 1000,
    )
    opened = partial(
        Explainer,
        backend=arguments.backend,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
        trusted_key=arguments.trusted_key,
        detections=DetectionLimits(arguments.detect_score, arguments.detect_overlap),
    )
    named = arguments.method is not None
    models = Models(paths, opened, partial(served, requests=methods, said=named), limits)
    listening = Listening(arguments.host, arguments.port, arguments.grpc_port, arguments.drain, arguments.watch)

    def ready(http: int, grpc: int | None) -> None:
        if not arguments.quiet:
            both = f" and, for gRPC, at {arguments.host}:{grpc}" if grpc is not None else ""
            with contextlib.suppress(BrokenPipeError):  # nobody reads where it listens, and it serves all the same
                print(f"{PROGRAM}: {', '.join(paths)} at http://{arguments.host}:{http}{both}", flush=True)

    async def run(on_answer: Callable[[Served], None] | None) -> None:
        with _no_line_for_each_image(), _lines_of_libraries():
            await Server(Service(models, limits, on_answer), listening, ready).run()

    if arguments.records is None:
        refuse_alone(arguments)
        asyncio.run(run(None))
        return
    durable, images = arguments.records_durable, arguments.records_images
    with Recorder(arguments.records, durable=durable, keep_images=images) as recorder:
        asyncio.run(run(partial(_record, recorder)))


@contextlib.contextmanager
def _no_line_for_each_image() -> Iterator[None]:
    """A stranger's images are not worth a line each; a program that calls `main` gets its level back."""
    logger = logging.getLogger(transparency.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _OnceAMinute(logging.Filter):
    """Lets what a library says pass once a minute, in one line: asyncio says thousands of times a second that no file is left."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line, now = record.getMessage().partition("\n")[0], time.monotonic()
        self._said = {key: at for key, at in self._said.items() if now - at < 60}
        new = line not in self._said
        self._said.setdefault(line, now)
        record.msg, record.args, record.exc_info = line, None, None
        return new


@contextlib.contextmanager
def _lines_of_libraries() -> Iterator[None]:
    """Print what the libraries below the server say as our own lines: without a handler it comes without a prefix."""
    ours = logging.getLogger(__package__.partition(".")[0])
    theirs = [logging.getLogger(name) for name in ("asyncio", "grpc", "uvicorn")]
    levels = [logger.level for logger in theirs]
    handlers = [handler for handler in ours.handlers if handler not in logging.getLogger().handlers]
    seldom = _OnceAMinute()
    theirs[0].addFilter(seldom)
    for logger in theirs:
        logger.setLevel(max(ours.level, logging.WARNING))
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        theirs[0].removeFilter(seldom)
        for logger, level in zip(theirs, levels, strict=True):
            logger.setLevel(level)
            for handler in handlers:
                logger.removeHandler(handler)


def _record(recorder: Recorder, one: Served) -> None:
    recorder.answered(
        one.explainer,
        one.answer,
        one.prediction,
        one.image,
        one.asked,
        beside=one.beside,
        fields={"request": one.request, "model": one.model},
    )


def served(
    explainer: Explainer, requests: Sequence[MethodRequest], said: bool = True
) -> Mapping[str, Mapping[str, str]]:
    """The methods that a bundle serves, with the options that the command line fixes.

    Args:
        explainer: The opened bundle.
        requests: Methods, "all" or "fast".
        said: The command line names them; see `methods.sets.expanded`.

    Raises:
        NotApplicableError: A method is named that the graphs don't allow; "all" and "fast" leave such methods out.
        OptionError: A method is named twice.
    """
    manifest = explainer.bundle.manifest
    methods: dict[str, Mapping[str, str]] = {}
    for request in expand_sets(requests, [manifest], said=said):
        method = create(request.name, request.options)
        require_roles(request.name, method, manifest)
        if (why := method.why_not(manifest)) is not None:
            raise NotApplicableError(f"{request.name}: {why}")
        if request.name in methods:
            raise OptionError(f"{request.name}: is given twice; a server has one set of defaults for a method")
        methods[request.name] = request.options
    return methods


def _named(texts: Sequence[str]) -> dict[str, Path]:
    """ "NAME=BUNDLE" or "BUNDLE", whose name is that of the folder without its ending."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(text).name.removesuffix(".xai"), text
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise OptionError(f"{text}: a model's name is of letters, digits, '.', '_', '-'; give NAME=BUNDLE")
        if name in paths:
            raise OptionError(f"{text}: {name} is the name of {paths[name]} already; give another NAME=BUNDLE")
        paths[name] = Path(path)
    return paths


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not {text}")
    return value


def _from_zero(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"0 to 65535, not {text}")
    return value


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Serve predictions and explanations over HTTP (KServe's V1 and V2) and gRPC (V2).",
        epilog=examples.SERVE,
    )
    add = parser.add_argument
    add(
        "bundles", metavar="BUNDLE", nargs="+", help="bundle or model file; or NAME=BUNDLE, to serve it under that name"
    )
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (default: %(default)s)")
    add("--port", type=_port, default=8080, metavar="N", help="of HTTP; 0: any that is free (default: %(default)s)")
    add("--grpc-port", type=_port, metavar="N", help="of gRPC (default: no gRPC)")
    methods = (
        "methods that requests may name; the first is the default, options are the server's defaults, as in rise:masks=500; all, "
        "or fast: those that the bundle's graphs allow (default: fast)"
    )
    add("-m", "--method", action="append", metavar="M[,M...]", help=methods)
    add("-b", "--backend", choices=backend_names(), help="inference runtime (default: the first installed)")
    add("-d", "--device", default="cpu", help="cpu, cuda, cuda:1, gpu, npu, auto ... (default: cpu)")
    add("--precision", default="f32", choices=("f32", "tf32", "f16", "bf16"), help="arithmetic (default: f32)")
    add("--threads", type=positive, metavar="N", help="threads within an operator (default: the runtime's choice)")
    add("--cache", metavar="DIR", help="folder for compiled models, if the backend has such a cache")
    add("--batch-size", type=positive, default=8, metavar="N", help="images that run together (default: 8)")
    wait = "milliseconds that a run waits for requests that are being read (default: 2)"
    add("--batch-wait", type=_from_zero, default=2.0, metavar="MS", help=wait)
    requests = "requests under way at a time; further ones get 429 (default: 64)"
    add("--max-requests", type=positive, default=64, metavar="N", help=requests)
    add("--max-body", type=positive, default=16, metavar="MIB", help="largest body of a request (default: 16)")
    pixels = "the largest image that is decoded (default: %(default)s)"
    add("--max-pixels", type=positive, default=20_000_000, metavar="N", help=pixels)
    add("--max-images", type=positive, default=16, metavar="N", help="images in a request (default: 16)")
    longest = "seconds that a request may take; what can't be done in time is refused at once (default: 30)"
    add("--timeout", type=_seconds, default=30.0, metavar="S", help=longest)
    drain = "seconds after SIGTERM in which the server is not ready and still answers (default: 0)"
    add("--drain", type=_from_zero, default=0.0, metavar="S", help=drain)
    watch = "look for changed bundles every S seconds, and replace them while requests run (default: on SIGHUP)"
    add("--watch", type=_seconds, metavar="S", help=watch)
    parser.add_detections()
    add_records(parser)
    parser.add_trusted_key()
    parser.add_common()
    return parser


if __name__ == "__main__":
    sys.exit(main())
