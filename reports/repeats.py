"""Runs repeated with the same seed: how far chance alone moves a score, and which differences it explains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from parbench.reports.frame import Frame
from parbench.reports.rows import BOARD, COLUMN
from parbench.reports.statistics import NoiseFloor, floor_of_mean, noise_floor
from parbench.reports.tables import Table, is_counted, unit_of

# By task and metric, as `parbench.reports.rows.COLUMN` has them.
Floors = Mapping[tuple[str, str], NoiseFloor]


def repeats(frame: Frame) -> pd.DataFrame:
    """Return every run with a score that was done more than once, its repeats included; one row per run.

    Those that are the same in all but chance have the same ``repeat_of``, and are of one ``row``.
    """
    again = frame.aside[(frame.aside["purpose"] == "report").astype("bool")] if len(frame.aside) else frame.aside
    both = pd.concat([frame.runs, again], ignore_index=True) if len(again) else frame.runs.iloc[:0]
    counted = both[is_counted(both)]
    kept = counted[counted.duplicated([*BOARD, "repeat_of"], keep=False)]
    rows = frame.runs.set_index([*BOARD, "run_id"])["row"].to_dict()
    # Where only the repeats are left, none of a table's rows is theirs.
    places = zip(*(kept[name] for name in (*BOARD, "repeat_of", "method")), strict=True)
    named = [rows.get(tuple(place), method) for *place, method in places]
    return kept.assign(row=named).sort_values([*COLUMN, "row", "seed", "repeat_of", "repeat"], ignore_index=True)


def floors(repeated: pd.DataFrame) -> dict[tuple[str, str], NoiseFloor]:
    """Return the noise floor of each task of one leaderboard, pooled over what was repeated on it.

    Args:
        repeated: of `repeats`, the runs of one leaderboard.
    """
    return {
        (str(column), str(metric)): noise_floor(scores.tolist() for _, scores in part.groupby("repeat_of")["score"])
        for (column, metric), part in repeated.groupby(COLUMN)
    }


def average_floor(
    found: Floors, columns: Iterable[tuple[str, str]], weights: Sequence[float] | None = None
) -> NoiseFloor | None:
    """Return the noise floor of an average over tasks, or ``None`` where that of some task is not known.

    Args:
        found: by task.
        columns: the tasks.
        weights: of each of them in the average; equal by default.
    """
    keys = list(columns)
    return floor_of_mean([found[key] for key in keys], weights) if keys and all(key in found for key in keys) else None


def noise_table(repeated: pd.DataFrame) -> Table:
    """Return what the repeated runs of one leaderboard scored."""
    rows = []
    for (column, metric, _), runs in repeated.groupby([*COLUMN, "repeat_of"], sort=False):
        unit = unit_of(runs)
        floor = noise_floor([runs["score"].tolist()])
        rows.append(
            (
                str(runs["row"].iloc[0]),
                f"{column} ({metric}{unit.mark})",
                str(runs["seed"].iloc[0]),
                *(str(len(runs)), _digits(unit.factor * float(runs["score"].mean()))),
                *(_digits(unit.factor * number) for number in (floor.sd or 0.0, floor.max_difference or 0.0)),
            )
        )
    head = ("method", "task", "seed", "runs", "mean", "standard deviation", "largest difference")
    return Table(head, tuple(rows))


def noise_notes(repeated: pd.DataFrame, found: Floors, cells: pd.DataFrame) -> Iterator[str]:
    """Yield what may not be read on each task, and the rule.

    Args:
        repeated: of `repeats`, the runs of one leaderboard.
        found: their `floors`.
        cells: the leaderboard's summary.
    """
    if not found:
        return
    level = next(iter(found.values())).level
    for (column, metric), floor in found.items():
        same = (cells["column"] == column) & (cells["metric"] == metric)
        factor = unit_of(cells[same]).factor
        counts = sorted({1, *(int(n) for n in cells.loc[same & (cells["n_ok"] > 0), "n_ok"])})
        limits = ", ".join(
            f"{_digits(factor * (floor.smallest_difference(n) or 0.0))} between "
            f"{'single runs' if n == 1 else f'means of {n} runs'}"
            for n in counts
        )
        yield (
            f"On {column} ({metric}), runs of the same seed differ by chance, at {level:.0%}, by up to {limits} "
            f"({floor.degrees} degrees of freedom)."
        )
    yield (
        "No difference below this may be read: it is no win and moves no rank, whatever its p-value. The limit is "
        "t x sd x sqrt(1/n + 1/m) for means of n and m runs, sd being that of the repeated runs, pooled on the task."
    )
    columns = dict.fromkeys(zip(cells["column"].astype("str"), cells["metric"].astype("str"), strict=True))
    if unknown := [f"{column} ({metric})" for column, metric in columns if (column, metric) not in found]:
        yield f"No run was repeated, so that this limit is not known, on {', '.join(unknown)}."


def _digits(value: float) -> str:
    """Return a number with two decimals, or where it is smaller, with two digits: none is shown as zero."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.095 else f"{value:.2g}"
