"""Compares each measured row with the numbers printed in papers, and lists the differences in protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd

from parbench.reports.data_efficiency import in_full
from parbench.reports.published.differences import QUANTISED_BITS, differences, names_it
from parbench.reports.published.sources import COSTS, UNAVAILABLE, PublishedNumber, published
from parbench.reports.rows import COLUMN, CONDITION, at_same
from parbench.reports.tables import NOTHING, SMALL_LABEL, Table, is_counted, measures_speed
from parbench.tasks import metric_unit

PAPER_VALUE_UNAVAILABLE = "paper value unavailable"
NOT_COMPARED = "not compared"
HEAD = (
    *("method", "base model", "task", "metric", "measured ± sd", "interval", "paper", "difference"),
    *("protocol differences", "source", "parameters", "paper's parameters"),
)


@dataclass(frozen=True)
class Reproduced:
    """A measured score and a printed one.

    Attributes:
        row: the measured row's name in the tables.
        base_model: its base model.
        base_precision: of the base model's weights.
        task: its task.
        metric: the metric of both.
        mean: over seeds, in the record's unit.
        sd: over seeds, divisor n - 1; ``None`` for one run.
        n: number of runs.
        interval: of the mean, lower and upper end; ``None`` where there is none.
        parameters: counted as the method's paper counts; ``None`` where they were not counted.
        printed: the paper's number; ``None`` where its tables could not be read.
        unavailable: the paper whose tables could not be read, where ``printed`` is ``None``.
        small: whether the suite is a miniature.
        differences: differences in protocol and setting.
    """

    row: str
    base_model: str
    base_precision: str
    task: str
    metric: str
    mean: float
    sd: float | None
    n: int
    interval: tuple[float, float] | None
    parameters: int | None
    printed: PublishedNumber | None
    unavailable: str | None
    small: bool
    differences: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Measured minus printed, in the printed unit; ``None`` for different base models, or bits of their weights.

        Also ``None`` where a metric is printed in percent but not measured as a fraction.
        """
        if self.printed is None or self.printed.base_model != self.base_model:
            return None
        if self.printed.base_bits != QUANTISED_BITS.get(self.base_precision):
            return None
        if self.printed.unit == "percent" and metric_unit(self.task, self.metric).factor != 100:
            return None
        return self.printed.factor * self.mean - self.printed.value


def reproduction(runs: pd.DataFrame, cells: pd.DataFrame | None = None) -> tuple[Reproduced, ...]:
    """Pair every measured score with the printed numbers of the same method, task and metric.

    If no paper has the base model, the row is paired with the first number per metric that a paper's authors measured
    with another base model, without a difference; a row on a quantised base model with those per metric and number of
    bits. Rows without a printed number are left out, as are all points of a data-efficiency curve but the last.

    Args:
        runs: the frame's runs.
        cells: the summary of the same runs, whose ``low`` and ``high`` are the interval of the primary metric, where
            they are given.
    """
    counted = runs[is_counted(runs) & in_full(runs, "score")]
    found: list[Reproduced] = []
    for _, group in counted.groupby([*CONDITION, *COLUMN, "method", "row"], dropna=False, sort=False):
        found += _beside(group, cells)
    return tuple(sorted(found, key=_key))


def reproduction_table(rows: Sequence[Reproduced]) -> Table:
    """Return the rows as text; scores in the printed unit. Differences are separated by "; "."""
    return Table(HEAD, tuple(_texts(row) for row in rows))


@cache
def _by_task() -> Mapping[str, Sequence[PublishedNumber]]:
    found: dict[str, list[PublishedNumber]] = {}
    for number in published():
        found.setdefault(number.task, []).append(number)
    return found


def _beside(runs: pd.DataFrame, cells: pd.DataFrame | None) -> Iterator[Reproduced]:
    run = runs.iloc[0]
    name = str(run["method"])
    if (paper := UNAVAILABLE.get(name)) is not None:
        yield _reproduced(runs, str(run["metric"]), cells, None, paper)
    same = [number for number in _by_task().get(str(run["task"]), ()) if names_it(name, number)]
    own = [number for number in same if number.base_model == run["base_model"]]
    for number in own or _for_orientation(run, name, same):
        values = _measured(runs, number.metric)
        if values is not None and bool(values.notna().all()):
            yield _reproduced(runs, number.metric, cells, number, None)


