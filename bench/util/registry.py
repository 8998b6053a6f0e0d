"""A small, lazy, generic registry: names are known at once, code is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from parbench.bench.util.errors import UserError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered name: its one-line summary, the module of its object, and how to load it."""

    name: str
    summary: str
    module: str
    load: Callable[[], T]


class Registry(Generic[T]):
    """Objects of one kind by name.

    This project's own are registered as ``"module:attribute"``, so that listing them imports none of them; those of
    other packages are entry points. A name may be registered once.

    Args:
        kind: kind of the objects, for messages.
        entry_point_group: group of the entry points of other packages.
        base: ``"module:class"`` of which other packages' objects must be instances.
        discover: finds the objects that a library provides; called when a name is first needed. A registered name takes
            precedence over a discovered one.

    Example::

        METHODS: Registry[Method] = Registry("method", entry_point_group="parbench.methods")
        METHODS.register("lora", "parbench.methods.lora:LORA", "Low-Rank Adaptation")
        METHODS["lora"]
    """

    def __init__(
        self,
        kind: str,
        entry_point_group: str | None = None,
        base: str | None = None,
        discover: Callable[[], Iterable[Entry[T]]] | None = None,
    ) -> None:
        self.kind = kind
        self._group = entry_point_group
        self._base = base
        self._discover = discover
        self._own: dict[str, Entry[T]] = {}

    def register(self, name: str, target: str, summary: str) -> None:
        """Add ``name``; ``target`` is ``"module:attribute"``, imported when the name is first looked up.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._own:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._own[name] = Entry(name, summary, target.partition(":")[0], lambda: cast(T, _resolve(target)))

    def __getitem__(self, name: str) -> T:
        """Return the object called ``name``.

        Raises:
            UserError: no such name, or an outside package's object cannot be imported.
        """
        return self.entry(name).load()

    def entry(self, name: str) -> Entry[T]:
        """Return the entry of ``name`` without importing its object."""
        found = self._own.get(name) or self._discovered.get(name) or self._outside.get(name)
        if found is None:
            raise UserError(f'there is no {self.kind} called "{name}"{did_you_mean(name, self)}')
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._discovered or name in self._outside

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._discovered
        yield from self._outside

    @cached_property
    def _discovered(self) -> dict[str, Entry[T]]:
        entries = self._discover() if self._discover else ()
        return {entry.name: entry for entry in entries if entry.name not in self._own}

    @cached_property
    def _outside(self) -> dict[str, Entry[T]]:
        if self._group is None:
            return {}
        found: dict[str, Entry[T]] = {}
        for point in entry_points(group=self._group):
            if point.name in self._own or point.name in self._discovered or point.name in found:
                raise UserError(
                    f'the package "{_package(point)}" offers a {self.kind} called "{point.name}", but that name is '
                    "taken; uninstall it or ask its author to rename it"
                )
            found[point.name] = Entry(
                point.name, f"from the package {_package(point)}", point.module, partial(self._load, point)
            )
        return found

    def _load(self, point: EntryPoint) -> T:
        what = f'the {self.kind} "{point.name}" of the package "{_package(point)}"'
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # an outside package may raise anything when it is imported
            said = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
            raise UserError(f"{what} cannot be imported: {said}") from error
        if self._base is not None and not isinstance(found, cast(type, _resolve(self._base))):
            kind = self._base.replace(":", ".")
            if isinstance(found, type):
                raise UserError(f"{what} is the class {found.__name__}, and must be an instance of a {kind}")
            raise UserError(f"{what} is of type {type(found).__name__}, and must be a {kind}")
        return cast(T, found)


def _resolve(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
