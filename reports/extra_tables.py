"""Tables beside the primary score: subsets, other metrics, and what is forgotten of general text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from parbench.reports.rows import COLUMN, CONDITION
from parbench.reports.tables import NOTHING, Table, is_counted, row_key, unit_of
from parbench.tasks.metrics.units import Unit

SUBSETS_NOTE = "Subsets: mean ± standard deviation over the runs."
OTHER_METRICS_NOTE = (
    "Other metrics, which do not rank: mean ± standard deviation over the runs, x100 but for those marked as is."
)
RETENTION_NOTE = (
    "Mean natural log-likelihood of a token of general text before the training, after it, and after minus before "
    "± standard deviation over the runs: below zero where something was forgotten."
)


def subset_scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the primary metric on each subset of the reported split, over the seeds.

    A metric is that of a subset where it is called after the primary one: ``accuracy_boolq`` where that is
    ``accuracy``.

    Args:
        runs: the frame's runs.

    Returns:
        One row a cell of a leaderboard and subset: `CONDITION`, ``task``, `COLUMN`, ``method``, ``row``, ``subset``,
        ``mean``, ``std`` (divisor n - 1; missing for one run) and ``n``.
    """
    keys = [*CONDITION, "task", *COLUMN, "method", "row"]
    counted = runs[is_counted(runs)]
    parts = []
    for metric, part in counted.groupby("metric"):
        prefix = f"metric/{metric}_"
        for name in (str(name) for name in runs.columns if str(name).startswith(prefix)):
            scores = part[part[name].notna()]
            found = scores.groupby(keys, dropna=False)[name].agg(["mean", "std", "count"]).reset_index()
            parts.append(found.assign(subset=name.removeprefix(prefix)))
    columns = [*keys, "subset", "mean", "std", "n"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True).rename(columns={"count": "n"})[columns]


def subset_tables(scores: pd.DataFrame) -> Iterator[Table]:
    """Yield a table of methods against subsets for each task of one leaderboard that has subsets.

    Args:
        scores: of `subset_scores`, of one leaderboard.
    """
    for (column, metric), part in scores.groupby(COLUMN):
        unit = unit_of(part)
        subsets = sorted(part["subset"].unique())
        rows = []
        for _, row in sorted(part.groupby(["method", "row"]), key=lambda entry: row_key(entry[1].iloc[0])):
            known = {one["subset"]: _score(one["mean"], one["std"], unit) for _, one in row.iterrows()}
            rows.append((str(row["row"].iloc[0]), *(known.get(subset, NOTHING) for subset in subsets)))
        yield Table(("method", *subsets), tuple(rows), caption=f"{column} ({metric}{unit.mark})")


def other_metrics(runs: pd.DataFrame) -> Iterator[Table]:
    """Yield a table of methods against metrics for each task of one leaderboard that has more than the one that ranks.

    Those of subsets are left out: of the primary metric they have tables of their own, see `subset_tables`.

    Args:
        runs: the frame's runs of one leaderboard.
    """
    counted = runs[is_counted(runs)]
    for (column, metric), part in counted.groupby(COLUMN):
        names = _other_names(part, str(metric))
        units = {name: unit_of(part, name) for name in names}
        rows = []
        for _, row in sorted(part.groupby(["method", "row"]), key=lambda entry: row_key(entry[1].iloc[0])):
            scores = [row[f"metric/{name}"].dropna().astype("float64") for name in names]
            texts = [
                _score(found.mean(), found.std(), units[name]) if len(found) else NOTHING
                for name, found in zip(names, scores, strict=True)
            ]
            rows.append((str(row["row"].iloc[0]), *texts))
        heads = (name if units[name].factor == 100 else f"{name} (as is)" for name in names)
        if names:
            yield Table(("method", *heads), tuple(rows), caption=str(column))


def _other_names(part: pd.DataFrame, primary: str) -> list[str]:
    """Return the metrics of a task but the primary one and those of subsets, in the order of the frame."""
    known = (str(name).partition("metric/")[2] for name in part.columns if str(name).startswith("metric/"))
    names = [name for name in known if part[f"metric/{name}"].notna().any()]
    subsets = [name.removeprefix(primary) for name in names if name.startswith(f"{primary}_")]
    of_subsets = {f"{name}{subset}" for name in names for subset in subsets}
    return [name for name in names if name != primary and name not in of_subsets]


def retention_table(rows: list[pd.DataFrame]) -> Table:
    """Return methods against what they forgot on each task; without rows where nothing was measured.

    Args:
        rows: the cells of each row of a leaderboard.
    """
    cells = pd.concat(rows)
    measured = cells[cells["retention_change"].notna()]
    if measured.empty:
        return Table(("method",), ())
    columns = [str(column) for column in sorted(measured["column"].unique())]
    head = [f"{column}: {what}" for column in columns for what in ("before", "after", "change")]
    body = []
    for row in rows:
        by_column = {str(cell["column"]): cell for _, cell in row.iterrows() if pd.notna(cell["retention_change"])}
        texts = [text for column in columns for text in _retained(by_column.get(column))]
        body.append((str(row["row"].iloc[0]), *texts))
    return Table(("method", *head), tuple(body))


def _retained(cell: Any) -> tuple[str, str, str]:
    if cell is None:
        return NOTHING, NOTHING, NOTHING
    change = f"{cell['retention_change']:+z.3f}"
    if pd.notna(cell["retention_std"]):
        change += f" ± {cell['retention_std']:.3f}"
    return f"{cell['retention_before']:.3f}", f"{cell['retention_after']:.3f}", change


def _score(mean: float, std: float, unit: Unit) -> str:
    return unit.text(mean) if pd.isna(std) else f"{unit.text(mean)} ± {unit.text(std)}"
