"""The per-example rows of a run's reported split, as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from parbench.bench.store.layout import LOGITS, PREDICTIONS

_LOGITS = "logits"

Score = Callable[[pd.DataFrame], Mapping[str, float]]


def write_rows(rows: pd.DataFrame, score: Score, metrics: Mapping[str, float], output: Path) -> None:
    """Write the rows, and in a file of their own the logits that no metric needs.

    Logits can be ninety-nine parts of a hundred: without them the records of a study are small enough to be published.

    Args:
        rows: one per example.
        score: the metrics of rows, which raises ``KeyError`` where it lacks a column.
        metrics: those of the rows.
        output: the run's folder.
    """
    if _LOGITS in rows and _are_scored_without_logits(rows, score, metrics):
        # The model computes them in this precision or in less.
        logits = rows[_LOGITS].map(lambda values: np.asarray(values, dtype=np.float32))
        logits.to_frame().to_parquet(output / LOGITS, index=False)
        rows = rows.drop(columns=_LOGITS)
    rows.to_parquet(output / PREDICTIONS, index=False)


def without_unused_logits(rows: pd.DataFrame, score: Score) -> pd.DataFrame:
    """Return rows without their logits, where no metric needs these."""
    unused = _LOGITS in rows and _are_scored_without_logits(rows, score, score(rows))
    return rows.drop(columns=_LOGITS) if unused else rows


def read_rows(folder: Path) -> pd.DataFrame:
    """Return the rows of a run's folder, with their logits where these are there."""
    rows = pd.read_parquet(folder / PREDICTIONS)
    logits = folder / LOGITS
    return rows.join(pd.read_parquet(logits)) if logits.exists() else rows


def _are_scored_without_logits(rows: pd.DataFrame, score: Score, metrics: Mapping[str, float]) -> bool:
    try:
        found = score(rows.drop(columns=_LOGITS))
    except KeyError:
        return False
    return found.keys() == metrics.keys() and all(
        np.array_equal(found[name], metrics[name], equal_nan=True) for name in metrics
    )
