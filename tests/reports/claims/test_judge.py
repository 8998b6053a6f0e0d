"""Verdicts on planted stores, with p-values and intervals from scipy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests

from parbench.bench.record.run_record import Status
from parbench.reports.claims.judge import Judgment, judge_store
from parbench.reports.claims.tables import would_take
from parbench.reports.frame import read_frame
from tests.support.claims import EVEN, SEEDS, claim, plant_seeds, set_up

# Number of examples whose mistakes begin with each seed.
A_LITTLE = (203, 198, 201, 199, 199)
A_LOT = (260, 140, 230, 170, 200)
UNEVEN = (150, 240, 210, 180, 220)


def judged(planter: Any, *claims: Any) -> list[Judgment]:
    return list(judge_store(planter.store, read_frame(planter.store), claims).judgments)


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


def test_a_share_of_the_data_is_compared_with_all_of_it(planter: Any) -> None:
    row = {"method": "replora", "train_fraction": 0.3}
    reaches = claim(kind="reaches", margin=1.0, row=row)
    plant_seeds(planter, "replora", 3, A_LITTLE)  # of the whole split, which the claim is not about
    lora = plant_seeds(planter, "lora", 1, EVEN)
    (one,) = judged(planter, reaches)
    assert one.verdict == "cannot tell"
    assert one.reason == "replora on glue/rte was not run"
    replora = plant_seeds(planter, "replora", 1, A_LITTLE, train_fraction=0.3)
    (one,) = judged(planter, reaches)
    assert one.verdict == "supported"
    assert one.holds == pytest.approx(ttest_1samp(replora - lora, -0.01, alternative="greater").pvalue)


def test_times_are_compared_by_their_logarithms(planter: Any) -> None:
    slow, fast = (60.0, 66.0, 63.0, 70.0, 64.0), (50.0, 52.0, 55.0, 51.0, 53.0)
    plant_seeds(planter, "loca", 1, A_LITTLE, seconds=slow)
    plant_seeds(planter, "lora", 1, EVEN, seconds=fast)
    costs = {"kind": "cheaper", "measure": "step_seconds"}
    logs = np.log(np.array(slow) / np.array(fast))
    for factor, verdict in ((2.0, "supported"), (1.2, "cannot tell"), (1.05, "contradicted")):
        (one,) = judged(planter, claim(**costs, factor=factor))
        assert one.verdict == verdict
        assert one.holds == pytest.approx(ttest_1samp(logs, np.log(factor), alternative="less").pvalue)
    (effect,) = one.effects
    interval = ttest_1samp(logs, 0).confidence_interval(0.9)
    assert effect.value == pytest.approx(np.exp(logs.mean()))
    assert effect.interval is not None
    assert effect.interval.low == pytest.approx(np.exp(interval.low))


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "supported"), (0.49, "contradicted")])
def test_parameters_are_counted_and_not_tested(planter: Any, factor: float, verdict: str) -> None:
    plant_seeds(planter, "loca", 1, A_LITTLE, parameters=5000)
    plant_seeds(planter, "lora", 1, parameters=10_000)
    counted = claim(kind="cheaper", measure="parameters", factor=factor)
    (one,) = judged(planter, counted)
    assert (one.verdict, one.effects[0].value, one.effects[0].is_exact) == (verdict, 0.5, True)
    alone, together = judged(planter, claim())[0], judged(planter, claim(), claim(name="count", **COUNT))[1]
    assert alone.holds == together.holds  # a count is no test, and takes no part in the correction


COUNT = {"kind": "cheaper", "measure": "parameters", "factor": 0.5}


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


@pytest.mark.parametrize("lost", [0, 4])
def test_too_little_data_is_named(planter: Any, lost: int) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 2, UNEVEN, seeds=SEEDS[:3])
    planter.run(
        None,
        "accuracy",
        status=Status.DIVERGED,
        reason="The loss was not finite.",
        task="glue/rte",
        task_code="rte",
        method="lora",
        method_code="lora",
        seed=3,
    )
    (one,) = judged(planter, claim())
    assert (one.verdict, one.effects) == ("cannot tell", ())
    assert one.reason == "lora on glue/rte has no score for seed 3 (diverged), seed 4 (not run)"
    assert would_take(one) == one.reason


def test_seeds_that_were_not_declared_change_nothing(planter: Any) -> None:
    for method, mistakes in (("loca", 1), ("lora", 2)):
        plant_seeds(planter, method, mistakes, A_LOT)
    (before,) = judged(planter, claim())
    for method, mistakes in (("loca", 4), ("lora", 0)):
        plant_seeds(planter, method, mistakes, A_LOT, seeds=(5, 6, 7, 8, 9))
    (after,) = judged(planter, claim())
    assert after.holds == before.holds


def test_several_settings_are_told_apart_by_what_the_claim_sets(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    low = {"r": 8, "learning_rate": 0.001}
    plant_seeds(planter, "lora", 2, UNEVEN, setting=low)
    plant_seeds(planter, "lora", 0, EVEN, setting={"r": 8, "learning_rate": 0.01})
    (one,) = judged(planter, claim())
    assert one.reason == "the store has runs of lora on glue/rte with several settings, none of them planned for it"
    (one,) = judged(planter, claim(against=["lora(learning_rate=1e-3)"]))
    assert one.verdict == "supported"
    (one,) = judged(planter, claim(against=[{"method": "lora", "sets": ["lora.learning_rate=0.01"]}]))
    assert one.verdict == "contradicted"


def test_budgets_and_steps_are_part_of_the_condition(planter: Any) -> None:
    limit = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
    plant_seeds(planter, "loca", 1, A_LOT, budget=limit)
    plant_seeds(planter, "lora", 2, UNEVEN, budget={**limit, "asked": "24"})
    plant_seeds(planter, "lora", 2, UNEVEN, training={"max_steps": 100})
    assert judged(planter, claim())[0].reason == "loca on glue/rte was not run"
    sides = {"row": {"method": "loca", "budget": "24000"}, "against": [{"method": "lora", "steps": 100}]}
    assert judged(planter, claim(**sides))[0].verdict == "supported"
    sides["against"] = [{"method": "lora", "steps": 50}]
    assert judged(planter, claim(**sides))[0].reason == "lora on glue/rte was not run"


@pytest.mark.parametrize("budgets", [("24k",), ("9k", "24k"), ("9k",)])
def test_a_method_of_fixed_size_is_judged_at_every_budget(planter: Any, budgets: tuple[str, ...]) -> None:
    """It is run once, without any; the other side must be at the claim's."""
    for text in budgets:
        limit = {"asked": text, "parameters": 1000 * int(text[:-1]), "mode": "uniform"}
        plant_seeds(planter, "loca", 1, A_LOT, budget=limit, setting={"rank": 8, "budget": text})
    plant_seeds(planter, "full", 2, UNEVEN, setting={"learning_rate": 1e-5})
    (one,) = judged(planter, claim(against=["full"], here=set_up(budget="24k")))
    if "24k" in budgets:
        assert (one.verdict, len(one.runs)) == ("supported", 10)
    else:
        assert one.reason == "loca on glue/rte was not run"


