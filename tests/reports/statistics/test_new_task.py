"""The rank of a method on a task that was not seen."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata, uniform
from statsmodels.stats.weightstats import DescrStatsW

from parbench.reports.statistics import rank_over_tasks
from parbench.reports.statistics.new_task import rank_on_new_task


def test_the_interval_is_that_of_one_more_value():
    ranks = [3.0, 4.0, 2.0, 3.5, 5.0]
    found = rank_on_new_task(ranks, methods=20)
    described = DescrStatsW(ranks)
    # Of a mean of n: t s / sqrt(n). Of one more value: t s sqrt(1 + 1/n), sqrt(n + 1) times as much.
    low, high = described.tconfint_mean(0.05)
    half = (high - low) / 2 * np.sqrt(len(ranks) + 1)
    # Two errors of rounding, each of variance 1/12.
    half *= np.sqrt((described.var_ddof(1) + uniform(-0.5, 1).var() * 2) / described.var_ddof(1))
    assert (found.low, found.high) == (max(1.0, 3.5 - half), pytest.approx(3.5 + half))
    assert found.high < 20
    assert (found.tasks, found.held) == (5, 5)


def test_it_covers_new_tasks_as_often_as_it_claims():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        *seen, new = norm(10, 2).rvs(6, random_state=rng)
        found = rank_on_new_task(seen, methods=1000)
        held += found.low <= new <= found.high
    assert held / 1000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("methods", "tasks"), [(4, 3), (7, 3), (7, 5)])
def test_ranks_that_happen_to_be_equal_are_no_certainty(methods: int, tasks: int):
    """One method is worse than the others by two standard deviations of a task."""
    rng = np.random.default_rng(1)
    skill = np.r_[np.zeros(methods - 1), -2.0]
    held = []
    for _ in range(1000):
        ranks = rankdata(-(skill + rng.normal(size=(tasks + 1, methods))), axis=1)[:, -1]
        found = rank_on_new_task(ranks[:-1], methods=methods)
        assert found.high > found.low
        held.append(found.low <= ranks[-1] <= found.high)
    assert np.mean(held) > 0.92


def test_a_method_that_is_good_on_one_task_alone_is_seen_by_leaving_it_out():
    found = rank_on_new_task([9.0, 9.0, 9.0, 1.0], methods=9)
    assert (found.low, found.high) == (1.0, 9.0)
    assert found.held == 3


def test_few_tasks_predict_nothing():
    assert rank_on_new_task([1.0, 2.0], methods=5) is None
    scores = pd.DataFrame({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.9, 0.6], "c": [0.1, 0.2, 0.3]})
    assert rank_over_tasks(scores).on_new_task["c"].low == 1.0
    assert rank_over_tasks(scores[:2]).on_new_task == {}
