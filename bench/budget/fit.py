"""Matches parameter budgets: finds each method's largest size within a budget, by counting on the real architecture.

No weights are loaded: the architecture is built on the meta device, adapted there, and counted. The task head never
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from parbench.bench.budget import TOLERANCE, BudgetMode
from parbench.bench.budget.budget import Budget
from parbench.bench.budget.count import Architecture, PredictedCounts
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import explain
from parbench.methods.base import Method, Setting

S = TypeVar("S", bound=Setting)


@dataclass(frozen=True)
class Sized:
    """A setting of one size, counted."""

    setting: Setting
    size: str
    counts: PredictedCounts

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
        refusal: why the architecture takes the method at no size, if so.
    """

    budget: Budget
    method: str
    setting: Setting | None = None
    size: str = ""
    counts: PredictedCounts | None = None
    larger: Sized | None = None
    note: str = ""
    refusal: str | None = None

    @property
    def achieved(self) -> float | None:
        """Reported parameters as a share of the budget."""
        return self.counts.reported / self.budget.parameters if self.counts else None


def fit(
    method: Method[S],
    setting: S,
    budget: Budget,
    architecture: Architecture,
    mode: BudgetMode = "uniform",
    given: Collection[str] = (),
) -> Fit:
    """Find the largest size of ``method`` whose reported parameters are at or under ``budget``; never one over it.

    Args:
        setting: everything but the size; layers that it names stay the only ones.
        mode: ``uniform`` gives every adapted module the same size. ``pattern`` starts from there and fills a budget
            that this misses: where not even the smallest size fits, it adapts only as many of the last layers as do;
            else it gives as many of the last layers as fit the next size up, if the method can.
        given: fields of the setting that the user has set; a note is made if the budget replaces one.

    Raises:
        UserError: the user has set something of the method, and the setting names modules or layers that the
            architecture does not have.
    """
    sizes = _Sizes(method, setting, architecture)
    if method.size_knob is None:
        counts = sizes.count(setting)
        if counts is None:
            return sizes.refused(budget, given)
        return Fit(budget, method.name, setting, counts=counts, note=_of_fixed_size(counts, budget))
    at = sizes.last_within(budget.parameters)
    larger = sizes.after(at)
    if at is None:
        if larger is None:
            return sizes.refused(budget, given)
        return _on_fewer_layers(sizes, budget, larger, mode)
    found = sizes.at(at)
    missed = _shortfall(found.counts, budget, larger)
    if missed and mode == "pattern" and method.size_knob.per_layer and not setting.larger_layers:
        found = sizes.with_larger_layers(at, budget.parameters) or found
        missed = _shortfall(found.counts, budget, larger)
    notes = (_replaced(method.size_knob.field, setting, found, given), _oversized(found.counts), missed)
    note = "; ".join(filter(None, notes))
    return Fit(budget, method.name, found.setting, found.size, found.counts, larger, note)


def _on_fewer_layers(sizes: _Sizes, budget: Budget, smallest: Sized, mode: BudgetMode) -> Fit:
    """Return the fit of a method whose smallest size on all its layers is over the budget."""
    name = sizes.method.name
    part = sizes.on_fewer_layers(budget.parameters) if mode == "pattern" else None
    if part is None:
        advice = "leave the method out" if mode == "pattern" else "allow --budget-mode pattern"
        whole = f"its smallest size, {smallest.size}, has {smallest.reported:,}"
        note = f"nothing fits {budget.parameters:,}: {whole}; {advice}, or raise the budget"
        return Fit(budget, name, larger=smallest, note=note)
    of_all = f"{len(sizes.layers)}{' given' if sizes.setting.layers is not None else ''} layers"
    note = f"on the last {len(part.setting.layers or ())} of {of_all} only"
    missed = _shortfall(part.counts, budget, smallest)
    return Fit(budget, name, part.setting, part.size, part.counts, smallest, "; ".join(filter(None, (note, missed))))


