"""Scores over the subsets of a reported split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def over_subsets(predictions: pd.DataFrame, scored: Callable[[pd.DataFrame], Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's unweighted mean over the subsets and, where there are several, each subset's own.

    Args:
        predictions: per-example rows with ``subset``.
        scored: returns every metric of the rows of one subset.
    """
    by_subset = {str(subset): scored(rows) for subset, rows in predictions.groupby("subset")}
    names = next(iter(by_subset.values()))
    means = {name: sum(scores[name] for scores in by_subset.values()) / len(by_subset) for name in names}
    if len(by_subset) == 1:
        return means
    parts = {f"{name}_{subset}": score for subset, scores in by_subset.items() for name, score in scores.items()}
    return {**means, **parts}
