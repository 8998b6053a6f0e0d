"""Parts of a report that cannot be computed: each is replaced by the reason, and the rest of the report stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class NotComputed:
    """Stands in the place of what could not be computed.

    Attributes:
        reason: ``not computed: `` and the error.
    """

    reason: str


def attempt(compute: Callable[[], T]) -> T | NotComputed:
    """Return what ``compute`` returns, or why it returned nothing.

    For parts that are independent of each other: a cell, a pair, a figure, a record. Any error is caught, since the
    code may be an outside package's metric, or meet data that no test has: it must not cost the other parts.
    """
    try:
        return compute()
    except Exception as error:  # reported in place
        return NotComputed(f"not computed: {type(error).__name__}: {error}")
