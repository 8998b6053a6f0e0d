"""The cost of each row of a leaderboard relative to one of them, the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.rows import COLUMN
from parbench.reports.tables import row_key

# The method that others are compared with where the user names none.
BASELINE = "lora"


@dataclass(frozen=True)
class CostRatio:
    """The cost of a row divided by the baseline's.

    Each ratio is the geometric mean over the tasks on which both costs are known, ``None`` where there is no such task.

    Attributes:
        time: seconds per training step.
        memory: peak memory while training, of the accelerator or else of the process, see `memory_column`.
        parameters: as the method's paper counts them.
    """

    time: float | None
    memory: float | None
    parameters: float | None


def baseline_row(cells: pd.DataFrame, asked: str | None = None) -> str | None:
    """Return the row that the others are compared with, of those with a score; ``None`` where there is none.

    Args:
        cells: the summary of one leaderboard.
        asked: a row or a method; by default `BASELINE`, and where it has no score the first row.

    Returns:
        Of a method with several rows the first; ``None`` also where ``asked`` is not on this leaderboard.
    """
    scored = cells[cells["n_ok"] > 0].drop_duplicates("row")
    rows = sorted((row for _, row in scored.iterrows()), key=row_key)
    for wanted in [asked] if asked else [BASELINE, None]:
        found = [str(row["row"]) for row in rows if wanted is None or wanted in (row["row"], row["method"])]
        if found:
            return found[0]
    return None


def check_baseline(cells: pd.DataFrame, asked: str) -> None:
    """Check that some leaderboard has a baseline.

    Raises:
        UserError: none has a score of it.
    """
    scored = cells[cells["n_ok"] > 0]
    known = {*scored["row"].astype("str"), *scored["method"].astype("str")}
    if asked not in known:
        raise UserError(f'there is no score of the baseline "{asked}"{did_you_mean(asked, known)}')


def memory_column(cells: pd.DataFrame) -> str:
    """Return the column of the memory that is compared: the accelerator's where it was measured."""
    return "peak_device_bytes" if cells["peak_device_bytes"].notna().any() else "peak_process_bytes"


def cost_ratios(cells: pd.DataFrame, baseline: str) -> Mapping[str, CostRatio]:
    """Return the cost of each row relative to the baseline's, by row.

    Args:
        cells: the summary of one leaderboard.
        baseline: one of its rows.
    """
    columns = ("train_seconds_per_step", memory_column(cells), "ledger/reported")
    numbers = cells.set_index([*COLUMN, "row"])[list(columns)].astype("float64")
    own = numbers.xs(baseline, level="row")
    found = {}
    for row, part in numbers.groupby(level="row"):
        ratios = part.droplevel("row") / own
        found[str(row)] = CostRatio(*(_geometric_mean(ratios[column]) for column in columns))
    return found


def _geometric_mean(ratios: pd.Series[float]) -> float | None:
    known = list(_finite(ratios))
    if not known:
        return None
    return 0.0 if min(known) == 0 else math.exp(sum(map(math.log, known)) / len(known))


def _finite(ratios: pd.Series[float]) -> Iterator[float]:
    """Yield the ratios there are; nothing can be compared with a cost of zero."""
    yield from (float(ratio) for ratio in ratios if math.isfinite(ratio))
