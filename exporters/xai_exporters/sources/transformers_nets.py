"""transformers' networks by their folder: `--arch hf:FOLDER` with config.json, and preprocessor_config.json if there is one.

The folder is a stranger's. No code of it runs, nothing is downloaded, and the network is outlined without memory before it is
built: it may not have more weights than the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError, RequestError
from ..request import Request
from .image_processor import stated_by_processor
from .prefixes import without_prefix
from .source_file import TrainedNetwork
from .timm_nets import TimmNet
from .timm_nets import find as find_timm
from .torch_export import export_module, first_line, import_torch, quiet

SCHEME = "hf:"
_LARGEST_FILE = 10_000_000
_LARGEST_NUMBER = 1 << 22
"""Of config.json; more is no size of a network."""
_COUNT, _LARGEST_COUNT = re.compile("block|depth|head|label|layer|repeat|stage"), 1 << 17
"""Keys whose numbers transformers turns into lists of as many entries before it builds anything."""
_LARGEST_SIDE = 4096
_TIMM_OPTIONS = {"class_token", "fc_norm", "global_pool", "img_size", "in_chans", "init_values", "reg_tokens"}
_TIMM_STATED = {"architecture", "tag", "input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std",
                "num_classes", "pool_size", "first_conv", "classifier"}  # fmt: skip
"""Of `pretrained_cfg`; addresses of weights are not among them."""
_WRAPPED = "timm_wrapper"
"""transformers' `model_type` of a network of timm's."""
_SPARE = 1.5
"""The network's weights beside those of the file: heads that the file lacks, and the embeddings of another image size."""


def network(weights: Mapping[str, Any], path: Path, request: Request, notes: tuple[str, ...]) -> TrainedNetwork:
    """The network of a folder with a file's weights.

    Args:
        weights: The state dict, under the names of any version of transformers.
        path: The file.
        request: The export; its `arch` names the folder.
        notes: Lines for people about how the file was read.

    Raises:
        ArchitectureError: transformers is missing, the folder has no usable config.json, or the weights do not fit.
        RequestError: `arch_options` are given, which are in config.json here.
    """
    assert request.arch is not None
    folder = Path(request.arch.removeprefix(SCHEME))
    config = read_json(folder / "config.json")
    if request.arch_options:
        raise RequestError(f"--arch-options are not for {SCHEME}FOLDER; the options are in {folder / 'config.json'}")
    transformers = _import(path, folder)
    with offline(), quiet():
        module, under = _loaded(transformers, config, weights, path, folder)
        stated = stated_by_processor(folder, transformers)
    kind = f"transformers {type(module).__name__}, {folder}"
    lines = notes + (() if under is None else (under,))
    if isinstance(stated, str):
        lines += (stated,)
        stated = None
    made = export_module(module, request, kind, stated, lines)
    return replace(made, labels=class_names(config), labels_from=f"{folder / 'config.json'}, 'id2label'")


def timm_net(arch: str, path: Path) -> TimmNet | None:
    """The network of a folder that timm wrote (`architecture`, `pretrained_cfg`); None for any other folder.

    transformers writes folders of timm's networks, too. Its own loader would hand `architecture` and `model_args` to timm as they
    are, which may name a hub, a folder or a file of weights: here they are checked.

    Args:
        arch: `SCHEME` and the folder.
        path: The weights' file, for messages.

    Raises:
        ArchitectureError: config.json can't be used, or asks for arguments that are not read from a file.
    """
    file = Path(arch.removeprefix(SCHEME)) / "config.json"
    config = read_json(file)
    if config.get("model_type", _WRAPPED) != _WRAPPED or not isinstance(config.get("architecture"), str):
        return None
    options = config.get("model_args") or {}
    if not isinstance(options, dict) or not set(options) <= _TIMM_OPTIONS or not _are_sides(options.get("img_size", 0)):
        raise ArchitectureError(
            f"{file}: its 'model_args' are not taken from a file; give --arch timm:{config['architecture']} and --arch-options"
        )
    own = config.get("pretrained_cfg")
    stated = {key: value for key, value in own.items() if key in _TIMM_STATED} if isinstance(own, dict) else None
    return replace(
        find_timm(config["architecture"], path, stated), fixed=options, labels=class_names(config), folder=file
    )


def _are_sides(given: Any) -> bool:
    """Whether a size, or a list of them, is one that images have."""
    sides = given if isinstance(given, list) else [given]
    return all(isinstance(side, int) and side <= _LARGEST_SIDE for side in sides)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of sane size.

    Raises:
        ArchitectureError: It is missing, too large, no JSON object, or states an absurd number.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ArchitectureError(f"{path}: larger than {_LARGEST_FILE // 1_000_000} MB; refused")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchitectureError(
            f"{path}: can't be read ({error.strerror}); {SCHEME} takes a folder with config.json"
        ) from None
    except (ValueError, RecursionError):
        raise ArchitectureError(f"{path}: is not JSON") from None
    if not isinstance(content, dict):
        raise ArchitectureError(f"{path}: is no JSON object")
    for key, value in _numbers(content):
        if abs(value) > (_LARGEST_COUNT if _COUNT.search(key) else _LARGEST_NUMBER):
            raise ArchitectureError(f"{path}: {key!r} is {value:g}, which is no size of a network")
    return content


