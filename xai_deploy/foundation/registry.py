"""Name -> object, filled by the modules of one package, so that no list has to be kept in step (law 2).

A module registers what it defines with the decorator; the registry imports every module of its package the first
time a name is looked up.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Generic, TypeVar

T = TypeVar("T")


def import_all(package: str) -> list[ModuleType]:
    """Import every module of a package, in the order of their names. A single module is imported itself, and the list is empty."""
    imported = importlib.import_module(package)
    names = [module.name for module in pkgutil.iter_modules(getattr(imported, "__path__", []))]
    return [importlib.import_module(f"{package}.{name}") for name in names]


class Registry(Generic[T]):
    """The objects that the modules of `package` have registered, by name."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._items: dict[str, T] = {}
        self._lock = threading.Lock()
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter the object under `name`.

        Raises:
            ValueError: The name is taken. Two files that claim one name are always a mistake.
        """

        def enter(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self._package}: {name!r} is registered twice")
            self._items[name] = item
            return item

        return enter

    def get(self, name: str) -> T | None:
        """The object registered under `name`, or None."""
        self._import_all()
        return self._items.get(name) if isinstance(name, str) else None  # callers from Python give anything

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(sorted(self._items))

    def _import_all(self) -> None:
        # A second thread waits until the table is complete.
        # The lock is not reentrant: a module must not look a name up while it loads.
        with self._lock:
            if not self._complete:
                import_all(self._package)
                self._complete = True
