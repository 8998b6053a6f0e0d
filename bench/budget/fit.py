"""Matches parameter budgets: finds each method's largest size within a budget, by counting on the real architecture.

Nothing is loaded: the architecture is built on the meta device, adapted there, and counted. The task head never counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from parbench.bench.budget import BudgetMode
from parbench.bench.budget.budget import Budget
from parbench.bench.budget.count import Architecture, Counts
from parbench.bench.util.validation import explain
from parbench.methods.base import Method, Setting

if TYPE_CHECKING:
    pass

# Below this share of its budget a method is said to miss it.
TOLERANCE = 0.05

S = TypeVar("S", bound=Setting)


@dataclass(frozen=True)
class Sized:
    """A setting of one size, counted."""

    setting: Setting
    size: str
    counts: Counts

    @property
    def reported(self) -> int:
        """Parameters as the method's paper counts."""
        return self.counts.reported


@dataclass(frozen=True)
class Fit:
    """How one method meets one budget.

    Attributes:
        budget: the limit.
        method: name of the method.
        setting: the setting of that size; ``None`` where nothing fits.
        size: the size in words, e.g. ``r=4``; empty where the method has no size knob.
        counts: what that size has; ``None`` where nothing fits.
        larger: the next size up, where there is one.
        note: one sentence where the budget is missed by more than the tolerance, or cannot be met.
    """

    budget: Budget
    method: str
    setting: Setting | None = None
    size: str = ""
    counts: Counts | None = None
    larger: Sized | None = None
    note: str = ""

    @property
    def achieved(self) -> float | None:
        """Reported parameters as a share of the budget."""
        return self.counts.reported / self.budget.parameters if self.counts else None


def fit(method: Method[S], setting: S, budget: Budget, architecture: Architecture, mode: BudgetMode = "uniform") -> Fit:
    """Find the largest size of ``method`` whose reported parameters are at or under ``budget``; never one over it.

    Args:
        setting: everything but the size.
        mode: ``uniform`` gives every adapted module the same size. ``pattern`` goes on from there where that misses the
            budget: where not even the smallest size fits, it adapts only as many of the last layers as do; else it
            gives as many of the last layers as fit the next size up, if the method can.
    """
    sizes = _Sizes(method, setting, architecture)
    if method.size_knob is None:
        counts = sizes.count(setting)
        if counts is None:
            return Fit(budget, method.name, note=f"cannot be counted here: {sizes.refusal}")
        return Fit(budget, method.name, setting, counts=counts, note=_of_fixed_size(counts, budget))
    at = sizes.last_within(budget.parameters)
    larger = sizes.after(at)
    if at is None:
        if larger is None:
            return Fit(budget, method.name, note=f"cannot be counted here: {sizes.refusal}")
        whole = f"its smallest size, {larger.size}, has {larger.reported:,}"
        part = sizes.on_fewer_layers(budget.parameters) if mode == "pattern" else None
        if part is None:
            advice = "leave the method out" if mode == "pattern" else "allow --budget-mode pattern"
            note = f"nothing fits {budget.parameters:,}: {whole}; {advice}, or raise the budget"
            return Fit(budget, method.name, larger=larger, note=note)
        missed = _shortfall(part.counts, budget, larger)
        note = f"on the last {len(part.setting.layers or ())} of {architecture.layers} layers only"
        return Fit(
            budget, method.name, part.setting, part.size, part.counts, larger, "; ".join(filter(None, (note, missed)))
        )
    found = sizes.at(at)
    missed = _shortfall(found.counts, budget, larger)
    if missed and mode == "pattern" and method.size_knob.per_layer:
        found = sizes.with_larger_layers(at, budget.parameters) or found
        missed = _shortfall(found.counts, budget, larger)
    return Fit(budget, method.name, found.setting, found.size, found.counts, larger, missed)


