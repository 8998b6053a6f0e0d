"""Metrics of classification and regression: scikit-learn's and scipy's, under the names GLUE uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return the share of predictions that equal their label."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return the F1 of class 1, as GLUE does on MRPC and QQP; 0 if class 1 is never predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, pos_label=1, zero_division=0.0))


def matthews_correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return Matthews' correlation coefficient; 0 for constant predictions."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return Pearson's correlation coefficient; 0 for constant predictions (see `_correlation`)."""
    from scipy.stats import pearsonr

    return _correlation(lambda: pearsonr(labels, predictions).statistic, labels, predictions)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Return Spearman's rank correlation coefficient; 0 for constant predictions (see `_correlation`)."""
    from scipy.stats import spearmanr

    return _correlation(lambda: spearmanr(labels, predictions).statistic, labels, predictions)


def _correlation(compute: Callable[[], float], labels: np.ndarray, predictions: np.ndarray) -> float:
    # A correlation with a constant is 0/0. It is 0 here, as in scikit-learn for Matthews' coefficient: a model with
    # constant predictions has learnt nothing, and its run must rank last instead of dropping out of the table.
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return float(compute())


METRICS: dict[str, Metric] = {
    function.__name__: function for function in (accuracy, f1, matthews_correlation, pearson, spearman)
}
