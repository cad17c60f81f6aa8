"""Read the tensors of a torch checkpoint that names classes (Lightning's, timm's), without importing or running anything it names.

Python's pickle machine runs, but it never gets what the file names: a few rebuilding functions have harmless twins here, and every
other name stands for an inert object that ignores what is done to it. torch reads the tensors' numbers.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from .torch_export import import_torch, quiet


class TextPickleError(pickle.UnpicklingError):
    """A pickle of protocol 0, in which a tensor's storage has a text for a name."""


class Inert:
    """Stands for an object of a class that was not imported."""


class _Pickle(pickle._Unpickler):
    """The pickle machine in Python; `dispatch` maps an opcode to what it does."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """A harmless twin, or `Inert`. Nothing is imported."""
        return _TWINS.get(f"{module}.{name}", Inert)

    stack: list[Any]

    def call(self, function: Any, arguments: Any) -> None:
        """A twin's result, or an inert object, onto the stack."""
        known = any(function is twin for twin in _TWINS.values())
        self.stack.append(function(*arguments) if known and type(arguments) is tuple else Inert())


def _opcode(code: bytes) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        _Pickle.dispatch[code[0]] = function
        return function

    return register


@_opcode(pickle.REDUCE)
def _reduce(machine: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, arguments)


@_opcode(pickle.NEWOBJ)
def _new(machine: Any) -> None:
    arguments, cls = machine.stack.pop(), machine.stack.pop()
    machine.call(cls, arguments)


@_opcode(pickle.NEWOBJ_EX)
def _new_ex(machine: Any) -> None:
    del machine.stack[-3:]
    machine.append(Inert())


@_opcode(pickle.OBJ)
def _obj(machine: Any) -> None:
    machine.pop_mark()
    machine.append(Inert())


@_opcode(pickle.INST)
def _inst(machine: Any) -> None:
    machine.readline(), machine.readline()
    machine.pop_mark()
    machine.append(Inert())


@_opcode(pickle.BUILD)
def _build(machine: Any) -> None:
    """Attributes are dropped, those of a state dict (`_metadata`), too."""
    machine.stack.pop()


@_opcode(pickle.APPEND)
def _append(machine: Any) -> None:
    value = machine.stack.pop()
    if type(machine.stack[-1]) is list:
        machine.stack[-1].append(value)


@_opcode(pickle.APPENDS)
def _appends(machine: Any) -> None:
    values = machine.pop_mark()
    if type(machine.stack[-1]) is list:
        machine.stack[-1].extend(values)


def _put(target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
    # a key that is a tuple of tuples takes exponential time to hash
    if type(target) in (dict, OrderedDict):
        target.update((k, v) for k, v in zip(keys, values, strict=True) if isinstance(k, (str, int, bytes, float)))


@_opcode(pickle.SETITEM)
def _set_item(machine: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(machine.stack[-1], [key], [value])


@_opcode(pickle.SETITEMS)
def _set_items(machine: Any) -> None:
    items = machine.pop_mark()
    _put(machine.stack[-1], items[::2], items[1::2])


@_opcode(pickle.DICT)
def _dict(machine: Any) -> None:
    items = machine.pop_mark()
    made: dict[Any, Any] = {}
    _put(made, items[::2], items[1::2])
    machine.append(made)


@_opcode(pickle.ADDITEMS)
def _add_items(machine: Any) -> None:
    machine.pop_mark()  # sets hash what they hold


@_opcode(pickle.FROZENSET)
def _frozenset(machine: Any) -> None:
    machine.pop_mark()
    machine.append(Inert())


@_opcode(pickle.BINPERSID)
def _storage(machine: Any) -> None:
    """A storage, ("storage", type, key, place, count of numbers, ...), which torch reads; it would allocate any count."""
    name = machine.stack.pop()
    if type(name) is tuple and name[:1] == (
        "module",
    ):  # a class of torch's, with its source, in files before torch 1.6
        machine.stack.append(Inert())
        return
    if type(name) is not tuple or len(name) < 5 or not isinstance(name[2], str) or not isinstance(name[3], str):
        raise pickle.UnpicklingError("a tensor's storage is not named as torch names it")
    if type(name[4]) is not int or not 0 <= name[4] <= machine.limit:
        raise pickle.UnpicklingError(f"a tensor of {name[4]} numbers, more than the file holds")
    machine.append(machine.persistent_load(name))


def _refuse(machine: Any) -> None:
    raise pickle.UnpicklingError("an instruction that no file of torch's has")


# registered extensions, and buffers that are allocated before they are read
for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER):
    _Pickle.dispatch[_code[0]] = _refuse


@_opcode(pickle.PERSID)
def _text_storage(machine: Any) -> None:
    raise TextPickleError("an instruction that no file of torch's has")


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Any:
    """A tensor over a storage, inside it. torch's own function would enlarge the storage."""
    numbers = [offset, *size, *stride]
    if not all(type(number) is int and number >= 0 for number in numbers) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor of an impossible shape")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if 0 not in size and last >= count:
        raise pickle.UnpicklingError("a tensor larger than its storage")
    torch = import_torch()
    if 0 in size:
        return torch.empty(tuple(size), dtype=storage.dtype)
    empty = torch.empty((0,), dtype=storage.dtype)
    return empty.set_(storage._untyped_storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _subclass(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with attributes of its own: the tensor alone."""
    return _tensor(*arguments) if function is _tensor else Inert()


def _ordered(*_: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


_TWINS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
}


def read_inert(path: Path) -> Any:
    """The content of a torch file, objects of classes replaced by `Inert`.

    Args:
        path: A zip archive or an old pickle, as `torch.save` writes them.

    Raises:
        Exception: Any, if the file is damaged, or holds what no file of weights has.
    """
    torch = import_torch()
    size = path.stat().st_size

    class Machine(_Pickle):
        limit = size

    def load(file: Any, **options: Any) -> Any:
        return Machine(file, **options).load()

    # torch calls nothing else of it; weights_only is False because torch takes no unpickler otherwise
    ours = SimpleNamespace(__name__="inert_pickle", Unpickler=Machine, load=load)
    with open(path, "rb") as file, quiet():
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=ours)
