"""Consistency of a method between seeds: the share of predictions that differ from one seed to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.store.store import Store
from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.rows import COLUMN
from parbench.reports.tables import NOTHING, Table, is_counted

CONSISTENCY_NOTE = (
    "The share of examples on which two runs of a method predict another class, in percent: the mean over all pairs of "
    f"its seeds. {NOTHING} for fewer than two runs, and where predictions are numbers or texts."
)


def consistency_table(store: Store, runs: pd.DataFrame, rows: Sequence[str]) -> Table:
    """Return methods against tasks; no rows where no task has classes.

    Args:
        store: with the per-example rows of the runs.
        runs: the frame's, of one leaderboard.
        rows: their order.
    """
    counted = runs[is_counted(runs)]
    columns = [(str(column), str(metric)) for (column, metric), _ in counted.groupby(COLUMN)]
    found: dict[tuple[str, str, str], float] = {}
    for (column, metric, row), part in counted.groupby([*COLUMN, "row"]):
        share = attempt(partial(_flip_share, store, list(part["run_id"])))
        if share is not None and not isinstance(share, NotComputed):
            found[str(column), str(metric), str(row)] = share
    known = [key for key in columns if any((*key, row) in found for row in rows)]
    body = [
        (row, *(f"{100 * found[*key, row]:.1f}" if (*key, row) in found else NOTHING for key in known))
        for row in rows
        if known
    ]
    return Table(("method", *(f"{column} ({metric})" for column, metric in known)), tuple(body))


def _flip_share(store: Store, run_ids: Sequence[str]) -> float | None:
    return flip_share(list(_predictions(store, run_ids)))


def flip_share(predictions: Sequence[np.ndarray]) -> float | None:
    """Return the mean share of predictions in which two runs differ; ``None`` for fewer than two runs.

    Args:
        predictions: of each run, classes, on the same examples in the same order.
    """
    pairs = [float((a != b).mean()) for a, b in combinations(predictions, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def _predictions(store: Store, run_ids: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the classes that each run predicts, by the names of the examples.

    Raises:
        ValueError: the runs are not of the same examples, or do not predict classes.
    """
    first: list[str] | None = None
    for run_id in run_ids:
        table = pq.read_table(store.runs / run_id / PREDICTIONS, columns=["example", "subset", "prediction"])
        kind = table.schema.field("prediction").type
        if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise ValueError("the predictions are not classes")
        ordered = table.sort_by([("subset", "ascending"), ("example", "ascending")])
        examples = ordered["example"].to_pylist()
        if first is not None and examples != first:
            raise ValueError("the runs are not of the same examples")
        first = examples
        yield ordered["prediction"].to_numpy()
