"""The conditions of a leaderboard in one line: seeds, trials, hardware; and whether the sizes of its methods match."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from parbench.bench.budget import TOLERANCE
from parbench.bench.plan.notes import NOT_TUNED, TUNED_OTHERWISE
from parbench.bench.plan.overrides import NO_BUDGET
from parbench.bench.plan.suite import Suite, Tuning
from parbench.reports.hardware import hardware_in_words
from parbench.reports.rows import BOARD, COLUMN
from parbench.reports.tables import Table, is_counted

# Marks the score of a setting that was not tuned, where others were.
DAGGER = "†"
UNTUNED_NOTE = f"{DAGGER}: its setting was not tuned, while others of this table were."
# What the trials of a cell have in common with it.
_SEARCH = ["base_model", "base_precision", "column", "method", "budget"]
# In place of the budget of trials of a method of fixed size.
_EVERY = "every budget"
_MOST = 4


class Tried(NamedTuple):
    """How the setting of a cell was found.

    Attributes:
        trials: number of settings that were tried; 0 where none is known.
        tuned_at: the budget that they were tried at, in words, if it is not the cell's; else empty.
        tuned_otherwise: whether they were tried with another training, or on other data.
    """

    trials: int
    tuned_at: str = ""
    tuned_otherwise: bool = False


def trials_of_cells(
    cells: pd.DataFrame, runs: pd.DataFrame, aside: pd.DataFrame, suites: Mapping[str, Suite]
) -> list[Tried]:
    """Return for each cell how its setting was found.

    Trials are those in the store at the cell's budget, or else those that the suite of the runs records.

    Args:
        cells: the summary.
        runs: the frame's runs.
        aside: the frame's searches and repeats.
        suites: what is known of the suites.
    """
    key = [*BOARD, *COLUMN, "row"]
    untuned, otherwise = (_cells_noted(runs, key, note) for note in (NOT_TUNED, TUNED_OTHERWISE))
    suites_of: dict[tuple[Any, ...], list[str]] = {}
    for *place, suite in runs[[*key, "suite"]].drop_duplicates().itertuples(index=False, name=None):
        suites_of.setdefault(tuple(place), []).append(suite)
    of_fixed_size = set(runs.loc[runs["every_budget"], key].itertuples(index=False, name=None))
    searched = _searched(aside)
    found = []
    for _, row in cells.iterrows():
        cell = tuple(row[key])
        searches = tuple("" if pd.isna(row[name]) else row[name] for name in _SEARCH)
        in_store = searched.get(searches, 0) or searched.get((*searches[:-1], _EVERY), 0)
        recorded = [_recorded(row, cell in of_fixed_size, suites.get(name)) for name in suites_of.get(cell, ())]
        # Of several suites the one that says least for the cell.
        least = min(recorded, key=lambda tried: (tried.trials, not tried.tuned_at), default=Tried(0))
        if cell in untuned:
            found.append(Tried(0))
        else:
            tried = Tried(in_store) if in_store else least
            found.append(tried._replace(tuned_otherwise=tried.trials > 0 and cell in otherwise))
    return found


def _cells_noted(runs: pd.DataFrame, key: list[str], note: str) -> set[tuple[Any, ...]]:
    noted = runs[runs["notes"].str.contains(note, regex=False).fillna(False).astype("bool")]
    return set(noted[key].itertuples(index=False, name=None))


def _searched(aside: pd.DataFrame) -> Mapping[tuple[Any, ...], int]:
    """Return the number of settings that were tried in the store."""
    if aside.empty:
        return {}
    budgets = aside["budget"].mask(aside["every_budget"], _EVERY)
    trials = aside.assign(budget=budgets).loc[aside["purpose"] == "selection", [*_SEARCH, "setting_id"]]
    trials = trials.drop_duplicates()
    return Counter(trials[_SEARCH].astype("object").fillna("").itertuples(index=False, name=None))


def _recorded(cell: pd.Series[Any], of_fixed_size: bool, suite: Suite | None) -> Tried:
    """Return the trials that a suite records for a cell; those of a method of fixed size are for all budgets."""
    tuning = suite.tuning if suite else None
    where = (str(cell["task"]), str(cell["method"]), str(cell["base_precision"]))
    if tuning is None or not tuning.has(*where) or not _is_the_one_found(cell, tuning):
        return Tried(0)
    here = NO_BUDGET if pd.isna(cell["budget"]) else str(cell["budget"]).partition(": ")[0]
    at = tuning.budget or NO_BUDGET
    return Tried(tuning.trials, "" if of_fixed_size or here == at else at)


def _is_the_one_found(cell: pd.Series[Any], tuning: Tuning) -> bool:
    """Return whether a cell has the values of the best trial; a rate that was searched as a step is not compared."""
    found = tuning.found[str(cell["task"])][str(cell["method"])]
    trials = found.get("trials", ())[found["best"] :]
    setting = json.loads(str(cell["setting"]))
    best = {name: value for name, value in (trials[0] if trials else {}).items() if name in setting}
    return all(math.isclose(setting[name], value, rel_tol=1e-3) for name, value in best.items())


def is_untuned(cells: pd.DataFrame) -> pd.Series[bool]:
    """Return which cells are marked: those without a trial, where others of the leaderboard have some."""
    return (cells["trials"] == 0) & bool((cells["trials"] > 0).any())


def marked(tables: Iterable[Table], cells: pd.DataFrame) -> Iterator[Table]:
    """Yield tables of one task each in which the rows whose setting was not tuned on it are marked.

    Args:
        tables: their caption begins with the column.
        cells: the summary of the leaderboard, with ``untuned``.
    """
    columns = [str(column) for column in cells["column"].unique()]
    for table in tables:
        column = max((name for name in columns if table.caption.startswith(name)), key=len, default="")
        rows = set(cells.loc[cells["untuned"] & (cells["column"] == column), "row"])
        named = tuple((row[0] + DAGGER if row[0] in rows else row[0], *row[1:]) for row in table.rows)
        yield replace(table, rows=named)


def conditions(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[str]:
    """Yield a short sentence on the seeds, the trials and the hardware of a leaderboard.

    Args:
        runs: the frame's runs of the leaderboard.
        cells: its summary, with ``trials`` and ``tuned_at``.
    """
    yield f"Seeds: {_by_column(cells.loc[cells['n_ok'] > 0], 'seeds')}."
    tried = cells["trials"]
    if not (tried > 0).any():
        yield "No trials of hyper-parameters are recorded: the settings are those of the suite or the defaults."
    else:
        known = sorted(set(tried[tried > 0]))
        count = str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"
        elsewhere = sorted(set(cells.loc[tried > 0, "tuned_at"]) - {""})
        at = f", at the budget {' or '.join(elsewhere)} and not at this one" if elsewhere else ""
        otherwise = cells[cells["tuned_otherwise"]]
        columns = sorted(otherwise["column"].unique())
        on = f" on {', '.join(columns[:_MOST])}" if len(otherwise) < (tried > 0).sum() else ""
        trained = f"; those{on} with another training, or on other data, than these runs" if columns else ""
        yield f"Tuned with {count} trials for each method and task{at}{trained}."
    machines = hardware_in_words(runs[is_counted(runs)])
    if machines:
        yield f"Hardware: {machines}."


def conditions_of_boards(boards: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return the trials and the hardware of several leaderboards in one line, for a caption.

    Args:
        boards: the title of each leaderboard and its `conditions`.
    """
    titles: dict[str, list[str]] = {}
    for title, sentences in boards:
        if sentences:
            titles.setdefault(" ".join(sentences[1:]), []).append(title)
    if len(titles) < 2:
        return "".join(titles)
    parts = [f"{' and '.join(names)}: {text}" for text, names in list(titles.items())[:_MOST]]
    more = len(titles) - len(parts)
    return " ".join([*parts, *([f"{more} more: see the leaderboards."] if more else [])])