class _Sizes:
    """The sizes of one method on one architecture, in ascending order of their counts."""

    def __init__(self, method: Method[Any], setting: Setting, architecture: Architecture) -> None:
        self._method = method
        self._setting = setting
        self._architecture = architecture
        knob = method.size_knob
        self._knob = knob
        self._values: Sequence[int] = (knob.choices or range(knob.smallest, knob.ceiling + 1)) if knob else ()
        self.refusal = ""

    def count(self, setting: Setting) -> Counts | None:
        """Return the counts of a setting, or ``None`` where the architecture refuses it; `refusal` then says why."""
        try:
            return self._architecture.count(self._method, setting)
        except (ValueError, TypeError, NotImplementedError) as error:
            self.refusal = " ".join(str(error).split()).partition(". ")[0]
            return None

    def get(self, at: int, **changes: Any) -> Sized | None:
        """Return the size at an index, on some layers only if ``changes`` says so, or ``None`` where it is refused."""
        assert self._knob is not None  # noqa: S101 - there are sizes only where there is a knob
        value = self._values[at]
        try:
            sized = self._method.with_size(self._setting, value)
            setting = type(sized).model_validate({**sized.model_dump(), **changes})
        except ValidationError as error:
            self.refusal = explain(error, type(self._setting))
            return None
        except ValueError as error:
            self.refusal = str(error)
            return None
        counts = self.count(setting)
        return Sized(setting, f"{self._knob.field}={value}", counts) if counts else None

    def at(self, at: int) -> Sized:
        """Return the size at an index that is known to be possible."""
        found = self.get(at)
        if found is None:
            raise ValueError(self.refusal)
        return found

    def last_within(self, limit: int) -> int | None:
        """Return the index of the last size whose count is within ``limit``.

        A dense range is doubled through and bisected. Of hand-picked choices an architecture may refuse any: all are
        tried.
        """

        def within(at: int) -> bool:
            found = self.get(at)
            return found is not None and found.reported <= limit

        if not isinstance(self._values, range):
            return max((at for at in range(len(self._values)) if within(at)), default=None)
        if not within(0):
            return None
        low, high = 0, 1
        while high < len(self._values) and within(high):
            low, high = high, 2 * high
        high = min(high, len(self._values))
        low = _bisect(low, high, within)
        # Some counts stop rising (LoKr's factors become whole): of sizes that are the same, the least.
        most = self.at(low).reported
        return 0 if self.at(0).reported == most else _bisect(0, low, lambda at: self.at(at).reported < most) + 1

    def after(self, at: int | None) -> Sized | None:
        """Return the next size that the architecture takes after an index, or the first of all."""
        first = 0 if at is None else at + 1
        # An architecture that refuses so many sizes in a row refuses the method.
        following = range(first, min(first + 64, len(self._values)))
        return next((found for index in following if (found := self.get(index))), None)

    def on_fewer_layers(self, limit: int) -> Sized | None:
        """Return the smallest size on as many of the last layers as are within ``limit``."""
        return self._most_layers("layers", 0, limit)

    def with_larger_layers(self, at: int, limit: int) -> Sized | None:
        """Return the size at an index with as many of the last layers as fit one step larger."""
        return self._most_layers("larger_layers", at, limit)

    def _most_layers(self, field_: str, at: int, limit: int) -> Sized | None:
        layers = self._architecture.layers
        for number in range(layers - 1, 0, -1):
            found = self.get(at, **{field_: tuple(range(layers - number, layers))})
            if found is None:
                return None
            if found.reported <= limit:
                return found
        return None


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the last index of [low, high) where ``holds`` does: at ``low`` it does; once it does not, never again."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _of_fixed_size(counts: Counts, budget: Budget) -> str:
    ratio = counts.reported / budget.parameters
    return (
        f"of fixed size: {ratio:.1%} of the budget"
        if counts.reported <= budget.parameters
        else (f"of fixed size, over the budget: {ratio:.1%} of it")
    )


def _shortfall(counts: Counts, budget: Budget, larger: Sized | None) -> str:
    achieved = counts.reported / budget.parameters
    if achieved >= 1 - TOLERANCE:
        return ""
    reason = f": {larger.size} would have {larger.reported:,}" if larger else ""
    return f"misses the budget by {1 - achieved:.1%}{reason}"
