"""Verdicts on planted stores, with p-values and intervals from scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests

from parbench.reports.claims.tables import would_take
from tests.support.claims import A_LITTLE, A_LOT, EVEN, UNEVEN, claim, judged, plant_seeds, set_up


def test_a_true_effect_is_supported(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LOT)
    lora = plant_seeds(planter, "lora", 2, UNEVEN)
    (one,) = judged(planter, claim())
    expected = ttest_rel(loca, lora)
    interval = expected.confidence_interval(0.95)
    (effect,) = one.effects
    assert one.verdict == "supported"
    assert effect.value == pytest.approx(np.mean(loca - lora))
    assert effect.interval is not None
    assert (effect.interval.low, effect.interval.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert one.holds == pytest.approx(expected.pvalue)
    assert one.fails == 1.0
    assert would_take(one) == ""


def test_a_negative_effect_contradicts(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 2, A_LOT)
    lora = plant_seeds(planter, "lora", 1, UNEVEN)
    (one,) = judged(planter, claim())
    assert one.verdict == "contradicted"
    assert one.fails == pytest.approx(ttest_rel(loca, lora).pvalue)


def test_no_effect_cannot_be_told_and_the_seeds_are_named(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LOT)
    lora = plant_seeds(planter, "lora", 1, UNEVEN)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    p_value = ttest_rel(loca, lora).pvalue
    assert p_value > 0.05
    assert min(one.holds or 0, one.fails or 0) == pytest.approx(min(1.0, p_value))
    # The standard deviation is 8 points, and one point is to be seen: (8/1)² x (1.96 + 0.84)² is about 500.
    sd = 100 * float(np.std(loca - lora, ddof=1))
    seeds = int(would_take(one).removeprefix("about ").partition(" seeds")[0])
    assert seeds == pytest.approx((sd * (1.96 + 0.8416)) ** 2, rel=0.02)
    assert would_take(one).endswith("to see a difference of 1 points with 80 % power")


@pytest.mark.parametrize(("margin", "verdict"), [(2.0, "supported"), (0.1, "cannot tell")])
def test_equivalence_is_two_one_sided_tests(planter: Any, margin: float, verdict: str) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LITTLE)
    lora = plant_seeds(planter, "lora", 1, EVEN)
    (one,) = judged(planter, claim(kind="equivalent", margin=margin))
    difference, ends = loca - lora, margin / 100
    above = ttest_1samp(difference, -ends, alternative="greater").pvalue
    below = ttest_1samp(difference, ends, alternative="less").pvalue
    assert one.holds == pytest.approx(max(above, below))
    assert one.verdict == verdict
    (effect,) = one.effects
    interval = ttest_1samp(difference, 0).confidence_interval(0.9)
    assert effect.interval is not None
    assert effect.interval.level == 0.9
    assert (effect.interval.low, effect.interval.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (one.verdict == "supported") == (max(abs(interval.low), abs(interval.high)) < ends)


def test_a_large_difference_contradicts_an_equivalence(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LOT)
    lora = plant_seeds(planter, "lora", 2, UNEVEN)
    (one,) = judged(planter, claim(kind="equivalent", margin=2.0))
    outside = ttest_1samp(loca - lora, 0.02, alternative="greater").pvalue
    assert one.verdict == "contradicted"
    assert one.fails == pytest.approx(2 * outside)


def test_not_worse_is_one_test_against_the_margin(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LITTLE)
    lora = plant_seeds(planter, "lora", 1, EVEN)
    (one,) = judged(planter, claim(kind="not_worse", margin=1.0))
    assert one.verdict == "supported"
    assert one.holds == pytest.approx(ttest_1samp(loca - lora, -0.01, alternative="greater").pvalue)
    worse = plant_seeds(planter, "vera", 2, A_LOT)
    (one,) = judged(planter, claim(kind="not_worse", margin=1.0, row="vera"))
    assert one.verdict == "contradicted"
    assert one.fails == pytest.approx(ttest_1samp(worse - lora, -0.01, alternative="less").pvalue)


@pytest.mark.parametrize(
    ("kind", "margin", "verdict"),
    [
        ("equivalent", 1.0, "supported"),
        ("not_worse", 1.0, "supported"),
        ("better", None, "cannot tell"),
        ("better", 1.0, "contradicted"),
    ],
)
def test_the_same_predictions_are_within_every_margin(
    planter: Any, kind: str, margin: float | None, verdict: str
) -> None:
    for method in ("loca", "lora"):
        plant_seeds(planter, method, 1, A_LOT)
    (one,) = judged(planter, claim(kind=kind, margin=margin))
    assert (one.verdict, one.reason) == (verdict, None)


def test_what_is_more_than_a_margin_needs_is_measured_from_the_margin(planter: Any) -> None:
    """An effect of just the margin is found with the level of the test, however many seeds there are."""
    loca = plant_seeds(planter, "loca", 1, A_LOT)
    lora = plant_seeds(planter, "lora", 2, UNEVEN)
    (one,) = judged(planter, claim(margin=20.0))
    assert one.verdict == "cannot tell"
    sd = 100 * float(np.std(loca - lora, ddof=1))
    seeds = int(would_take(one).removeprefix("about ").partition(" seeds")[0])
    assert seeds == pytest.approx((sd * (1.96 + 0.8416)) ** 2, rel=0.02)
    assert would_take(one).endswith("to see a difference of 1 points beyond the margin of 20 with 80 % power")


def test_seeds_that_would_have_shown_the_effect_are_not_asked_for_again(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LITTLE)
    plant_seeds(planter, "lora", 1, EVEN)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    shown = "a difference of 1 points with 80 % power"
    assert would_take(one) == f"more than these 5 seeds, which show {shown}"


def test_p_values_are_corrected_for_the_claims_of_the_page(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 1, UNEVEN)
    plant_seeds(planter, "vera", 2, A_LOT)
    plant_seeds(planter, "dora", 2, A_LITTLE)
    pairs = [("loca", "vera"), ("loca", "lora"), ("lora", "vera"), ("lora", "dora")]
    claims = [claim(name=f"{a}_{b}", row=a, against=[b]) for a, b in pairs]
    alone = [judged(planter, one)[0].holds for one in claims]
    together = {one.claim.name: one.holds for one in judged(planter, *claims)}
    expected = multipletests(alone, method="holm")[1]
    assert [together[one.claim.name] for one in claims] == pytest.approx(list(expected))


def test_a_claim_against_two_must_hold_against_each(planter: Any) -> None:
    loca = plant_seeds(planter, "loca", 1, A_LOT)
    lora = plant_seeds(planter, "lora", 2, UNEVEN)
    vera = plant_seeds(planter, "vera", 1, UNEVEN)
    (one,) = judged(planter, claim(against=["lora", "vera"]))
    p_values = [ttest_rel(loca, other).pvalue for other in (lora, vera)]
    assert one.verdict == "cannot tell"
    holds = [effect.holds for effect in one.effects]
    assert holds[0] == pytest.approx(p_values[0])
    assert one.holds == max(value for value in holds if value is not None)
    plant_seeds(planter, "dora", 0, EVEN)
    (one,) = judged(planter, claim(row="lora", against=["vera", "dora"]))
    assert one.verdict == "contradicted"
    assert one.fails == pytest.approx(2 * min(effect.fails or 0 for effect in one.effects))


def test_a_comparison_that_is_shown_already_takes_nothing_more(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LITTLE)
    plant_seeds(planter, "lora", 1, EVEN)
    plant_seeds(planter, "vera", 1, UNEVEN)
    (both,) = judged(planter, claim(kind="equivalent", margin=2.0, against=["lora", "vera"]))
    (unshown,) = judged(planter, claim(kind="equivalent", margin=2.0, against=["vera"]))
    assert both.verdict == unshown.verdict == "cannot tell"
    assert would_take(both) == would_take(unshown) != ""


def test_tasks_are_averaged_or_each_must_show_it(planter: Any) -> None:
    tasks = ("glue/rte", "glue/sst2")
    loca = [plant_seeds(planter, "loca", 1, A_LOT, task=task) for task in tasks]
    lora = [plant_seeds(planter, "lora", few, UNEVEN, task=task) for task, few in zip(tasks, (2, 1), strict=True)]
    here = set_up(tasks=list(tasks))
    (mean,) = judged(planter, claim(here=here))
    expected = ttest_rel(np.mean(loca, axis=0), np.mean(lora, axis=0))
    assert [effect.where for effect in mean.effects] == ["the mean of glue/rte, glue/sst2"]
    assert mean.holds == pytest.approx(expected.pvalue)
    (each,) = judged(planter, claim(here=here, over="each"))
    assert [effect.where for effect in each.effects] == list(tasks)
    assert each.verdict == "cannot tell"


def test_a_method_that_did_not_learn_is_compared_with_nothing(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 3, UNEVEN)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    assert one.reason == "lora did not learn: not better with confidence than a constant"


def test_differences_below_the_noise_floor_support_nothing(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LITTLE)
    plant_seeds(planter, "lora", 2, EVEN)
    assert judged(planter, claim())[0].verdict == "supported"
    for repeat, mistakes in ((1, 0), (2, 2)):
        plant_seeds(planter, "loca", mistakes, A_LITTLE, seeds=(0,), repeat=repeat)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    assert str(one.reason).startswith("within the noise floor")


def test_what_cannot_be_tested_or_is_not_known_is_a_reason(planter: Any) -> None:
    plant_seeds(planter, "loca", 1)
    (one,) = judged(planter, claim(here=None, not_testable="there is no such option"))
    assert one.reason == "it cannot be tested here: there is no such option"
    (one,) = judged(planter, claim(row="lorra"))
    assert one.reason is not None
    assert 'no method called "lorra"' in one.reason
    (one,) = judged(planter, claim(row="vera", against=["dora"]))
    assert one.reason == "its runs are missing: bench run --claims loca_better"
