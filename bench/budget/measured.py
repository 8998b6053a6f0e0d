"""Matches measured currencies, peak training memory or step time, by trying sizes in fresh processes.

A measured quantity is neither exact nor strictly rising with the size, so sizes are doubled, not bisected, and what was
reached is reported next to what was asked for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from parbench.bench.budget import MeasuredLimit
from parbench.bench.profile.measurement import LOAD, STEP
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.base import Method, Setting
from parbench.methods.expression import ResolvedMethod, default_setting

# Doubling from the smallest size, this many tries exceed any realistic adapter.
MOST_TRIES = 12
EFFORT = Repetitions(steps=15, warm_up=3, parts=("training",))


@dataclass(frozen=True)
class Measured:
    """What training steps took.

    Attributes:
        step_seconds: median over the steps.
        peak_bytes: peak memory while training: of the device if it is an accelerator, else of the process.
    """

    step_seconds: float
    peak_bytes: int

    def amount(self, currency: MeasuredLimit) -> float:
        """Return seconds or bytes."""
        return self.step_seconds if currency == "step-time" else float(self.peak_bytes)


@dataclass(frozen=True)
class Match:
    """The largest size tried whose cost is within the limit.

    Attributes:
        method: name of the method.
        size: the size in words; empty where the method has none, or nothing tried is within the limit.
        setting: the setting of that size.
        reached: what it was measured at, or what the smallest size was, if nothing is within the limit.
        limit: seconds or bytes.
        within: whether a size is within the limit.
        tried: every size and its amount; infinite where it was out of memory.
    """

    method: str
    size: str
    setting: Setting
    reached: float
    limit: float
    within: bool
    tried: tuple[tuple[str, float], ...]


MeasureSetting = Callable[[Method[Any], Setting], Measured]
# Returns why a base model takes a method in no such setting, as far as is known without weights; else ``None``.
RefuseSetting = Callable[[Method[Any], Setting], str | None]


class OutOfMemoryError(UserError):
    """A setting takes more memory than there is: more than any limit."""


def fit_measured(
    choice: ResolvedMethod,
    limit: float,
    currency: MeasuredLimit,
    measure: MeasureSetting,
    refuse: RefuseSetting = lambda method, setting: None,
) -> Match | str:
    """Try sizes of a method, doubling from the smallest, and keep the largest within the limit.

    Args:
        choice: the method.
        limit: seconds or bytes.
        currency: which of them.
        measure: measures a setting.
        refuse: finds out, without measuring, that the base model does not take a size, which is then skipped.

    Returns:
        What was found; or why no size can be measured, in a sentence.
    """
    method = choice.method
    start = default_setting(choice)
    tried: list[tuple[str, Setting, float]] = []
    refusal = ""
    for size in _sizes(method):
        try:
            setting = start if size is None else method.with_size(start, size)
            if why := refuse(method, setting):
                refusal = why
                continue
            amount = measure(method, setting).amount(currency)
        except OutOfMemoryError as error:
            refusal, amount = str(error), math.inf
        except ValueError as error:
            refusal = str(error)
            continue
        name = "" if size is None or method.size_knob is None else f"{method.size_knob.field}={size}"
        tried.append((name, setting, amount))
        # One try over the limit may be noise.
        if len(tried) > 1 and all(amount > limit for _, _, amount in tried[-2:]):
            break
    known = [entry for entry in tried if math.isfinite(entry[2])]
    if not known:
        return refusal
    within = [entry for entry in known if entry[2] <= limit]
    size_name, setting, reached = within[-1] if within else known[0]
    amounts = tuple((name, amount) for name, _, amount in tried)
    return Match(method.name, size_name, setting, reached, limit, bool(within), amounts)


def read_limit(text: str, currency: MeasuredLimit, measure: MeasureSetting) -> float:
    """Read ``match:lora(r=8)``, or ``250ms``, ``0.3s``, ``2GiB``, ``900MiB``; return seconds or bytes.

    Raises:
        UserError: it is none of these.
    """
    if text.startswith("match:"):
        choice = find_method(text.removeprefix("match:"))
        return measure(choice.method, default_setting(choice)).amount(currency)
    units = {"ms": 1e-3, "s": 1.0} if currency == "step-time" else {"MiB": 2.0**20, "GiB": 2.0**30}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdecimal() and float(number) > 0:
            return float(number) * factor
    examples = "250ms or 0.3s" if currency == "step-time" else "900MiB or 2GiB"
    raise UserError(f'"--budget {text}" is not a {currency}: give match:lora(r=8), {examples}')


def in_fresh_process(workload: Workload) -> MeasureSetting:
    """Return a function that measures in a new process: nothing of one candidate is left when the next is measured."""
    kept: dict[tuple[str, str], Measured] = {}

    def measure(method: Method[Any], setting: Setting) -> Measured:
        key = (method.name, setting.model_dump_json())
        if key not in kept:
            candidate = Candidate.of(method.name, method, setting)
            measurement = measure_in_subprocess(MeasurementJob(candidate, workload, EFFORT, counts=False))
            if measurement.status is not Status.OK:
                kind = OutOfMemoryError if measurement.status is Status.OUT_OF_MEMORY else UserError
                raise kind(f"{method.name} cannot be measured on {workload.base_model}: {measurement.reason}")
            peaks = [memory for phase, memory in measurement.memory.items() if phase != LOAD]
            peak = max(memory.process if memory.allocated is None else memory.allocated for memory in peaks)
            kept[key] = Measured(statistics.median(measurement.seconds[STEP]), peak)
        return kept[key]

    return measure


def _sizes(method: Method[Any]) -> Sequence[int | None]:
    knob = method.size_knob
    if knob is None:
        return [None]
    if knob.choices is None:
        return [size for power in range(MOST_TRIES) if (size := knob.smallest * 2**power) <= knob.ceiling]
    if len(knob.choices) <= MOST_TRIES:
        return knob.choices
    # Of many, as even ranks are, those in double distance.
    return [knob.choices[at] for power in range(MOST_TRIES) if (at := 2**power - 1) < len(knob.choices)]
