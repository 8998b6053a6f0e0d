"""The noise floor by hand, and the expected best of k trials against the enumeration of all draws."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from parbench.reports.statistics import (
    Comparison,
    expected_best,
    floor_of_mean,
    noise_floor,
    rank_by_trials,
    rank_ranges,
    win_tie_loss,
)

TRIALS = [0.2, 0.9, 0.5, 0.5, 0.7, 0.1]


def test_the_noise_floor_by_hand() -> None:
    # Deviations: 1, 0, -1 around 1; 2, -2 around 4: 10 squares over 3 degrees of freedom. The single run is ignored.
    floor = noise_floor([[0.0, 1.0, 2.0], [2.0, 6.0], [7.0]])
    assert floor.sd == pytest.approx(math.sqrt(10 / 3))
    assert (floor.max_difference, floor.degrees, floor.groups, floor.reason) == (4.0, 3, 2, None)
    single = stats.t.ppf(0.975, 3) * math.sqrt(10 / 3) * math.sqrt(2)
    assert floor.smallest_difference() == pytest.approx(single)
    assert floor.smallest_difference(runs=8) == pytest.approx(single / math.sqrt(8))
    assert floor.smallest_difference(2, 4) == pytest.approx(single / math.sqrt(2) * math.sqrt(3 / 4))
    with pytest.raises(ValueError, match="1 run or more, not 0"):
        floor.smallest_difference(0)
    with pytest.raises(ValueError, match="1 run or more, not -1"):
        floor.smallest_difference(3, -1)


def test_the_noise_of_a_mean_over_tasks() -> None:
    floors = [noise_floor([[0.0, 3.0, 6.0]]), noise_floor([[1.0, 1.0]]), noise_floor([[0.0, 4.0 * math.sqrt(2)]])]
    mean = floor_of_mean(floors)
    assert mean.sd == pytest.approx(math.sqrt(3**2 + 0**2 + 4**2) / 3)
    assert (mean.degrees, mean.groups, mean.max_difference, mean.reason) == (1, 3, None, None)
    unknown = floor_of_mean([*floors, noise_floor([])])
    assert (unknown.sd, unknown.reason) == (None, "no configuration was run twice")


def test_what_is_within_the_noise_is_not_a_win() -> None:
    pair = Comparison("a", "b", 0.02, 3, 3, True, None, 0.001, 0.01, None)
    assert pair.better() == "a"
    assert replace(pair, noise_floor=0.02).better() == "a"
    within = replace(pair, noise_floor=0.021)
    assert (within.better(), within.is_noise, replace(within, difference=-0.02).better()) == (None, True, None)
    assert {rank.best for rank in rank_ranges(["a", "b"], [within]).values()} == {1}
    counts = win_tie_loss({"task": [within]})
    assert counts[["wins", "ties", "losses", "untested"]].to_numpy().tolist() == [[0, 1, 0, 0]] * 2


def test_with_many_repeats_it_is_the_repeatability_limit() -> None:
    runs = np.random.default_rng(0).normal(0.8, 0.01, (2000, 2))
    floor = noise_floor(runs.tolist())
    assert floor.smallest_difference() == pytest.approx(2.8 * 0.01, rel=0.05)
    exceeded = np.abs(runs[:, 0] - runs[:, 1]) > (floor.smallest_difference() or 0)
    assert exceeded.mean() == pytest.approx(0.05, abs=0.015)


def test_runs_equal_to_the_bit_have_no_noise() -> None:
    floor = noise_floor([[0.1 + 0.2] * 3, [0.7] * 7])
    assert (floor.sd, floor.max_difference, floor.smallest_difference(), floor.reason) == (0.0, 0.0, 0.0, None)


@pytest.mark.parametrize("groups", [[], [[0.5]], [[0.5], [0.6], []]])
def test_without_repeats_the_noise_is_unknown(groups: list[list[float]]) -> None:
    floor = noise_floor(groups)
    assert (floor.sd, floor.max_difference, floor.smallest_difference()) == (None, None, None)
    assert floor.reason == "no configuration was run twice"


def test_failed_runs_have_no_noise() -> None:
    with pytest.raises(ValueError, match="leave failed runs out"):
        noise_floor([[0.5, float("nan")]])


@pytest.mark.parametrize("replacement", [False, True])
def test_the_expected_best_is_the_mean_over_all_draws(replacement: bool) -> None:
    table = expected_best(TRIALS, replacement)
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    for k in table.index:
        draws = product(TRIALS, repeat=k) if replacement else combinations(TRIALS, k)
        best = np.array([max(draw) for draw in draws])
        assert table.loc[k, "expected"] == pytest.approx(best.mean())
        assert table.loc[k, "sd"] == pytest.approx(best.std(), abs=1e-12)


def test_the_ends_of_the_curve() -> None:
    without, with_replacement = expected_best(TRIALS), expected_best(TRIALS, replacement=True)
    assert without.loc[1, "expected"] == pytest.approx(np.mean(TRIALS))
    assert without.loc[6].tolist() == [0.9, 0.0]
    assert (without["expected"].diff().dropna() > 0).all()
    assert (with_replacement.loc[2:, "expected"] < without.loc[2:, "expected"]).all()


def test_only_without_replacement_is_it_unbiased() -> None:
    rng = np.random.default_rng(0)
    searches = [rng.random(6).tolist() for _ in range(2000)]
    # The best of 4 uniform numbers is 4/5 on average. Standard error of the mean of 2000: below 0.004.
    assert np.mean([expected_best(search).loc[4, "expected"] for search in searches]) == pytest.approx(0.8, abs=0.01)
    biased = np.mean([expected_best(search, replacement=True).loc[4, "expected"] for search in searches])
    assert biased < 0.77


def test_many_trials_do_not_overflow() -> None:
    table = expected_best(np.linspace(0, 1, 400).tolist())
    assert np.isfinite(table.to_numpy()).all()
    assert table.loc[400, "expected"] == 1.0


def test_a_failed_trial_was_part_of_the_budget() -> None:
    assert expected_best([0.8, None, 0.6], failed=0.5).equals(expected_best([0.8, 0.5, 0.6]))
    with pytest.raises(ValueError, match="a trial failed; say what it counts for"):
        expected_best([0.8, None])
    with pytest.raises(ValueError, match="not finite"):
        expected_best([0.8, float("inf")])
    with pytest.raises(ValueError, match="no trials"):
        expected_best([])


def test_ranks_change_with_the_number_of_trials() -> None:
    # A steady method and one that needs luck; the third is the first again and shares its rank.
    ranks = rank_by_trials(
        {"steady": [0.7, 0.72, 0.71, 0.7], "lucky": [0.1, 0.9, 0.1], "again": [0.71, 0.7, 0.72, 0.7]}
    )
    assert ranks.index.tolist() == [1, 2, 3]
    assert ranks["lucky"].tolist() == [3.0, 3.0, 1.0]
    assert ranks["steady"].tolist() == ranks["again"].tolist() == [1.5, 1.5, 2.5]
    with pytest.raises(ValueError, match="no methods"):
        rank_by_trials({})
