"""What a search of k trials finds, from a record of n: methods compared at equal tuning effort."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def expected_best(
    trials: Sequence[float | None], replacement: bool = False, failed: float | None = None
) -> pd.DataFrame:
    """Return the expected best score of k trials out of n that were recorded.

    Without replacement: the mean over all subsets of size k, unbiased for the best of k independent trials (Tang et
    al., "Showing Your Work Doesn't Always Work", ACL 2020). With replacement: the estimator of Dodge et al., "Show Your
    Work: Improved Reporting of Experimental Results", EMNLP 2019, the mean over all n^k draws from the empirical
    distribution; biased downwards, with less variance for k near n (Dodge et al., "Expected Validation Performance and
    Estimation of a Random Variable's Maximum", Findings of EMNLP 2021).

    Args:
        trials: selection scores of n settings drawn at random, larger is better; ``None`` for a trial that failed.
        replacement: which of the two.
        failed: the score that a failed trial counts for, such as that of chance: it was part of the budget.

    Returns:
        Columns ``expected`` and ``sd``, the standard deviation of the best of k (what one search of k trials differs by
        from another; without replacement it goes to 0 as k goes to n, where there is but one subset); index ``trials``,
        k from 1 to n.

    Raises:
        ValueError: there are no trials, one failed and ``failed`` is not given, or a score is not finite.
    """
    scores = _sorted_scores(trials, failed)
    n = len(scores)
    ks = range(1, n + 1)
    rows = np.arange(1, n + 1)
    at_most = np.array(
        [(rows / n) ** k if replacement else [math.comb(row, k) / math.comb(n, k) for row in rows.tolist()] for k in ks]
    )
    # Each score's probability of being the best of k; of tied scores one is, and it does not matter which.
    weights = np.diff(at_most, axis=1, prepend=0.0)
    expected = weights @ scores
    variance = (weights * np.square(scores[None, :] - expected[:, None])).sum(axis=1)
    return pd.DataFrame({"expected": expected, "sd": np.sqrt(variance)}, index=pd.Index(ks, name="trials"))


def rank_by_trials(
    trials: Mapping[str, Sequence[float | None]], replacement: bool = False, failed: float | None = None
) -> pd.DataFrame:
    """Rank methods by the expected best of k trials, for every k that all of them have.

    Args:
        trials: selection scores by method, see `expected_best`.
        replacement: see `expected_best`.
        failed: see `expected_best`.

    Returns:
        Methods as columns and k as index: 1 is best, ties share the mean of their ranks. It ends with the fewest trials
        of any method, because beyond that some would be compared at less effort than others.

    Raises:
        ValueError: there are no methods, or see `expected_best`.
    """
    if not trials:
        raise ValueError("there are no methods to rank")
    curves = {method: expected_best(scores, replacement, failed)["expected"] for method, scores in trials.items()}
    # The same scores in other sums differ in the last bits, and are tied.
    return pd.DataFrame(curves).dropna().round(12).rank(axis=1, ascending=False, method="average")


def _sorted_scores(trials: Sequence[float | None], failed: float | None) -> np.ndarray:
    if not len(trials):
        raise ValueError("there are no trials")
    if failed is None and any(score is None for score in trials):
        raise ValueError("a trial failed; say what it counts for, such as the score of chance")
    scores = np.sort(np.array([failed if score is None else score for score in trials], dtype="float64"))
    if not np.isfinite(scores).all():
        raise ValueError("a trial's score is not finite; give None for a trial that failed")
    return scores