def _by_column(cells: pd.DataFrame, name: str) -> str:
    """Return what the cells have, and where some columns have another, what these have."""
    if cells.empty:
        return "none"
    usual = cells[name].mode().iloc[0]
    others = cells[cells[name] != usual]
    parts = [", ".join(str(usual).split())]
    columns = others.groupby(name)["column"].unique()
    for value, found in list(columns.items())[:_MOST]:
        parts.append(f"{', '.join(str(value).split())} on {', '.join(sorted(found)[:_MOST])}")
    return "; ".join(parts)


def unmatched_sizes(runs: pd.DataFrame, cells: pd.DataFrame) -> str | None:
    """Return a sentence where methods that are compared differ in size by more than the tolerance of a budget.

    Args:
        runs: the frame's runs of one leaderboard.
        cells: its summary.
    """
    counted = cells[cells["ledger/reported"].notna() & (cells["n_ok"] > 0)]
    if counted.empty:
        return None
    sizes = counted.astype({"ledger/reported": "int64"})
    if sizes["budget"].notna().any():
        return _off_the_budget(sizes, set(runs.loc[runs["every_budget"], "row"]))
    for (column, _), part in sizes.groupby(COLUMN):
        counts = sorted(zip(part["ledger/reported"].tolist(), part["row"].tolist(), strict=True))
        (low, smallest), (high, largest) = counts[0], counts[-1]
        if low < (1 - TOLERANCE) * high:
            return (
                f"Sizes are not matched: there is no budget, and on {column} the parameters go from {low:,} "
                f"({smallest}) to {high:,} ({largest})."
            )
    return None


def _off_the_budget(sizes: pd.DataFrame, of_fixed_size: set[str]) -> str | None:
    fixed = sizes["row"].isin(of_fixed_size)
    share = sizes["of_budget"].astype("float64")
    off = sizes[((share > 1) | (share < 1 - TOLERANCE)) & ~fixed]
    sentences = []
    if len(off):
        rows = [f"{row} ({_percents(part['of_budget'])})" for row, part in off.groupby("row")]
        more = f" and {len(rows) - _MOST} more" if len(rows) > _MOST else ""
        listed = f"{', '.join(rows[:_MOST])}{more}"
        sentences.append(
            f"Sizes are not matched; farther than {TOLERANCE:.0%} from the budget, in per cent of it: {listed}."
        )
    if fixed.any():
        names = sorted(sizes.loc[fixed, "row"].unique())
        sentences.append(f"Without a size to fit: {', '.join(names)}.")
    return " ".join(sentences) or None


def _percents(shares: pd.Series[float]) -> str:
    low, high = (f"{100 * share:,.0f}" for share in (shares.min(), shares.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"