def test_a_method_that_did_not_learn_is_compared_with_nothing(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 3, UNEVEN)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    assert one.reason == "lora did not learn: not better with confidence than a constant"


def test_runs_on_other_examples_are_not_compared(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    planter.seeds([0.6, 0.61, 0.62, 0.63, 0.64], metric="accuracy", task="glue/rte", task_code="rte", method="lora")
    (one,) = judged(planter, claim())
    assert one.reason == "not scored on the same examples"


def test_differences_below_the_noise_floor_support_nothing(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LITTLE)
    plant_seeds(planter, "lora", 2, EVEN)
    assert judged(planter, claim())[0].verdict == "supported"
    for repeat, mistakes in ((1, 0), (2, 2)):
        plant_seeds(planter, "loca", mistakes, A_LITTLE, seeds=(0,), repeat=repeat)
    (one,) = judged(planter, claim())
    assert one.verdict == "cannot tell"
    assert str(one.reason).startswith("within the noise floor")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shared_device": True}, "the runs shared an accelerator with others, so that their times measure no speed"),
        (
            {"core_wait_share": 0.06},
            "the runs waited for cores that other processes used, so that their times measure no speed",
        ),
        ({"core_wait_share": 0.04}, "all runs have the same ratio of costs"),  # so they were compared
    ],
)
def test_times_beside_other_work_measure_no_speed(planter: Any, changed: Any, reason: str) -> None:
    costs = claim(kind="cheaper", measure="step_seconds", factor=2.0)
    plant_seeds(planter, "loca", 1, A_LITTLE)
    for seed in SEEDS:
        planter.run(
            0.8,
            "accuracy",
            seed=seed,
            cost=replace(planter.cost, **changed),
            task="glue/rte",
            task_code="rte",
            method="lora",
            method_code="lora",
        )
    assert judged(planter, costs)[0].reason == reason


def test_what_cannot_be_tested_or_is_not_known_is_a_reason(planter: Any) -> None:
    plant_seeds(planter, "loca", 1)
    (one,) = judged(planter, claim(here=None, not_testable="there is no such option"))
    assert one.reason == "it cannot be tested here: there is no such option"
    (one,) = judged(planter, claim(row="lorra"))
    assert one.reason is not None
    assert 'no method called "lorra"' in one.reason
    (one,) = judged(planter, claim(row="vera", against=["dora"]))
    assert one.reason == "its runs are missing: bench run --claims loca_better"
