"""Hyper-parameters of the rows of a leaderboard: values, the ranges that were tried, and the number of trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.bench.plan.suite import Suite
from parbench.reports.rows import at_same
from parbench.reports.tables import NOTHING, Table

SETTINGS_NOTE = (
    "One value where it is the same on all tasks. Tried: the smallest and the largest value of all trials of the "
    "method on these tasks, in the store or recorded by the suite."
)
AT_BOUND = "At an end of what was searched, so that a better setting may lie beyond:"
# Of a trial that a suite records, what is no hyper-parameter.
_OUTCOME = {"score", "reason"}


def settings_table(rows: Sequence[pd.DataFrame], aside: pd.DataFrame, suites: Mapping[str, Suite]) -> Table:
    """Return a line for each hyper-parameter of each row.

    Args:
        rows: the cells of each row of a leaderboard, with ``trials``.
        aside: the frame's searches and repeats.
        suites: what is known of the suites.
    """
    searched = aside[aside["purpose"] == "selection"] if len(aside) else aside
    body = [line for cells in rows for line in _lines(cells, searched, suites)]
    return Table(("method", "hyper-parameter", "value", "tried", "trials"), tuple(body))


def bound_notes(rows: Sequence[pd.DataFrame], suites: Mapping[str, Suite]) -> Iterator[str]:
    """Yield a sentence on each tuned value that lies at an end of its search space, as the suite records it.

    Args:
        rows: the cells of each row of a leaderboard, with ``trials``.
        suites: what is known of the suites.
    """
    for cells in rows:
        for _, cell in cells[cells["trials"] > 0].iterrows():
            found = [_found(suites[name], cell) for name in str(cell["suites"]).split("; ") if name in suites]
            for edge in dict.fromkeys(edge for one in found for edge in one.get("at_bounds", ())):
                yield f"{AT_BOUND} {cell['row']} on {cell['column']}, {edge}."


def _lines(cells: pd.DataFrame, searched: pd.DataFrame, suites: Mapping[str, Suite]) -> Iterator[tuple[str, ...]]:
    name = str(cells["row"].iloc[0])
    settings = {str(cell["column"]): json.loads(str(cell["setting"])) for _, cell in cells.iterrows()}
    tried = _tried(cells, searched, suites)
    counts = sorted({int(count) for count in cells["trials"]})
    trials = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    known = dict.fromkeys(key for setting in settings.values() for key, value in setting.items() if value is not None)
    for key in dict.fromkeys([*known, *tried]):
        values = {column: setting.get(key) for column, setting in settings.items()}
        yield name, key, _value(values) if key in known else NOTHING, _range(tried.get(key, ())), trials


def _value(values: Mapping[str, Any]) -> str:
    """Return one value, or each with its tasks."""
    by_text: dict[str, list[str]] = {}
    for column, value in values.items():
        by_text.setdefault(_text(value), []).append(column)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{text} on {', '.join(columns)}" for text, columns in by_text.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tried(cells: pd.DataFrame, searched: pd.DataFrame, suites: Mapping[str, Suite]) -> dict[str, list[Any]]:
    """Return the values that the trials of a row had, of those hyper-parameters that they varied."""
    found: dict[str, list[Any]] = {}
    for _, cell in cells.iterrows():
        trials = _in_store(cell, searched) or [
            trial
            for name in str(cell["suites"]).split("; ")
            if name in suites
            for trial in _recorded(suites[name], cell)
        ]
        for key in dict.fromkeys(key for trial in trials for key in trial):
            values = [trial[key] for trial in trials if trial.get(key) is not None]
            if len({json.dumps(value) for value in values}) > 1:
                found.setdefault(key, []).extend(values)
    return found


def _in_store(cell: pd.Series[Any], searched: pd.DataFrame) -> list[dict[str, Any]]:
    if searched.empty:
        return []
    same = at_same(searched, cell, ["base_model", "base_precision", "column", "method"])
    own = searched[same & (at_same(searched, cell, ["budget"]) | searched["every_budget"])]
    return [json.loads(str(setting)) for setting in own["setting"].unique()]


def _recorded(suite: Suite, cell: pd.Series[Any]) -> list[dict[str, Any]]:
    trials = _found(suite, cell).get("trials") or ()
    return [{key: value for key, value in trial.items() if key not in _OUTCOME} for trial in trials]


def _found(suite: Suite, cell: pd.Series[Any]) -> Mapping[str, Any]:
    """Return what a suite records of the search for the setting of a cell; nothing where there was none."""
    found: Mapping[str, Any] = suite.tuning.found.get(str(cell["task"]), {}) if suite.tuning else {}
    return found.get(str(cell["method"]), {})


def _range(values: Iterable[Any]) -> str:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers:
        return f"{_text(min(numbers))} to {_text(max(numbers))}"
    return ", ".join(sorted({_text(value) for value in values})) or NOTHING