class _Sizes:
    """The sizes of one method on one architecture, in ascending order of their counts."""

    def __init__(self, method: Method[Any], setting: Setting, architecture: Architecture) -> None:
        self.method = method
        self.setting = setting
        self._architecture = architecture
        knob = method.size_knob
        self._knob = knob
        self._values: Sequence[int] = (knob.choices or range(knob.smallest, knob.ceiling + 1)) if knob else ()
        self.refusal = ""
        self._mistake: UserError | None = None

    def refused(self, budget: Budget, given: Collection[str]) -> Fit:
        """Return the fit of a method that the architecture refuses; see `fit`."""
        if self._mistake is not None and given:
            where = f"{self.method.name} on {self._architecture.base_model.name}"
            raise UserError(f"{where}: {self._mistake}") from self._mistake
        note = f"cannot be counted here: {self.refusal}"
        return Fit(budget, self.method.name, note=note, refusal=self.refusal)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that may be adapted: those that the setting names, or all with modules that the method adapts."""
        if self.setting.layers is not None:
            return tuple(sorted(self.setting.layers))
        smallest = self.get(0)
        adapted = smallest.counts.layers if smallest else ()
        return adapted or tuple(range(self._architecture.layers))

    def count(self, setting: Setting) -> PredictedCounts | None:
        """Return the counts of a setting, or ``None`` if the architecture refuses it; `refusal` then has the reason."""
        try:
            return self._architecture.count(self.method, setting)
        except (ValueError, TypeError, NotImplementedError) as error:
            self._mistake = error if isinstance(error, UserError) else None
            self.refusal = " ".join(str(error).split()).partition(". ")[0]
            return None

    def get(self, at: int, **changes: Any) -> Sized | None:
        """Return the size at an index with ``changes`` such as fewer layers, or ``None`` if it is refused."""
        assert self._knob is not None  # noqa: S101 - there are sizes only where there is a knob
        value = self._values[at]
        try:
            sized = self.method.with_size(self.setting, value)
            setting = type(sized).model_validate({**sized.model_dump(), **changes})
        except ValidationError as error:
            self.refusal = explain(error, type(self.setting))
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

        Of hand-picked choices an architecture may refuse any: all are tried. A dense range is searched between bounds,
        by interpolation: nearly all counts are linear in the size, and each one takes a model to be made.
        """
        if not isinstance(self._values, range):
            return max((at for at in range(len(self._values)) if self._within(at, limit)), default=None)
        if not self._within(0, limit):
            return None
        low = self._between(0, limit)
        # Some counts stop rising (LoKr's factors become whole): of sizes with one count, the smallest.
        most = self.at(low).reported
        least = self.at(0).reported
        if low == 0 or (most - least) == low * (self.at(1).reported - least) > 0:
            return low
        if least == most:
            return 0
        return _bisect(0, low, lambda at: self.at(at).reported < most) + 1

    def _between(self, low: int, limit: int) -> int:
        """Return the last index within ``limit`` from ``low`` on, which is within it; no count may fall."""
        high: int | None = None
        guess = low + 1
        while high is None or high - low > 1:
            if guess >= len(self._values):
                guess, high = len(self._values) - 1, len(self._values)
                if guess <= low:
                    break
            width = guess - low
            if self._within(guess, limit):
                slope = (self.at(guess).reported - self.at(low).reported) / width
                low = guess
                step = int((limit - self.at(low).reported) / slope) if slope > 0 else 0
                guess = low + step if step else low + (1 if slope > 0 else 2 * width)
            else:
                high = guess
                over = self.get(guess)
                share = (limit - self.at(low).reported) / (over.reported - self.at(low).reported) if over else 0.5
                guess = low + int(share * width)
            if high is not None:
                guess = min(max(guess, low + 1), high - 1)
        return low

    def _within(self, at: int, limit: int) -> bool:
        found = self.get(at)
        return found is not None and found.reported <= limit

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

    def _most_layers(self, field: str, at: int, limit: int) -> Sized | None:
        layers = self.layers

        def on_last(number: int) -> Sized | None:
            found = self.get(at, **{field: layers[len(layers) - number :]})
            return found if found is not None and found.reported <= limit else None

        if len(layers) < 2 or on_last(1) is None:
            return None
        return on_last(_bisect(1, len(layers), lambda number: on_last(number) is not None))


def _replaced(field: str, setting: Setting, found: Sized, given: Collection[str]) -> str:
    """Return a note where the budget replaces a size that the user has chosen."""
    chosen = getattr(setting, field)
    if field not in given or chosen == getattr(found.setting, field):
        return ""
    return f"{found.size} in place of {field}={chosen}, as the budget has it"


def _oversized(counts: PredictedCounts) -> str:
    """Return a note where an adapter is larger than what it adapts."""
    if not counts.adapted or counts.reported <= counts.adapted:
        return ""
    return f"more parameters than the {counts.adapted:,} of the weights that it adapts, which cannot use so many"


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the last index of [low, high) where ``holds`` does: at ``low`` it does; once it does not, never again."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _of_fixed_size(counts: PredictedCounts, budget: Budget) -> str:
    ratio = counts.reported / budget.parameters
    return (
        f"of fixed size: {ratio:.1%} of the budget"
        if counts.reported <= budget.parameters
        else (f"of fixed size, over the budget: {ratio:.1%} of it")
    )


def _shortfall(counts: PredictedCounts, budget: Budget, larger: Sized | None) -> str:
    achieved = counts.reported / budget.parameters
    if achieved >= 1 - TOLERANCE:
        return ""
    reason = f": {larger.size} would have {larger.reported:,}" if larger else ""
    return f"misses the budget by {1 - achieved:.1%}{reason}"
