"""A budget: a number of adapter parameters, absolute, relative or another method's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parbench.bench.budget import BudgetMode
from parbench.bench.budget.count import Architecture
from parbench.bench.budget.text import MATCH, budget_text, count, share
from parbench.bench.util.errors import UserError
from parbench.methods.expression import split


@dataclass(frozen=True)
class Budget:
    """A limit on reported adapter parameters.

    Attributes:
        text: its name, see `parbench.bench.budget.text.budget_text`.
        parameters: the limit.
    """

    text: str
    parameters: int

    def as_json(self, mode: BudgetMode) -> dict[str, Any]:
        """Return what a run's spec keeps of it."""
        return {"asked": self.text, "parameters": self.parameters, "mode": mode}


def parse_budgets(text: str, architecture: Architecture, counted: Callable[[str], int]) -> list[Budget]:
    """Read ``24000``, ``24k``, ``0.3M``, ``0.1%`` (of the base model) or ``match:lora(r=8)``, comma-separated.

    Args:
        architecture: what a percentage is of.
        counted: gives the reported parameters of a method expression, for ``match:``.

    Raises:
        UserError: it is none of these, or comes to less than one parameter.
    """
    return [_parse(part, architecture, counted) for part in split(text, ",")]


def _parse(text: str, architecture: Architecture, counted: Callable[[str], int]) -> Budget:
    if text.startswith(MATCH):
        if not (expression := text.removeprefix(MATCH).strip()):
            raise UserError(f'"--budget {text}" names no method to match; give for example match:lora(r=8)')
        parameters: int | None = counted(expression)
    elif (percentage := share(text)) is not None:
        parameters = math.floor(float(percentage) / 100 * architecture.base_parameters)
    else:
        parameters = count(text)
    if parameters is None:
        raise UserError(f'"--budget {text}" is none of 24000, 24k, 0.3M, 0.1% (of the base model) and match:lora(r=8)')
    if parameters < 1:
        raise UserError(f'"--budget {text}" comes to no parameter; give more')
    return Budget(budget_text(text), parameters)
