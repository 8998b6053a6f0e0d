"""The version of a piece of code is the hash of its source: a record is stale when its code has changed.

A *room* is a package whose modules count as one body of code: ``parbench.methods``, ``parbench.tasks``,
``parbench.bench``, or a package of someone else. Source is found and parsed, never imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_OURS = "parbench"
# What modules of any room may import.
_UTIL = "parbench.bench.util"
# What packages outside this project build on.
_PUBLIC = ("parbench.methods", "parbench.tasks")


@cache
def source_hash(*starts: str, rooms: tuple[str, ...] = ()) -> str:
    """Return 16 digits of the hash of modules and of everything that they import from certain rooms.

    These are the rooms of the modules themselves and `parbench.bench.util`; for a module of another package also
    `parbench.methods` and `parbench.tasks`. Imports inside functions count. The ``__init__`` of a room of ours never
    counts, because a registry that gains an entry changes no other entry; that of another package counts if it is
    named.

    Args:
        starts: dotted names, such as ``parbench.methods.loca.method``; ``parbench.bench.train.*`` is a whole package.
        rooms: the packages to follow imports into, in place of the modules' own rooms.

    Raises:
        ValueError: a module has no source.
    """
    modules = [module for start in starts for module in _expanded(start)]
    counting = {_UTIL, *rooms}
    for room in () if rooms else map(_room, modules):
        counting.update((room,) if room.startswith(f"{_OURS}.") else (room, *_PUBLIC))
    total = hashlib.sha256()
    for name, path in sorted(_closure(modules, counting).items()):
        total.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _expanded(start: str) -> list[str]:
    """Return the modules that a name stands for: itself, or with ``.*`` all modules of a package."""
    package = start.removesuffix(".*")
    init = _source(package)
    if init is None:
        raise ValueError(f'there is no source of "{start}"')
    if package == start:
        return [start]
    found = (path.relative_to(init.parent).with_suffix("") for path in init.parent.rglob("*.py"))
    return [".".join((package, *(part for part in path.parts if part != "__init__"))) for path in found]


def _room(module: str) -> str:
    first, *rest = module.split(".")
    return ".".join((first, rest[0])) if first == _OURS and rest else first


def _closure(starts: Iterable[str], rooms: Iterable[str]) -> dict[str, Path]:
    inside = tuple(f"{room}." for room in rooms)
    waiting = list(starts)
    named = {*waiting, *(room for room in rooms if not room.startswith(f"{_OURS}."))}
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = _source(name) if name in named or name.startswith(inside) else None
        if name in found or path is None:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting.extend(_imports(path.read_bytes(), package))
        if (parent := name.rpartition(".")[0]).startswith(inside):
            waiting.append(parent)
    return found


def _source(name: str) -> Path | None:
    """Return a module's file without importing its parents, which may be slow."""
    top, *rest = name.split(".")
    origin = _origin(top)
    if origin is None:
        return None
    if not rest:
        return origin if origin.suffix == ".py" else None
    folder = origin.parent.joinpath(*rest[:-1])
    # The last part of `from a.b import c` may be an attribute: then neither file exists.
    choices = (folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py")
    return next((path for path in choices if path.is_file()), None)


def _origin(top: str) -> Path | None:
    """Return the file of a top-level package or module."""
    spec = importlib.util.find_spec(top)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


@cache
def _imports(source: bytes, package: str) -> tuple[str, ...]:
    """Return the names that a module of ``package`` imports; those of attributes are among them."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found.update(dict.fromkeys((base, *(f"{base}.{alias.name}" for alias in node.names))))
    return tuple(found)
