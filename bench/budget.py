"""Matches parameter budgets: finds each method's largest size within a budget, by counting on the real architecture.

Nothing is loaded: the architecture is built on the meta device, adapted there, and counted. The task head never counts.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from bench.errors import UserError
from bench.models import BaseModel
from bench.validation import explain
from methods.base import Method, Setting
from methods.expression import split

if TYPE_CHECKING:
    from tasks.base import Head

# Below this share of its budget a method is said to miss it.
TOLERANCE = 0.05

# A base model up to this size is built with real, random weights for the few methods that cannot be counted without.
MOST_REAL_PARAMETERS = 500_000_000

Mode = Literal["uniform", "pattern"]

S = TypeVar("S", bound=Setting)

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class Counts:
    """Parameters of an adapted model.

    Attributes:
        reported: as the method's paper counts; what a budget limits.
        trainable: numbers of the adapter that are trainable at the start.
        optimised: numbers of the adapter that are optimised at any time.
        stored_bytes: of the adapter file without the head.
        head: numbers of the task head; never part of a budget.
    """

    reported: int
    trainable: int
    optimised: int
    stored_bytes: int
    head: int


@dataclass(frozen=True)
class Budget:
    """A limit on reported adapter parameters.

    Attributes:
        text: as the user wrote it.
        parameters: the limit.
    """

    text: str
    parameters: int

    def as_json(self, mode: Mode) -> dict[str, Any]:
        """Return what a run's spec keeps of it."""
        return {"asked": self.text, "parameters": self.parameters, "mode": mode}


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


class Architecture:
    """Counts what methods add to one base model under one head; each answer is kept."""

    def __init__(self, base_model: BaseModel, head: Head | None = None) -> None:
        self.base_model = base_model
        self._head = head
        self._kept: dict[tuple[str, str], Counts] = {}

    def count(self, method: Method[Any], setting: Setting) -> Counts:
        """Return the counts of ``method`` with ``setting``.

        Raises:
            ValueError: the method cannot be applied to this architecture with this setting.
        """
        key = (method.name, setting.model_dump_json())
        if key not in self._kept:
            self._kept[key] = self._count(method, setting)
        return self._kept[key]

    @cached_property
    def base_parameters(self) -> int:
        """Size of the base model without its task head."""
        from methods.architecture import module_names

        model = self.base_model.skeleton(self._head)
        names = module_names(model)
        return sum(p.numel() for name, p in model.named_parameters() if not names.in_head(name))

    @cached_property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.base_model.skeleton(self._head).config.num_hidden_layers)

    def _count(self, method: Method[Any], setting: Setting) -> Counts:
        # Most methods can be made on the meta device. Some compute with their own new tensors while they are made
        # (BOFT's permutations): those are small and may be real. A few copy from the base model (prompt tuning from its
        # embeddings): then that must be real too, which only small ones can afford.
        for base_device, adapter_device in (("meta", "meta"), ("meta", "cpu"), ("cpu", "cpu")):
            if base_device == "cpu" and self.base_parameters > MOST_REAL_PARAMETERS:
                break
            try:
                return self._count_on(base_device, adapter_device, method, setting)
            except (RuntimeError, ValueError) as error:
                if "meta" not in str(error).lower():
                    raise ValueError(str(error)) from error
        raise ValueError(
            f"{method.name} needs the base model's weights to be made, and {self.base_model.name} is too large"
        )

    def _count_on(self, base: str, adapter: str, method: Method[Any], setting: Setting) -> Counts:
        import torch

        from methods.architecture import module_names

        with torch.random.fork_rng(devices=[]):
            model = self.base_model.skeleton(self._head, base)
        names = module_names(model)
        with torch.random.fork_rng(devices=[]), torch.device(adapter), warnings.catch_warnings():
            # What peft warns of (a corrected fan_in_fan_out, say) it warns of again in the run itself.
            warnings.simplefilter("ignore")
            adapted = method.adapt(model, names, setting)
            groups = method.parameter_groups(adapted, names, setting)
        head = sum(group.numbers for group in groups if group.is_head)
        return Counts(
            reported=method.reported_parameters(adapted, names),
            trainable=sum(p.numel() for p in adapted.parameters() if p.requires_grad) - head,
            optimised=sum(group.numbers for group in groups if not group.is_head),
            stored_bytes=sum(t.numel() * t.element_size() for t in method.adapter_state(adapted, names).values()),
            head=head,
        )


def parse_budgets(text: str, architecture: Architecture, counted: Callable[[str], int]) -> list[Budget]:
    """Read ``24000``, ``24k``, ``0.3M``, ``0.1%`` (of the base model) or ``match:lora(r=8)``, several by comma.

    Args:
        architecture: what a percentage is of.
        counted: gives the reported parameters of a method expression, for ``match:``.

    Raises:
        UserError: it is none of these, or comes to less than one parameter.
    """
    return [_parse(part, architecture, counted) for part in split(text, ",")]


def fit(method: Method[S], setting: S, budget: Budget, architecture: Architecture, mode: Mode = "uniform") -> Fit:
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


def _parse(text: str, architecture: Architecture, counted: Callable[[str], int]) -> Budget:
    if text.startswith("match:"):
        if not (expression := text.removeprefix("match:").strip()):
            raise UserError(f'"--budget {text}" names no method to match; give for example match:lora(r=8)')
        parameters = counted(expression)
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text):
        parameters = math.floor(float(match[1]) / 100 * architecture.base_parameters)
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", text.lower()):
        parameters = round(float(match[1]) * _SCALES[match[2]])
    else:
        raise UserError(f'"--budget {text}" is none of 24000, 24k, 0.3M, 0.1% and match:lora(r=8)')
    if parameters < 1:
        raise UserError(f'"--budget {text}" comes to no parameter; give more')
    return Budget(text, parameters)
