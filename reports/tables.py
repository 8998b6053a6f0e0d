"""From runs to numbers: the summary of every cell, and what all tables share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.bench.record.run_record import MOST_CORE_WAIT
from parbench.reports.frame import LEDGER
from parbench.reports.rows import BOARD, COLUMN, CONDITION, CURVE
from parbench.tasks import metric_unit
from parbench.tasks.metrics.units import Unit

SMALL_LABEL = "SMALL SUITE: small model, small data, few steps; not comparable with published numbers"
NOTHING = "—"
NOT_RUN = "not run"
MOST_NAMES = 4  # of base models in a title

_SUMMARY = [
    *("label", "suites", *CONDITION, "budget/parameters", "model_revision"),
    *("task", "column", "options", "data_source", "data_revision", "metric", "method", "row"),
    *("mean", "std", "n_ok", "n_failed", "failed", "seeds", *LEDGER, "of_budget"),
    *("train_seconds_per_step", "evaluation_seconds", "peak_process_bytes", "peak_device_bytes"),
    *("retention_before", "retention_after", "retention_change", "retention_std"),
    *("setting_id", "setting", "training", "base_precision", *BOARD, *CURVE, "row_order"),
]
_SAME = [  # in a cell
    *(*BOARD, *CURVE, *CONDITION, "budget/parameters", "task", "options", *COLUMN, "method", "row"),
    *("setting_id", "setting", "training", "base_precision", "row_order"),
]
_JOINED = {
    "suites": "suite",
    "model_revision": "model_revision",
    "data_source": "data_source",
    "data_revision": "data_revision",
}
_WHOLE_NUMBERS = ["limit", "evaluation_limit", "budget/parameters", *LEDGER, "peak_process_bytes", "peak_device_bytes"]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the rows.

    Attributes:
        bold: row and column of the cells that are set in bold.
        caption: what it is of, where there may be several tables of its kind.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    caption: str = ""


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell of each leaderboard, over its seeds.

    ``mean`` and ``std`` (the sample's, divisor n - 1; missing for one run) are of the primary metric, as the
    record has it, over the runs that are ok and have a score, ``n_ok`` of them; ``n_failed`` counts the
    others, and ``failed`` gives how they ended. Times are means over those of the ``n_ok`` runs that measure
    speed, in seconds; memory is the largest peak of all of them, in bytes. Parameter counts are the largest over
    all runs of the cell, and ``of_budget`` is the share of the budget that they use. ``retention_before`` and
    ``retention_after`` are the mean log-likelihood of a token of general text, ``retention_change`` their difference
    and ``retention_std`` its deviation over the seeds. Suites, revisions and sources are joined by "; " where several
    were mixed.

    Args:
        runs: the frame's runs.

    Raises:
        ValueError: ``row`` is not what `parbench.reports.rows.row_labels` makes of these runs.
    """
    keyed = runs.assign(cell=runs.groupby([*BOARD, *COLUMN, "method", "row"], dropna=False, sort=False).ngroup())
    cells = keyed.drop_duplicates("cell").set_index("cell")[_SAME]
    cells["label"] = cells["small"].map({True: SMALL_LABEL, False: None}).astype("object")
    every, ok = keyed.groupby("cell"), is_counted(keyed)
    if keyed.drop_duplicates(["cell", "setting_id"])["cell"].duplicated().any():
        raise ValueError("a row of a table holds two settings of one method on one task")
    counted = keyed[ok].groupby("cell")
    cells["n_ok"] = ok.groupby(keyed["cell"]).sum()
    cells["n_failed"] = every.size() - cells["n_ok"]
    cells[["mean", "std"]] = counted["score"].agg(["mean", "std"])  # std: divisor n - 1
    cells["failed"] = _told(keyed[~ok]).reindex(cells.index, fill_value="")
    seeds = {cell: " ".join(str(seed) for seed in sorted(part)) for cell, part in counted["seed"]}
    cells["seeds"] = [seeds.get(cell, "") for cell in cells.index]
    for name, column in _JOINED.items():
        cells[name] = every[column].agg(lambda values: "; ".join(distinct(values)))
    cells[LEDGER] = every[LEDGER].max()
    cells["of_budget"] = (cells["ledger/reported"] / cells["budget/parameters"]).astype("float64")
    timed = keyed[ok & measures_speed(keyed)]
    trained = timed[timed["cost/train_steps"] > 0]
    step = (trained["cost/train_seconds"] / trained["cost/train_steps"]).astype("float64")
    cells["train_seconds_per_step"] = step.groupby(trained["cell"]).mean()
    cells["evaluation_seconds"] = timed.groupby("cell")["cost/evaluation_seconds"].mean()
    for name in ("peak_process_bytes", "peak_device_bytes"):
        cells[name] = counted[f"cost/{name}"].max()
    cells = cells.join(_retention(keyed[ok]))
    places = sorted(range(len(cells)), key=_cell_keys(cells).__getitem__)
    table = cells.iloc[places].reset_index(drop=True)
    return table[_SUMMARY].astype(dict.fromkeys(_WHOLE_NUMBERS, "Int64"))