def _numbers(content: Any) -> Iterator[tuple[str, float]]:
    """The numbers by their key, and the sum of those in a list."""
    pending = [("", content)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending += [(str(inner), part) for inner, part in value.items()]
        elif isinstance(value, list):
            pending += [(key, part) for part in value]
            yield key, sum(abs(part) for part in value if isinstance(part, (int, float)))
        elif isinstance(value, (int, float)):
            yield key, value


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in `id2label`, or in timm's `label_names`; none if they are placeholders (LABEL_0), or not one for each number."""
    given = config.get("id2label") or config.get("label_names")
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict):
        return ()
    by_number = {str(number): name for number, name in given.items()}
    names = [by_number.get(str(number)) for number in range(len(by_number))]
    if not all(isinstance(name, str) and name.strip() for name in names):
        return ()
    if all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return ()
    return tuple(" ".join(str(name).split()) for name in names)


def _import(path: Path, folder: Path) -> Any:
    import_torch()
    try:
        import transformers
    except ImportError:
        raise ArchitectureError(
            f"{path}: --arch {SCHEME}{folder} needs transformers; pip install transformers"
        ) from None
    return transformers


@contextmanager
def offline() -> Iterator[None]:
    """Let nothing be downloaded: some configurations name a backbone on a hub. No bar of the library's is shown."""
    from huggingface_hub import constants
    from transformers.utils import logging

    before, bars = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if bars:
            logging.enable_progress_bar()


def _loaded(
    transformers: Any, content: Mapping[str, Any], weights: Mapping[str, Any], path: Path, folder: Path
) -> tuple[Any, str | None]:
    """The network with its weights, and a line if these are under a prefix.

    Raises:
        ArchitectureError: No image classifier of transformers' own, larger than the file's weights, or they do not fit.
    """
    torch = import_torch()
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        own = "; it needs code of its own, which xai-export does not run" if "auto_map" in content else ""
        raise ArchitectureError(f"{folder / 'config.json'}: transformers has no network {kind!r}{own}")
    films = transformers.CONFIG_MAPPING[kind] in transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING.keys()  # noqa: SIM118 (no dict)
    builder = transformers.AutoModelForVideoClassification if films else transformers.AutoModelForImageClassification
    try:
        # from a dict, so that nothing but this file is read
        config = transformers.CONFIG_MAPPING[kind].from_dict({k: v for k, v in content.items() if k != "auto_map"})
        config.architectures = config.architectures or []  # a configuration saved without its network has none
        with torch.device("meta"), _no_larger_than(weights):
            outline = builder.from_config(config, trust_remote_code=False, attn_implementation="eager")
        if outline.main_input_name == "input_ids":
            raise ArchitectureError(
                f"{folder / 'config.json'}: {type(outline).__name__} takes 'input_ids', numbers of words or of colours, and not an "
                "image alone; export it to ONNX with them as further inputs, give that file, and them with --input NAME=FILE.npy"
            )
        found, under = without_prefix(weights, outline.state_dict(), path)
        module, report = type(outline).from_pretrained(
            None, config=config, state_dict=found, output_loading_info=True, attn_implementation="eager",
            ignore_mismatched_sizes=True, dtype=torch.float32,
        )  # fmt: skip
    except ArchitectureError:
        raise
    except Exception as error:  # a stranger's configuration
        raise ArchitectureError(f"{folder / 'config.json'}: can't be built: {first_line(error)}") from error
    problems = [f"it lacks {_some(report['missing_keys'])}"] if report["missing_keys"] else []
    problems += (
        [f"it has {_some(report['unexpected_keys'])} that the network lacks"] if report["unexpected_keys"] else []
    )
    problems += [
        f"{name} is {list(own)} instead of {list(want)}" for name, own, want in sorted(report["mismatched_keys"])[:1]
    ]
    if problems:
        raise ArchitectureError(f"{path}: the weights do not fit {folder / 'config.json'}: {'; '.join(problems)}")
    return module, under


def _some(keys: Any) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def _no_larger_than(weights: Mapping[str, Any]) -> Iterator[None]:
    """Stop the building of a network that has far more weights than there are."""
    torch = import_torch()
    allowed = int(_SPARE * sum(value.numel() for value in weights.values())) + 1_000_000
    tensors = int(_SPARE * len(weights)) + 1_000
    seen = [0, 0]

    def count(_module: Any, _name: str, value: Any) -> None:
        seen[0] += 0 if value is None else value.numel()
        seen[1] += 1
        if seen[0] > allowed or seen[1] > tensors:
            raise ArchitectureError("config.json describes a network that is larger than the weights in the file")

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
