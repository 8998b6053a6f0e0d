"""Statistics of scores: intervals, paired tests, tie groups, ranks over tasks, the noise floor, equal tuning.

Pure functions over arrays and frames; nothing here reads a store. A number that cannot be computed
soundly is ``None``, with a sentence in ``reason``; no result holds a NaN.

The usual order, for one task::

    runs = {method: Predictions.of_runs(rows_by_seed) for method, rows_by_seed in ...}
    scores = score_runs(runs, METRICS["accuracy"])
    estimates = {method: estimate(scores[method], bounds=(0, 1)) for method in scores}
    comparisons = compare_all(scores)
    ranks = rank_ranges(scores, comparisons)
"""

from parbench.reports.statistics.comparisons import (
    Comparison,
    McNemar,
    compare_all,
    compare_scores,
    difference_by_seed,
    holm,
    mcnemar,
)
from parbench.reports.statistics.estimates import MIN_SEEDS, Estimate, Interval, estimate
from parbench.reports.statistics.noise import NoiseFloor, floor_of_mean, noise_floor
from parbench.reports.statistics.over_tasks import (
    InterquartileMean,
    TaskRanking,
    interquartile_mean,
    no_ranking,
    rank_over_tasks,
)
from parbench.reports.statistics.ranks import RankRange, rank_ranges, win_tie_loss
from parbench.reports.statistics.scores import Predictions, Scores, leave_one_out, score_runs
from parbench.reports.statistics.trials import expected_best, rank_by_trials

__all__ = [
    "MIN_SEEDS",
    "Comparison",
    "Estimate",
    "InterquartileMean",
    "Interval",
    "McNemar",
    "NoiseFloor",
    "Predictions",
    "RankRange",
    "Scores",
    "TaskRanking",
    "compare_all",
    "compare_scores",
    "difference_by_seed",
    "estimate",
    "expected_best",
    "floor_of_mean",
    "holm",
    "interquartile_mean",
    "leave_one_out",
    "mcnemar",
    "no_ranking",
    "noise_floor",
    "rank_by_trials",
    "rank_over_tasks",
    "rank_ranges",
    "score_runs",
    "win_tie_loss",
]
