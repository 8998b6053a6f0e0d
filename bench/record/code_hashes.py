"""The source code that decides a run's result, as hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.source_hash import source_hash

if TYPE_CHECKING:
    from parbench.methods.expression import ResolvedMethod


def method_code(choice: ResolvedMethod) -> str:
    """Return the hash of the source that a method consists of."""
    return "".join(source_hash(module) for module in choice.modules)


def harness_code() -> str:
    """Return the hash of the source that trains."""
    return source_hash("parbench.bench.train.train")
