"""One way to write a budget, so that the same one has one name in specs, tables and claims."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

from parbench.methods.expression import split

_SCALES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kmb]?)", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
MATCH = "match:"


def budget_text(text: str) -> str:
    """Return budgets as they are named: ``24000`` and ``24K`` as ``24k``, ``0.170%`` as ``0.17%``; others unchanged.

    Args:
        text: one, or several that are comma-separated.
    """
    return ",".join(_canonical(part) for part in split(text, ","))


BudgetText = Annotated[str, AfterValidator(budget_text)]
"""A field of a file that users write: whatever reads it finds the budget under its name."""


def count(text: str) -> int | None:
    """Return the parameters that a number such as ``24k`` stands for; ``None`` if it is no whole number."""
    if (found := _COUNT.fullmatch(text)) is None:
        return None
    scale = {name.lower(): scale for name, scale in _SCALES.items()}[found[2].lower()]
    number = Decimal(found[1]) * scale
    return int(number) if number == int(number) else None


def share(text: str) -> Decimal | None:
    """Return the percentage of ``0.17%``; ``None`` if it is none."""
    found = _SHARE.fullmatch(text)
    return Decimal(found[1]) if found else None


def _canonical(text: str) -> str:
    if text.startswith(MATCH):
        return "".join(text.split())
    if (percentage := share(text)) is not None:
        return f"{percentage.normalize():f}%"
    if (number := count(text)) is not None:
        written = [f"{(Decimal(number) / scale).normalize():f}{name}" for name, scale in _SCALES.items()]
        # The shortest; of 300k and 0.3M the latter.
        return min(reversed(written), key=len)
    return text
