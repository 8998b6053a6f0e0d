"""The methods to choose from, their costs, and the short list: those that no other is better than in everything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from parbench.bench.record.run_spec import Json
from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.reports.cost_ratios import BASELINE
from parbench.reports.recommend.evidence import Evidence
from parbench.reports.recommend.quality import Quality

Origin = Literal["measured", "predicted", "counted", "extrapolated"]
# Costs closer to each other than this are the same: times and memory vary from run to run.
SAME = 0.05


@dataclass(frozen=True)
class Amount:
    """A cost and where it is from.

    Attributes:
        value: in bytes, or seconds.
        origin: ``counted`` and ``predicted`` are of the base model that is asked about, before anything is loaded;
            ``measured`` is from records of it; ``extrapolated`` from those of others.
    """

    value: float
    origin: Origin


@dataclass(frozen=True)
class StepTime:
    """The time of an optimiser step.

    Attributes:
        ratio: as a multiple of the baseline's.
        seconds: where it was measured with the base model that is asked about, else ``None``.
        hardware: where that was, in words.
    """

    ratio: Amount
    seconds: float | None = None
    hardware: str = ""


@dataclass(frozen=True)
class Costs:
    """What a method costs; ``None`` where it is not known.

    Attributes:
        memory: bytes in training, of the process, or of an accelerator.
        step: time of an optimiser step.
        adapter: bytes of the adapter's file.
        why_no_memory: a sentence where the memory is not known.
    """

    memory: Amount | None
    step: StepTime | None
    adapter: Amount | None
    why_no_memory: str = ""

    def amounts(self) -> tuple[Amount | None, ...]:
        """Return all of them."""
        return self.memory, self.step.ratio if self.step else None, self.adapter


@dataclass(frozen=True)
class Option:
    """A method with a setting to begin with.

    Attributes:
        row: its row of the leaderboards.
        method: its name.
        quality: larger is better, see `Quality.values`.
        costs: of its setting.
        setting: hyper-parameters, as JSON has them.
        training: settings of the training that they were run with.
        precision: of the base model's weights in these runs.
        rates: learning rates of its runs by task, and whether they were tuned.
        on_tasks: on how many tasks of the evidence it learnt.
    """

    row: str
    method: str
    quality: float
    costs: Costs
    setting: Json
    training: Json
    rates: Mapping[str, tuple[float, bool]]
    on_tasks: int
    precision: BasePrecision = FLOAT32


@dataclass(frozen=True)
class Left:
    """An option that is not on the short list, and why."""

    option: Option
    why: str


@dataclass(frozen=True)
class ShortList:
    """The options.

    Attributes:
        options: the best first, one for each method; none is dominated by another.
        left: the others, with the reason.
    """

    options: tuple[Option, ...]
    left: tuple[Left, ...]


CostsOf = Callable[[str, str, Json, Json, BasePrecision], Costs]


def make_options(found: Quality, costs_of: CostsOf) -> list[Option]:
    """Return an option for each row, best first.

    Args:
        found: how good the rows are.
        costs_of: returns the costs of a row, from its name, its method, setting, training and precision.
    """
    options = []
    for row in found.rows:
        _, cell = found.cell_of(row)
        setting, training = json.loads(str(cell["setting"])), json.loads(str(cell["training"]))
        method, precision = str(cell["method"]), cast(BasePrecision, str(cell["base_precision"]))
        costs = costs_of(row, method, setting, training, precision)
        rates, on_tasks = _rates(row, found.evidence), found.on_tasks[row]
        options.append(Option(row, method, found.values[row], costs, setting, training, rates, on_tasks, precision))
    return options


def _rates(row: str, evidence: Sequence[Evidence]) -> Mapping[str, tuple[float, bool]]:
    found = {}
    for one in evidence:
        if row not in one.cells:
            continue
        cell = one.cells[row]
        rate = json.loads(str(cell["setting"])).get("learning_rate")
        if isinstance(rate, int | float):
            for_these = not (cell["untuned"] or cell["tuned_at"] or cell["tuned_otherwise"])
            found[one.name] = (float(rate), bool(cell["trials"] > 0 and for_these))
    return found


def short_list(
    options: Sequence[Option], found: Quality, memory: int | None = None, refusals: Mapping[str, str] | None = None
) -> ShortList:
    """Return the options that fit and that no other dominates, of each method the best.

    One dominates another that is not better in its score and, but for differences within `SAME`, in no cost, where it
    is better itself in one of them. Costs that are not known of both count for neither.

    Args:
        options: best first.
        found: how good they are.
        memory: bytes that training may take; ``None`` for no limit.
        refusals: by row, why it cannot be used.
    """
    kept: list[Option] = []
    left: list[Left] = []
    for option in options:
        needed = option.costs.memory
        if (why := (refusals or {}).get(option.row)) is not None:
            left.append(Left(option, why))
        elif memory is not None and needed is not None and needed.value > memory:
            why = f"takes {size_text(needed.value)} of memory, more than {size_text(memory)}"
            left.append(Left(option, why))
        elif (by := next((one for one in kept if dominates(one, option, found)), None)) is not None:
            told = "is shown to be better" if (by.row, option.row) in found.better else "scores no less"
            left.append(Left(option, f"{by.row} {told} and costs no more"))
        else:
            # Of two that are equal in everything the first stays; a cheaper one of the same score takes its place.
            beaten = [one for one in kept if dominates(option, one, found)]
            kept = [one for one in kept if one not in beaten]
            left += [Left(one, f"{option.row} scores no less and costs no more") for one in beaten]
            same = next((one for one in kept if one.method == option.method), None)
            if same is None:
                kept.append(option)
            else:
                left.append(Left(option, f"{same.row} is the same method and scores no less"))
    return ShortList(tuple(kept), tuple(left))


def dominates(a: Option, b: Option, found: Quality) -> bool:
    """Return whether ``a`` is as good as ``b`` in everything that is known of both, and better in something."""
    if (b.row, a.row) in found.better:
        return False
    pairs = [(x.value, y.value) for x, y in zip(a.costs.amounts(), b.costs.amounts(), strict=True) if x and y]
    if a.quality < b.quality or any(x > (1 + SAME) * y for x, y in pairs):
        return False
    return a.quality > b.quality or any((1 + SAME) * x < y for x, y in pairs)


def rate_to_begin(option: Option) -> float | None:
    """Return the learning rate to begin with; ``None`` where the method has none."""
    tuned = [rate for rate, is_tuned in option.rates.values() if is_tuned]
    rates = [rate for rate in tuned or [rate for rate, _ in option.rates.values()] if rate > 0]
    return math.exp(sum(map(math.log, rates)) / len(rates)) if rates else None


def size_text(value: float) -> str:
    """Return bytes in GiB, MiB or KiB."""
    if value >= 2**30:
        return f"{value / 2**30:.2f} GiB"
    if value >= 2**20:
        return f"{value / 2**20:,.1f} MiB"
    return f"{value / 2**10:,.1f} KiB" if value else "none"


def baseline_of(rows: Sequence[str]) -> str:
    """Return the row that step times are a multiple of: LoRA's, or else the first."""
    return BASELINE if BASELINE in rows else rows[0]
