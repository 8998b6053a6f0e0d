"""The version of a piece of code is the hash of its source: a record is stale when its code has changed."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def source_hash(module: str, within: str | None = None) -> str:
    """Return 16 digits of the hash of ``module`` and of everything it imports from its own top-level package.

    Imports inside functions count, a top-level package's own ``__init__`` does not (a registry that gains an entry
    changes no other entry).

    Args:
        module: dotted name, e.g. ``"parbench.methods.loca.method"``.
        within: the package whose modules count; the module's own top-level package if not given.
    """
    top = within or _room(module)
    total = hashlib.sha256()
    for name, path in sorted(_closure(module, top)):
        total.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _room(module: str) -> str:
    """Return the package whose modules belong to a module's source: ``parbench.methods``, or an outside package."""
    first, *rest = module.split(".")
    return ".".join((first, rest[0])) if first == "parbench" and rest else first


def _closure(module: str, top: str) -> set[tuple[str, Path]]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None or not name.startswith(f"{top}."):
            continue
        found[name] = path
        waiting.extend(_imports(path, name))
        waiting.append(name.rpartition(".")[0])
    # A package of one module (an outside method's, say) is its own source.
    alone = _source(module)
    return set(found.items()) or ({(module, alone)} if alone else set())


def _source(name: str) -> Path | None:
    """Find a module's file without importing its parents, which may be heavy."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    if not rest:
        return origin if origin.suffix == ".py" else None
    folder = origin.parent.joinpath(*rest[:-1])
    # The last part of `from a.b import c` need not be a module: then neither file is there.
    choices = (folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py")
    return next((path for path in choices if path.is_file()), None)


def _imports(path: Path, name: str) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
