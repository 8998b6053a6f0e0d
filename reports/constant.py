"""The score of a constant prediction: a row that is not better with confidence did not learn."""

from __future__ import annotations

import numpy as np

from parbench.reports.examples import Examples
from parbench.reports.statistics import Estimate

DID_NOT_LEARN = "did not learn"
# The share of generated texts that are the right answer.
EXACT_MATCH = "exact_match"


def constant_score(metric: str, examples: Examples) -> float | None:
    """Return the best score of a constant prediction, such as that of always the most frequent class.

    ``None`` where there is none to compare with: for texts that are not simply right or wrong, likelihoods and ratings.

    Args:
        metric: the one that ranks.
        examples: with their labels, where these are numbers, or of texts the right answers as numbers.
    """
    if examples.labels is None or not len(examples):
        return None
    if metric in ("matthews_correlation", "pearson", "spearman"):
        return 0.0
    parts = [examples.labels[places] for places in examples.strata]
    if metric == "f1":
        ones = [float((part == 1).mean()) for part in parts]
        return float(np.mean([2 * share / (1 + share) for share in ones]))
    if metric == "mean_per_class_accuracy":
        return float(np.mean([1 / len(np.unique(part)) for part in parts]))
    if metric in ("accuracy", EXACT_MATCH):
        classes, places = np.unique(np.concatenate(parts), return_inverse=True)
        weights = np.concatenate([np.full(len(part), 1 / len(part) / len(parts)) for part in parts])
        return float(np.bincount(places, weights, len(classes)).max())
    return None


def has_learnt(found: Estimate, constant: float | None) -> bool:
    """Return whether a score is above that of a constant prediction: its interval, or where it has none its mean."""
    if constant is None:
        return True
    score = found.interval.low if found.interval else found.mean
    # A constant prediction has this very score, which is summed in another order there.
    return score - constant > 1e-9 * max(1.0, abs(constant))
