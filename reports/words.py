"""Lists and counts in the sentences of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

# So many names are written out; of more, the first few, and the rest are counted.
MOST_NAMES = 6
FEW = 3


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return names as a list in words; of more than ``most`` the first `FEW`, and the rest are counted; of none ""."""
    if len(names) > most:
        return f"{', '.join(names[:FEW])} and {len(names) - FEW} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plural(word: str, count: int) -> str:
    """Return a word, with an s unless it counts one."""
    return word if count == 1 else f"{word}s"


def grouped(pairs: Iterable[tuple[K, V]]) -> Mapping[K, list[V]]:
    """Return the values of each key, in their order."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
