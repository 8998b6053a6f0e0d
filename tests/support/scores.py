"""Scores and predictions of made-up runs."""

from __future__ import annotations

import numpy as np

from parbench.reports.statistics import Predictions, Scores


def runs(right: np.ndarray, seeds: tuple[int, ...] | None = None) -> Predictions:
    """Runs with given right answers, of shape (seeds, examples); all labels are 1."""
    n = right.shape[1]
    return Predictions(
        seeds or tuple(range(len(right))), np.arange(n), np.full(n, ""), np.ones(n, dtype=int), right.astype(int)
    )


def bare(method: str, values: list[float], seeds: tuple[int, ...] | None = None) -> Scores:
    """Scores that do not depend on the examples."""
    n = len(values)
    return Scores(method, seeds or tuple(range(n)), np.array(values), np.zeros((10, n)), 9)