def _for_orientation(run: pd.Series, method: str, same: Sequence[PublishedNumber]) -> list[PublishedNumber]:
    """Return numbers of another base model: one per metric is enough.

    They are of the method's authors, or, where their tables could not be read, of those who measured it. Of quantised
    base models they are of whoever measured it, one for each number of bits.
    """
    quantised = run["base_precision"] in QUANTISED_BITS
    known = [
        number
        for number in same
        if number.source.own
        and (
            number.base_bits is not None
            if quantised and any(other.base_bits is not None for other in same)
            else number.source.measured_by_others == (method in UNAVAILABLE)
        )
    ]
    first = {(number.metric, number.base_bits if quantised else None): number for number in reversed(known)}
    return list(reversed(first.values()))


def _measured(runs: pd.DataFrame, metric: str) -> pd.Series | None:
    """Return a metric of runs, or a cost in the printed unit; ``None`` where it was not measured."""
    column, units = COSTS.get(metric, (f"metric/{metric}", 1.0))
    if metric in COSTS and not measures_speed(runs).all():
        return None
    return runs[column].astype("float64") / units if column in runs else None


def _reproduced(
    runs: pd.DataFrame,
    metric: str,
    cells: pd.DataFrame | None,
    printed: PublishedNumber | None,
    unavailable: str | None,
) -> Reproduced:
    run, values = runs.iloc[0], _measured(runs, metric)
    if values is None:
        raise ValueError(f"the runs have no {metric}")
    counts = runs["ledger/reported"].dropna()
    return Reproduced(
        row=str(run["row"]),
        base_model=str(run["base_model"]),
        base_precision=str(run["base_precision"]),
        task=str(run["task"]),
        metric=metric,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        n=len(values),
        interval=_interval(run, cells) if metric == run["metric"] else None,
        parameters=int(counts.max()) if len(counts) else None,
        printed=printed,
        unavailable=unavailable,
        small=bool(run["small"]),
        differences=tuple(differences(runs, printed)) if printed else ((SMALL_LABEL,) if run["small"] else ()),
    )


def _interval(run: pd.Series, cells: pd.DataFrame | None) -> tuple[float, float] | None:
    if cells is None or not {"low", "high"} <= set(cells.columns):
        return None
    (cell,) = (row for _, row in cells[at_same(cells, run, (*CONDITION, *COLUMN, "row"))].iterrows())
    low, high = cell["low"], cell["high"]
    return None if pd.isna(low) or pd.isna(high) else (float(low), float(high))


def _key(row: Reproduced) -> tuple[object, ...]:
    printed = row.printed
    source = (printed.base, str(printed.source), str(printed.setting), str(printed.training)) if printed else ("",) * 4
    return (row.small, row.base_model, row.task, row.row, row.metric, *source)


def _texts(row: Reproduced) -> tuple[str, ...]:
    printed, difference = row.printed, row.difference
    unit = metric_unit(row.task, row.metric)
    factor, places = (printed.factor, printed.decimals) if printed else (unit.factor, unit.places)
    measured = f"{factor * row.mean:z.{places}f}"
    if row.sd is not None:
        measured += f" ± {factor * row.sd:.{places}f}"
    interval = NOTHING if row.interval is None else " to ".join(f"{factor * end:z.{places}f}" for end in row.interval)
    if printed is None:
        paper, source, theirs = PAPER_VALUE_UNAVAILABLE, f"{row.unavailable}: its tables could not be read", NOTHING
    else:
        paper = f"{printed.value:.{places}f}" + (f" ± {printed.spread:g}" if printed.spread is not None else "")
        if printed.base != row.base_model:
            paper += f" ({printed.base})"
        source, theirs = str(printed.source), printed.parameters or NOTHING
    compared = _why_not_compared(printed) if printed else NOTHING
    return (
        *(row.row, row.base_model, row.task, row.metric, f"{measured} (n={row.n})", interval, paper),
        f"{difference:+.{places}f}" if difference is not None else compared,
        *("; ".join(row.differences) or NOTHING, source),
        *(NOTHING if row.parameters is None else f"{row.parameters:,}", theirs),
    )


def _why_not_compared(printed: PublishedNumber) -> str:
    if printed.base_bits is None or printed.base_bits in QUANTISED_BITS.values():
        return NOT_COMPARED
    return f"unavailable: there are no base weights in {printed.base_bits} bits here"


def not_joined(rows: Sequence[Reproduced]) -> tuple[str, ...]:
    """Return what the papers of the rows print, too, and why it stands beside nothing."""
    papers = {row.printed.source.paper for row in rows if row.printed}
    sources = {id(number.source): number.source for number in published() if number.source.paper in papers}
    found = (f"{source.paper}: not shown: {text}" for source in sources.values() for text in source.not_joined)
    return tuple(dict.fromkeys(found))
