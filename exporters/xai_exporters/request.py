"""What the user asks of an export: one dataclass, from the command line, from Python, or from a TOML file.

Each field carries its option of the command line, from which the parser, `--help` and the TOML reader are made.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from .errors import RequestError
from .field_types import check_types, paths_given

Preset = Literal["imagenet", "unit", "tf", "caffe", "none", "assume"]

Group = Literal[
    "the bundle",
    "the network",
    "the layer",
    "preprocessing, for the manifest",
    "graphs beside head and tail",
    "fused graphs: image -> the network's outputs and a saliency map, in one file",
    "servers and browsers",
    "sanity check",
]
GROUPS: tuple[Group, ...] = typing.get_args(Group)
"""The groups of options, in the order of `--help`."""


@dataclass(frozen=True)
class Option:
    """A field's option on the command line. Its name and its type are the field's.

    Attributes:
        group: Where `--help` lists it.
        help: One line. {roles}, {composites}, {methods}, {servers} and {decoders} stand for the names that there are.
        metavar: What the value is called.
        also: Other spellings of the option.
        parse: Name of the function in `arguments` that reads the value's text; None: by the field's type.
        repeatable: The option may be given several times; each adds to the list.
    """

    group: Group
    help: str
    metavar: str | tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    parse: str | None = None
    repeatable: bool = False


_BUNDLE, _NETWORK, _LAYER, _IMAGE, _GRAPHS, _FUSED, _HOSTS, _SANITY = GROUPS


@dataclass(frozen=True)
class Request:
    """An export.

    Attributes:
        source: The trained network's file; this and other paths may be a str, too, and become a `Path`.
        split: Module path, node name or tensor name to cut at, or several of them, separated by commas (see `layer_names`);
            "auto": the last 4-D activation before pooling.
        output_path: The bundle folder to write; None: the source's name + ".xai" in the current folder.
        overwrite: Replace an existing bundle.
        name: The network's name in the manifest; None: the source's file name.
        sign: PEM file of a private key that signs the bundle, see `format.signature`; None: it is not signed.
        arch: Builds the network of weights: "MODULE:CALLABLE", "FILE.py:CALLABLE", "torchvision:NAME", "timm:NAME", "hf:FOLDER".
        arch_options: Keyword arguments of that callable that a state dict does not hold.
        trust_code: Allow sources that run code from the file when they are read: pickled modules, TorchScript, `.pt2`.
        trust_pickle: The old name of `trust_code`; it is accepted, but not kept as a field.
        input_shape: (C,H,W) of one image, or (C,D,H,W) of one volume; needed if the source does not state it.
        input: "NAME=FILE.npy" or "NAME=NUMBER" builds an input in; "NAME=array:4x8:int64": given at run time (torch needs both).
        input_image: "NAME" or "NAME:KEY=VALUE": a further image; keys are fields of the preprocessing, `preprocess` and `shape`.
        explain_input: The image input to explain, if there are several.
        output: The source's output to explain, if there are several; or the name of an inner tensor.
        memory: MiB that the tensors of one image may take beside what its size and the weights explain, see `passes.bounded`.
        preprocess: Recipe of `bundle.recipes`; None: what the source states. Needed for floats if the source states none.
        preprocess_fields: Single fields of `xai_deploy.format.manifest.Preprocess` that replace the preset's.
        task: What the explained output holds; None: classes, or what the graph shows (dense scores, an embedding of length 1).
        decoder: How the outputs of a detector are read, see `cut.scores.detectors`; "auto": as they show.
        classes: `.npy` file with a vector for each class, which makes an encoder of images a classifier.
        logit_scale: Factor on the cosines with these vectors; None: 1.
        labels: Text file with one label a line.
        roles: Graphs to write; if empty, all that apply and that are written by default.
        all_graphs: Write every graph that the network allows, but fused ones and those of further composites.
        whole_graphs: Write every graph as an ONNX file of its own; else weights that several graphs hold lie in a bundle once.
        map: A tensor that holds a map of the network's own, for the method own-map.
        input_gradient: Write the graph of the gradient at the image, too.
        guided: Write the graph of guided backpropagation, too.
        full_gradient: Write the graph of FullGrad, too: gradients at the image and at all biases.
        composite: Names or .toml files of further composites; each has relevance graphs of its own.
        pixel_relevance: Write graphs whose relevance goes down to the image, too.
        keep_batchnorm: Leave BatchNormalizations in the relevance graphs, and ask torch's exporter to leave them.
        fuse: Methods to write as self-contained graphs, "METHOD" or "METHOD:OPTION=VALUE".
        fixed_target: Fused graphs have no input `target`: always the predicted class.
        versus: Fused graphs have a further input `versus`, the class whose score is subtracted, in a region or row of its own.
        all_classes: Fused graphs have no input `target`: `saliency_map` holds the map of every class, [N,K,h,w].
        map_size: "input" resizes the maps of fused graphs to the network's input; None leaves the size that the method gives.
        uint8: The maps of fused graphs are 0-255.
        embed_preprocess: Fused graphs take uint8 [N,height,width,3] of any size.
        format: "openvino" writes fused graphs as OpenVINO IR, too.
        serve_repo: Kind of server, and the folder of its model repository to write.
        web: Folder of the page to write.
        web_title: The page's title; None: the network's name.
        web_samples: Folder of pictures that the page offers; None: it offers none.
        ort_web: onnxruntime-web's package for the page, as a file or a folder; None: from the npm registry, or the cache.
        randomise: Write this many further bundles, whose weights are random from the logits down; see `randomise`.
        require_sanity: Folder of images on which fused graphs are compared with those of random weights, see `bundle.sanity`.
        sanity_limit: The mean rank correlation from which a fused graph is refused, above 0, at most 1.
        randomise_seed: The seed of their random numbers.
    """

    source: Path
    split: Annotated[
        str,
        Option(
            _LAYER,
            "module path, node or tensor to cut at, or several (default: auto, the last activation)",
            "LAYER[,LAYER]",
        ),
    ] = "auto"
    output_path: Annotated[
        Path | None, Option(_BUNDLE, "bundle folder to write (default: SOURCE's name + .xai)", "NAME.xai", also=("-o",))
    ] = None
    overwrite: Annotated[bool, Option(_BUNDLE, "replace an existing bundle, repository or page")] = False
    name: Annotated[str | None, Option(_BUNDLE, "the network's name in the manifest")] = None
    sign: Annotated[
        Path | None,
        Option(_BUNDLE, "private key (elliptic curve) that signs the bundle: NAME.xai.sig beside it", "KEY.pem"),
    ] = None
    arch: Annotated[
        str | None,
        Option(
            _NETWORK,
            "builds the network of weights; FILE.py:CALLABLE, torchvision:NAME, timm:NAME, hf:FOLDER",
            "MODULE:CALLABLE",
        ),
    ] = None
    arch_options: Annotated[
        Mapping[str, Any],
        Option(
            _NETWORK,
            "its keyword arguments that the weights do not determine, for example transform_input=true",
            "KEY=VALUE[,KEY=VALUE]",
            parse="options",
        ),
    ] = field(default_factory=dict)
    trust_code: Annotated[
        bool,
        Option(
            _NETWORK,
            "read a pickled module, TorchScript or .pt2, which run code from the file (--trust-pickle is the old name)",
            also=("--trust-pickle",),
        ),
    ] = False
    input_shape: Annotated[
        tuple[int, int, int] | tuple[int, int, int, int] | None,
        Option(
            _NETWORK,
            "one image, or C,D,H,W of one volume (default: what the source says; for torch 3,224,224)",
            "C,H,W",
            parse="shape",
        ),
    ] = None
    input: Annotated[
        tuple[str, ...],
        Option(
            _NETWORK,
            "an input beside the image: a constant that is built in (FILE.npy or a number), or `array`: given with each image",
            "NAME=VALUE",
            repeatable=True,
        ),
    ] = ()
    input_image: Annotated[
        tuple[str, ...],
        Option(
            _NETWORK,
            "an input is a further image; how its pixels are prepared, as depth:preprocess=unit (default: as the first's)",
            "NAME[:KEY=VALUE]",
            repeatable=True,
        ),
    ] = ()
    explain_input: Annotated[
        str | None,
        Option(_NETWORK, "the image to explain, of several (default: the first); A,B: the pixels of B, too", "NAME"),
    ] = None
    memory: Annotated[
        int, Option(_NETWORK, "MiB for an image's tensors beside what its size explains (default: 64)", "MIB")
    ] = 64
    output: Annotated[
        str | None, Option(_NETWORK, "the output to explain, if the network has several; or an inner tensor", "NAME")
    ] = None
    preprocess: Annotated[
        Preset | None,
        Option(
            _IMAGE,
            "imagenet (x/255, mean, std), unit (x/255), tf (x/127.5-1), caffe (BGR-mean), none (0-255), assume (a guess)",
        ),
    ] = None
    preprocess_fields: Mapping[str, Any] = field(default_factory=dict)
    task: Annotated[
        Literal["classes", "numbers", "embedding"] | None,
        Option(
            _NETWORK,
            "what an output [N, D] holds: classes (default), numbers that are no classes, or an embedding to compare images by",
        ),
    ] = None
    decoder: Annotated[
        str,
        Option(_NETWORK, "how a detector's outputs are read: {decoders} (default: auto, as the outputs show)", "NAME"),
    ] = "auto"
    classes: Annotated[
        Path | None,
        Option(_NETWORK, "vectors of classes [classes, D], for a network that embeds images (zero-shot)", "FILE.npy"),
    ] = None
    logit_scale: Annotated[
        float | None, Option(_NETWORK, "factor on the cosines of --classes (default: 1; CLIP: 100)", "FACTOR")
    ] = None
    labels: Annotated[Path | None, Option(_NETWORK, "text file with one label a line", "FILE")] = None
    roles: Annotated[
        tuple[str, ...], Option(_GRAPHS, "graphs to write beside head and tail ({roles})", "ROLE[,ROLE]", parse="words")
    ] = ()
    all_graphs: Annotated[
        bool, Option(_GRAPHS, "write every graph that the network allows, and say why others are left out")
    ] = False
    whole_graphs: Annotated[
        bool, Option(_GRAPHS, "write every graph as an ONNX file of its own; else weights lie in a bundle once")
    ] = False
    map: Annotated[
        str | None,
        Option(
            _GRAPHS, "tensor with a map that the network itself makes, [N,1,h,w] or [N,h,w] (method own-map)", "TENSOR"
        ),
    ] = None
    input_gradient: Annotated[bool, Option(_GRAPHS, "write the graph of the gradient at the image, too")] = False
    guided: Annotated[bool, Option(_GRAPHS, "write the graph of guided backpropagation, too")] = False
    full_gradient: Annotated[bool, Option(_GRAPHS, "write the graph of FullGrad, too")] = False
    composite: Annotated[
        tuple[str, ...],
        Option(
            _GRAPHS,
            "a further composite of relevance rules ({composites}) or a .toml file; repeatable",
            "NAME|FILE",
            repeatable=True,
        ),
    ] = ()
    pixel_relevance: Annotated[bool, Option(_GRAPHS, "write relevance down to the image, too (lrp, clrp, sglrp)")] = (
        False
    )
    keep_batchnorm: Annotated[bool, Option(_GRAPHS, "do not merge BatchNorm before relevance is propagated")] = False
    fuse: Annotated[
        tuple[str, ...],
        Option(
            _FUSED,
            "write fused-METHOD.onnx ({methods}); options as METHOD:NAME=VALUE",
            "METHOD[,METHOD]",
            repeatable=True,
        ),
    ] = ()
    fixed_target: Annotated[bool, Option(_FUSED, "no input `target`: always the predicted class")] = False
    versus: Annotated[bool, Option(_FUSED, "a further input `versus`: the class whose score is subtracted")] = False
    all_classes: Annotated[bool, Option(_FUSED, "no input `target`: a map of each class, [N,K,h,w]")] = False
    map_size: Annotated[
        Literal["activation", "input"] | None, Option(_FUSED, "the map as the method gives it (default), or resized")
    ] = None
    uint8: Annotated[bool, Option(_FUSED, "the map in 0-255 instead of [0,1]")] = False
    embed_preprocess: Annotated[
        bool, Option(_FUSED, "take uint8 images [N,height,width,3] of any size; resize and normalise in the graph")
    ] = False
    format: Annotated[
        Literal["onnx", "openvino"], Option(_FUSED, "openvino: OpenVINO IR of them, too (default: onnx alone)")
    ] = "onnx"
    serve_repo: Annotated[
        tuple[str, Path] | None,
        Option(_HOSTS, "write a model repository of the plain and the fused networks ({servers})", ("SERVER", "DIR")),
    ] = None
    web: Annotated[
        Path | None, Option(_HOSTS, "write a page that explains images in the browser, as static files", "DIR")
    ] = None
    web_title: Annotated[str | None, Option(_HOSTS, "the page's title (default: the network's name)", "TEXT")] = None
    web_samples: Annotated[
        Path | None, Option(_HOSTS, "pictures that the page offers; copies are made, 1024 pixels at most", "DIR")
    ] = None
    ort_web: Annotated[
        Path | None, Option(_HOSTS, "onnxruntime-web's package for it (default: fetched from npm)", "FILE|DIR")
    ] = None
    randomise: Annotated[
        int | None,
        Option(
            _SANITY,
            "write N further bundles, their weights random from the logits down step by step (sanity check)",
            "N",
        ),
    ] = None
    require_sanity: Annotated[
        Path | None,
        Option(
            _SANITY,
            "folder of ten images or more: refuse fused graphs whose maps hardly change when all weights are random",
            "IMAGES",
        ),
    ] = None
    sanity_limit: Annotated[
        float, Option(_SANITY, "the mean rank correlation from which a method is refused (default: 0.5)", "R")
    ] = 0.5
    randomise_seed: Annotated[int, Option(_SANITY, "seed of the random weights (default: 0)", "S")] = 0
    trust_pickle: InitVar[bool] = False

    def __post_init__(self, trust_pickle: bool) -> None:
        if trust_pickle:
            object.__setattr__(self, "trust_code", True)  # the dataclass is frozen
        for name, path in paths_given(self).items():
            object.__setattr__(self, name, path)


def layer_names(split: str) -> tuple[str, ...]:
    r"""The layers that `split` names, separated by commas; a comma that belongs to a name is written "\,"."""
    return tuple(name.strip().replace("\\,", ",") for name in re.split(r"(?<!\\),", split))


def check(request: Request) -> None:
    """Check what the types alone do not say.

    Raises:
        RequestError: An option's value is out of range, or of another type.
    """
    check_types(request)
    if type(request.memory) is not int or request.memory < 0:
        raise RequestError(f"--memory takes MiB, a number; got {request.memory!r}")
    if request.task not in (None, "classes", "numbers", "embedding"):
        raise RequestError(f"--task is classes, numbers or embedding, not {request.task!r}")
    if request.classes is not None and request.task not in (None, "classes"):
        raise RequestError(f"--classes makes the network a classifier; --task {request.task} is something else")
    if request.logit_scale is not None and request.classes is None:
        raise RequestError("--logit-scale is for --classes, which is not given")
    if not all(isinstance(key, str) and key.isidentifier() for key in request.arch_options):
        raise RequestError(
            f"--arch-options takes names and values, for example aux_logits=false; got {request.arch_options!r}"
        )
    if request.map_size not in (None, "activation", "input"):
        raise RequestError(f"--map-size is activation or input, not {request.map_size!r}")
    if request.format not in ("onnx", "openvino"):
        raise RequestError(f"--format is onnx or openvino, not {request.format!r}")
    one_map = ("fixed_target", "versus", "all_classes", "map_size", "uint8", "embed_preprocess")
    for option in (*one_map, "format", "serve_repo", "web"):
        if getattr(request, option) not in (None, False, "onnx") and not request.fuse:
            raise RequestError(f"--{option.replace('_', '-')} is for --fuse, which is not given")
    for option in ("ort_web", "web_title", "web_samples"):
        if getattr(request, option) is not None and request.web is None:
            raise RequestError(f"--{option.replace('_', '-')} is for --web, which is not given")
    if request.randomise is not None and (type(request.randomise) is not int or not 1 <= request.randomise <= 1000):
        raise RequestError(f"--randomise takes a number of bundles, 1 to 1000; got {request.randomise!r}")
    if request.randomise is None and request.require_sanity is None and request.randomise_seed:
        raise RequestError("--randomise-seed is for --randomise, which is not given")
    _check_maps(request)


def _check_maps(request: Request) -> None:
    every = (
        "--all-classes gives a map of each class",
        "takes one map",
        ("fixed_target", "web", "require_sanity", "versus"),
    )
    beside = ("--versus is an input beside `target`", "has no such input", ("fixed_target", "web"))
    for what, why, options in (every,) * request.all_classes + (beside,) * request.versus:
        for option in options:
            if getattr(request, option):
                raise RequestError(f"{what}, and --{option.replace('_', '-')} {why}")
    if type(request.randomise_seed) is not int or request.randomise_seed < 0:
        raise RequestError(f"--randomise-seed takes a number, 0 or more; got {request.randomise_seed!r}")
    if request.require_sanity is not None and (not request.fuse or request.embed_preprocess):
        why = "--embed-preprocess is not checked" if request.fuse else "is for --fuse, which is not given"
        raise RequestError(f"--require-sanity: {why}")
    if type(request.sanity_limit) not in (int, float) or not 0 < request.sanity_limit <= 1:
        raise RequestError(f"--sanity-limit is above 0 and at most 1; got {request.sanity_limit!r}")