def is_counted(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs enter a mean: those that have a score, which in the frame only runs that are ok have."""
    return runs["score"].notna()


def measures_speed(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs were not slowed down by others: on one accelerator, or by waiting for processor cores."""
    return (runs["cost/shared_device"] != 1).fillna(True).astype("bool") & ~waited_for_cores(runs)


def waited_for_cores(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs waited for processor cores so long that their times do not measure speed."""
    return runs["cost/core_wait_share"].astype("float64") > MOST_CORE_WAIT


def boards(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows of each leaderboard, of runs or of the summary, in the order of the report."""
    parts = [part for _, part in table.groupby(BOARD, dropna=False, sort=False)]
    yield from sorted(parts, key=board_key)


def board_key(rows: pd.DataFrame) -> tuple[Any, ...]:
    """Return the sort key of a leaderboard: that of the first of the conditions of its columns."""
    conditions = rows[[*CONDITION, "budget/parameters"]].drop_duplicates()
    return min(condition_key(row) for _, row in conditions.iterrows())


def condition_key(row: Any) -> tuple[Any, ...]:
    """Return the sort key of a condition; no limit, and no budget, comes last, and a smaller budget first.

    Of shares of the training split the largest comes first.
    """
    limits = []
    for name in ("limit", "evaluation_limit", "budget/parameters"):
        unlimited = bool(pd.isna(row[name]))
        limits += [unlimited, 0 if unlimited else int(row[name])]
    budget = "" if pd.isna(row["budget"]) else str(row["budget"])
    return (bool(row["small"]), row["base_model"], row["protocol"], *limits, budget, -float(row["train_fraction"]))


def row_key(row: Any) -> tuple[Any, ...]:
    """Return the sort key of a leaderboard's row: by its place, its method and its setting, where 4 comes before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", row["row"])
    return (row.get("row_order", 0), row["method"], [float(part) if i % 2 else part for i, part in enumerate(parts)])


def unit_of(rows: pd.DataFrame, metric: str | None = None) -> Unit:
    """Return the unit of a metric, by default the primary one, of runs or cells of one task."""
    first = rows.iloc[0]
    return metric_unit(str(first["task"]), str(first["metric"]) if metric is None else metric)


def with_interval(unit: Unit, mean: float, low: float | None, high: float | None) -> str:
    """Return a mean with its interval: ``70.0 ± 2.1``, or ``99.2 -3.1/+0.7`` where the ends are not equally far."""
    text = unit.text(mean)
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return text
    below, above = unit.text(mean - low), unit.text(high - mean)
    return f"{text} ± {above}" if below == above else f"{text} -{below}/+{above}"


def title(rows: pd.DataFrame) -> str:
    """Return the name of a leaderboard: its base models, protocol, limits, budget and share of the training split."""
    first = rows.iloc[0]
    models = distinct(rows["base_model"])
    share = "" if first["train_fraction"] == 1 else f", {percent(first['train_fraction'])} of the training split"
    limits = rows[["limit", "evaluation_limit"]].drop_duplicates()
    limit = _limit(first) if len(limits) == 1 else "limits by task"
    return f"{_listed(models)}, protocol {first['protocol']}, {limit}, {_budget(rows)}{share}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} base models"


def _budget(rows: pd.DataFrame) -> str:
    """Return the budget of a leaderboard, of each base model where they differ."""
    pairs = rows[["base_model", "budget"]].drop_duplicates()
    budgets = distinct(pairs["budget"].fillna("none"))
    if len(budgets) == 1:
        return "no budget" if budgets == ["none"] else f"budget {budgets[0]}"
    if len(pairs) > MOST_NAMES:
        return f"{len(budgets)} budgets by base model"
    parts = [(model, re.match(r"(.*): at most ([\d,]+)( \(\w+\))$", str(budget))) for model, budget in pairs.to_numpy()]
    asked = {found.group(1, 3) for _, found in parts if found}
    if len(asked) == 1 and all(found for _, found in parts):
        counts = ", ".join(sorted(f"{found[2]} for {model}" for model, found in parts if found))
        return f"budget {''.join(asked.pop())}: at most {counts}"
    texts = sorted(f"{budget} for {model}" for model, budget in pairs.itertuples(index=False))
    return f"budgets {'; '.join(texts)}"


def limit_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Yield how many examples each task has, where the limits of a leaderboard are not the same for all of them."""
    parts = rows.assign(text=[_limit(row) for _, row in rows[["limit", "evaluation_limit"]].iterrows()])
    if len(parts["text"].unique()) > 1:
        for text, part in parts.groupby("text"):
            yield f"{', '.join(distinct(part['column']))}: {text}."


def percent(share: float) -> str:
    """Return a share in percent, no more digits than it has."""
    return f"{100 * share:.6g} %"


def distinct(values: pd.Series[Any]) -> list[str]:
    """Return the values there are, as sorted text."""
    return sorted(str(value) for value in values.unique())


def how_ended(runs: pd.DataFrame) -> pd.Series[str]:
    """Return in words how each run ended; ``ok`` only for those that enter a mean."""
    ended = runs["status"].str.replace("_", " ")
    return ended.mask((ended == "ok") & ~is_counted(runs), "ok without a score")


def _told(failed: pd.DataFrame) -> pd.Series[str]:
    """Return by cell how its failed runs ended, such as ``1 diverged, 2 timeout``."""
    counts = failed.assign(ended=how_ended(failed)).groupby(["cell", "ended"]).size().reset_index(name="count")
    texts: dict[int, list[str]] = {}
    for cell, ended, count in counts.itertuples(index=False):
        texts.setdefault(cell, []).append(f"{count} {ended}")
    return pd.Series({cell: ", ".join(parts) for cell, parts in texts.items()}, dtype="object")


def _cell_keys(cells: pd.DataFrame) -> list[tuple[Any, ...]]:
    names = [*CONDITION, "budget/parameters", *COLUMN, "method", "row", "row_order"]
    rows = (dict(zip(names, row, strict=True)) for row in cells[names].itertuples(index=False))
    return [(*condition_key(row), row["column"], row["metric"], *row_key(row)) for row in rows]


def _retention(counted: pd.DataFrame) -> pd.DataFrame:
    """Return by cell the means of what was measured of general text; of runs that have both numbers."""
    ends = counted.reindex(columns=["cell", "retention/before", "retention/after"]).astype("float64")
    ends = ends.rename(columns=lambda name: name.replace("/", "_")).dropna()
    ends["retention_change"] = ends["retention_after"] - ends["retention_before"]
    by_cell = ends.groupby(ends.pop("cell").astype(counted["cell"].dtype))
    return by_cell.mean().assign(retention_std=by_cell["retention_change"].std())


def _limit(row: Any) -> str:
    text = "all examples" if pd.isna(row["limit"]) else f"at most {int(row['limit'])} examples of each split"
    if pd.isna(row["evaluation_limit"]):
        return text
    return f"{text}, at most {int(row['evaluation_limit'])} of each subset reported"
