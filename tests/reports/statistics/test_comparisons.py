"""Comparisons, their families and ranks against textbook tests, hand-worked cases and statsmodels."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from parbench.bench.util.errors import UserError
from parbench.reports.statistics import (
    Comparison,
    Predictions,
    RankRange,
    compare_all,
    compare_scores,
    holm,
    mcnemar,
    rank_ranges,
    score_runs,
    win_tie_loss,
)
from parbench.reports.statistics.estimates import spread_of
from parbench.tasks.metrics.classification import accuracy
from tests.support.scores import bare, runs


def verdict(a: str, b: str, difference: float, p_value: float | None) -> Comparison:
    return Comparison(a, b, difference, 3, 3, True, None, p_value, p_value, None if p_value is not None else "n = 2")


def test_a_difference_is_no_larger_than_the_bounds_are_apart() -> None:
    interval = compare_scores(bare("lora", [0.99, 0.5, 1.0]), bare("vera", [0.0, 0.1, 0.4]), bounds=(0.0, 1.0)).interval
    assert interval is not None
    assert (interval.low >= -1.0, interval.high) == (True, 1.0)


def test_methods_that_differ_by_the_same_in_every_seed_are_tested_by_their_examples() -> None:
    rng = np.random.default_rng(3)
    first = rng.random((3, 60)) < np.array([[0.5], [0.6], [0.7]])
    second = first.copy()
    for row in second:  # three right answers fewer in every seed, so that the differences are equal but for rounding
        row[np.flatnonzero(row)[:3]] = False
    scores = score_runs({"lora": runs(first), "vera": runs(second)}, accuracy)
    assert np.ptp(scores["lora"].by_seed - scores["vera"].by_seed) < 1e-15
    comparison = compare_scores(scores["lora"], scores["vera"])
    gap = (first.astype(float) - second).mean(axis=0)
    assert comparison.p_value == pytest.approx(stats.ttest_1samp(gap, 0).pvalue)


def test_where_only_seeds_vary_the_paired_test_is_students() -> None:
    a, b = [0.5, 0.6, 0.8, 0.7], [0.45, 0.58, 0.7, 0.69]
    comparison = compare_scores(bare("lora", a), bare("vera", b))
    expected = stats.ttest_rel(a, b)
    assert comparison.paired
    assert comparison.p_value == pytest.approx(expected.pvalue)
    assert comparison.interval is not None
    interval = expected.confidence_interval(0.95)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((interval.low, interval.high))


def test_where_only_examples_vary_the_paired_test_is_students() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.tile(rng.random(60) < share, (3, 1)) for share in (0.8, 0.6))
    scores = score_runs({"lora": runs(a), "vera": runs(b)}, accuracy)
    comparison = compare_scores(scores["lora"], scores["vera"])
    expected = stats.ttest_rel(a[0].astype(float), b[0].astype(float))
    assert comparison.difference == pytest.approx(a.mean() - b.mean())
    assert comparison.p_value == pytest.approx(expected.pvalue)


def test_other_seeds_are_not_paired() -> None:
    # By hand: w = s^2 / n = 0.01 / 3 of each; both have 2 degrees of freedom, so that the weights do not matter.
    comparison = compare_scores(bare("lora", [0.8, 0.9, 1.0]), bare("vera", [0.5, 0.6, 0.7], (3, 4, 5)))
    assert not comparison.paired
    assert comparison.p_value == pytest.approx(2 * stats.t.sf(0.3 / math.sqrt(0.02 / 3), 2))


def test_unpaired_seeds_still_share_the_examples() -> None:
    # The same models under other seeds: what examples do to the one they do to the other.
    right = np.tile(np.arange(40) % 4 > 0, (3, 1))
    scores = score_runs({"lora": runs(right), "vera": runs(right, (5, 6, 7))}, accuracy)
    assert spread_of([(1, scores["lora"]), (-1, scores["vera"])]).variance == pytest.approx(0, abs=1e-20)
    assert spread_of([(1, scores["lora"]), (1, scores["vera"])]).variance == pytest.approx(
        4 * spread_of([(1, scores["lora"])]).variance
    )


@pytest.mark.parametrize("seeds", [(0, 1, 2), (3, 4, 5)])
def test_identical_methods_do_not_differ(seeds: tuple[int, ...]) -> None:
    right = np.tile(np.arange(40) % 4 > 0, (3, 1))
    scores = score_runs({"lora": runs(right), "copy": runs(right, seeds)}, accuracy)
    comparison = compare_scores(scores["lora"], scores["copy"])
    assert (comparison.difference, comparison.p_value, comparison.interval) == (0.0, 1.0, None)
    assert comparison.reason == "both score the same in every run, on whatever examples"


def test_a_difference_without_any_variation_is_not_tested() -> None:
    # Right in all and right in none: no observed draw of seeds or examples shows how certain that is.
    scores = score_runs(
        {"all": runs(np.ones((3, 9), dtype=bool)), "none": runs(np.zeros((3, 9), dtype=bool))}, accuracy
    )
    comparison = compare_scores(scores["all"], scores["none"])
    assert (comparison.difference, comparison.p_value) == (1.0, None)
    assert comparison.reason == "all runs differ by the same: there is no variation to judge by"


def test_scores_of_other_draws_are_refused() -> None:
    scores = [score_runs({"lora": runs(np.eye(3, n, dtype=bool))}, accuracy)["lora"] for n in (8, 9)]
    with pytest.raises(ValueError, match="score them in one call"):
        compare_scores(scores[0], scores[1])


def test_families_are_corrected_by_holm() -> None:
    rng = np.random.default_rng(1)
    scores = {
        name: bare(name, (level + rng.normal(0, 0.02, 4)).tolist())
        for name, level in zip("abc", (0.6, 0.7, 0.9), strict=True)
    }
    comparisons = compare_all(scores)
    assert [(pair.a, pair.b) for pair in comparisons] == [("a", "b"), ("a", "c"), ("b", "c")]
    expected = multipletests([pair.p_value for pair in comparisons], method="holm")[1]
    assert [pair.adjusted_p_value for pair in comparisons] == pytest.approx(expected.tolist())
    fewer = compare_all(scores, against="b")
    assert [(pair.a, pair.b) for pair in fewer] == [("a", "b"), ("c", "b")]
    assert fewer[0].p_value == comparisons[0].p_value
    with pytest.raises(UserError, match='no method "bb"'):
        compare_all(scores, against="bb")
    assert compare_all({}) == ()


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_that_of_statsmodels(seed: int) -> None:
    p_values = np.random.default_rng(seed).random(9) ** 3
    p_values[3] = p_values[4]
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_tests_that_were_not_made_are_not_part_of_the_family() -> None:
    assert holm([0.02, None, 0.04]) == [0.04, None, 0.04]
    assert holm([None]) == [None]
    assert holm([]) == []


def pairs_of(only_a: int, only_b: int, both: int = 5, neither: int = 5) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 7), (0, 1), (4, 4), (30, 12), (0, 0)])
def test_mcnemar_is_that_of_statsmodels(only_a: int, only_b: int) -> None:
    a, b = pairs_of(only_a, only_b)
    answer = mcnemar(runs(a[None]), runs(b[None]), "exact")
    assert (answer.only_a, answer.only_b) == ((only_a,), (only_b,))
    assert answer.p_value == pytest.approx(statsmodels_mcnemar([[5, only_a], [only_b, 5]], exact=True).pvalue)


def test_mcnemars_mid_p_of_a_published_table() -> None:
    # The supplement of Fagerland et al. (2013) on Bentur's 21 children, 1 against 7: 2 x 9/256 - 8/256 and 18/256.
    a, b = pairs_of(1, 7, 1, 12)
    assert mcnemar(runs(a[None]), runs(b[None])).p_value == pytest.approx(10 / 256)
    assert mcnemar(runs(a[None]), runs(b[None]), "exact").p_value == pytest.approx(18 / 256)


def test_mcnemar_merges_seeds_by_twice_their_mean() -> None:
    (a, b), (c, d) = pairs_of(1, 7, 1, 12), pairs_of(2, 6, 1, 12)
    answer = mcnemar(runs(np.stack([a, c])), runs(np.stack([b, d])))
    # 2, 6: 2 x 37/256 - 28/256.
    assert answer.p_values == pytest.approx((10 / 256, 46 / 256))
    assert answer.p_value == pytest.approx(56 / 256)
    assert mcnemar(runs(np.stack([a, a])), runs(np.stack([a, a]))).p_value == 1.0


def test_mcnemar_gives_the_reason() -> None:
    right = np.eye(2, 6, dtype=bool)
    assert mcnemar(runs(right), runs(right, (4, 5))).reason == "the methods were not run with the same seeds"
    regression = Predictions((0,), np.arange(6), np.full(6, ""), np.linspace(0, 1, 6), np.linspace(0, 1, 6)[None])
    assert mcnemar(regression, regression).reason == "there is no right or wrong in a regression"
    with pytest.raises(ValueError, match="same examples"):
        mcnemar(runs(right), runs(right[:, :5]))


def test_rank_ranges_by_hand() -> None:
    comparisons = [
        verdict("a", "b", 0.1, 0.2),
        verdict("a", "c", 0.2, 0.01),
        verdict("b", "c", 0.1, 0.3),
        verdict("a", "d", 0.5, 0.001),
        verdict("d", "b", -0.4, 0.002),
        verdict("c", "d", 0.3, 0.04),
    ]
    ranks = rank_ranges("abcd", comparisons)
    assert {method: str(rank) for method, rank in ranks.items()} == {"a": "1-2", "b": "1-3", "c": "2-3", "d": "4"}
    stricter = rank_ranges("abcd", comparisons, alpha=0.005)
    assert {method: str(rank) for method, rank in stricter.items()} == {"a": "1-3", "b": "1-3", "c": "1-4", "d": "3-4"}
    # Without c there are three methods, and comparisons with c say nothing about them.
    assert rank_ranges("abd", comparisons)["d"] == RankRange(3, 3)


def test_what_was_not_tested_stays_open() -> None:
    ranks = rank_ranges("abc", [verdict("a", "b", 0.9, None), verdict("a", "c", 0.9, 0.001)])
    assert {method: str(rank) for method, rank in ranks.items()} == {"a": "1-2", "b": "1-3", "c": "2-3"}
    assert str(rank_ranges(["only"], [])["only"]) == "1"
    assert rank_ranges([], []) == {}


def test_rank_ranges_hold_every_order_that_the_comparisons_allow() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        comparisons = [verdict(a, b, 1.0, rng.choice([0.01, 0.5])) for a, b in combinations("abcd", 2)]
        ranks = rank_ranges("abcd", comparisons)
        allowed = [
            order
            for order in permutations("abcd")
            if all(c.better() is None or order.index(c.a) < order.index(c.b) for c in comparisons)
        ]
        assert allowed
        for order in allowed:
            assert all(ranks[name].best <= place <= ranks[name].worst for place, name in enumerate(order, 1))


def test_win_tie_loss_by_hand() -> None:
    table = win_tie_loss(
        {
            "glue/cola": [verdict("a", "b", 0.1, 0.01), verdict("a", "c", 0.1, 0.5)],
            "glue/rte": [verdict("b", "a", 0.1, 0.01)],
            "glue/sst2": [verdict("a", "b", 0.1, 0.02)],
            "glue/mrpc": [verdict("a", "b", 0.1, None)],
        }
    )
    counts = table.set_index(["method", "opponent"])
    assert counts.loc[("a", "b")].tolist() == [2, 0, 1, 1]
    assert counts.loc[("b", "a")].tolist() == [1, 0, 2, 1]
    assert counts.loc[("c", "a")].tolist() == [0, 1, 0, 0]
    assert ("b", "c") not in counts.index
    assert win_tie_loss({}).empty
