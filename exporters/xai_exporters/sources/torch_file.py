"""A file written by torch.save: a state dict, a checkpoint that holds one, or a pickled module."""

from __future__ import annotations

import pickle
import re
from typing import Any

from ..errors import SourceError, UntrustedSourceError
from ..request import Request
from .architecture import holds_weights, network_from_weights
from .consent import require_trust
from .inert_pickle import TextPickleError, read_inert
from .pickled import bomb_in
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .torch_export import export_module, first_line, import_torch, quiet

_LEGACY = re.compile(rb"(\x80[\x02-\x05](\x95.{8})?\x8a\x0a\x6c\xfc\x9c|L119547037146038801333356L?\n)", re.DOTALL)
"""The pickle of torch's magic number, with which files begin that are no zip archives (torch < 1.6, or asked for)."""


def matches(file: SourceFile) -> bool:
    """A zip archive with data.pkl that is not TorchScript, or torch's old pickle."""
    return ("data.pkl" in file.entries and "constants.pkl" not in file.entries) or _LEGACY.match(file.head) is not None


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Read the weights without running code from the file; a whole module only if the user trusts it.

    Raises:
        UntrustedSourceError: The file holds more than tensors, and `trust_code` is not set.
        SourceError: The file is damaged, or holds neither weights nor a module.
        RequestError: The file holds a module, and an option is given that is for files of weights only.
    """
    torch = import_torch()
    notes: tuple[str, ...] = ()
    try:
        if not request.trust_code and (bomb := bomb_in(file.path)) is not None:
            _require_trust(file, request, bomb)
        with open(file.path, "rb") as opened, quiet():  # opened here: given a path, torch goes by the extension
            content: Any = torch.load(opened, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition("GLOBAL ")[2].split(" ")[0]
        content, notes = _load_with_objects(file, request, named)
    except UntrustedSourceError:
        raise
    except Exception as error:  # damaged pickles raise anything
        raise SourceError(f"{file.path}: damaged or truncated ({first_line(error)})") from None
    inside = [content.get(key) for key in ("model", "net", "state_dict")] if isinstance(content, dict) else []
    module = next((candidate for candidate in (content, *inside) if isinstance(candidate, torch.nn.Module)), None)
    if module is not None:
        refuse_arch(file, request, "a torch module")
        return export_module(module, request, f"torch module {type(module).__name__}")
    if isinstance(content, dict):
        return network_from_weights(content, file, request, notes)
    raise SourceError(f"{file.path}: holds a {type(content).__name__}; a state dict or a module is needed")


def _load_with_objects(file: SourceFile, request: Request, named: str) -> tuple[Any, tuple[str, ...]]:
    """A file that holds more than tensors: its state dict alone, or everything if the user trusts it.

    Args:
        file: The file.
        request: The export.
        named: The first object's class, if torch said it.

    Returns:
        The content, and lines for people.
    """
    try:
        content = read_inert(file.path)
        weights = isinstance(content, dict) and holds_weights(content)
    except TextPickleError:
        raise SourceError(
            f"{file.path}: written with pickle_protocol=0, of which torch itself reads nothing back; save it again without it"
        ) from None
    except Exception:  # damaged, or no file of weights
        weights = False
    if request.trust_code:
        try:
            return _load_trusted(file), ()
        except SourceError:
            if not weights:
                raise
    elif not weights:
        _require_trust(file, request, named)
    objects = f"Objects in the file ({named}) were not loaded, only its weights."
    return content, (objects if named else "Only the file's weights were loaded, no other objects.",)


def _require_trust(file: SourceFile, request: Request, name: str) -> None:
    objects = f"holds Python objects{f' ({name})' if name else ''}"
    require_trust(file, request, objects, "loading them runs code from the file")


def _load_trusted(file: SourceFile) -> Any:
    """Unpickle. The module's own class must be importable; the current folder is searched, as Python does."""
    import os
    import sys

    torch = import_torch()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with open(file.path, "rb") as opened:
            return torch.load(opened, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the pickled code raises
        raise SourceError(
            f"{file.path}: can't be unpickled ({first_line(error)}); are the classes it names importable from here?"
        ) from error
