"""Claims about costs, on planted stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tests.support.claims import A_LITTLE, EVEN, SEEDS, claim, fields_of, judged, plant_seeds, set_up

COUNT = {"kind": "cheaper", "measure": "parameters", "factor": 0.5}


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


def test_a_factor_is_met_exactly_whatever_the_rounding_of_a_mean(planter: Any) -> None:
    tasks = ("glue/rte", "glue/sst2")
    for method, parameters in (("loca", 700), ("lora", 7000)):
        for task in tasks:
            plant_seeds(planter, method, 1, A_LITTLE, parameters=parameters, task=task)
    for factor, verdict in ((0.1, "supported"), (0.0999, "contradicted")):
        counted = claim(kind="cheaper", measure="parameters", factor=factor, here=set_up(tasks=list(tasks)))
        assert judged(planter, counted)[0].verdict == verdict


def test_a_ratio_that_is_the_same_for_every_seed_is_exact(planter: Any) -> None:
    """As the bytes are that an accelerator counts."""
    plant_seeds(planter, "loca", 1, A_LITTLE, seconds=(25.0,) * 5)
    plant_seeds(planter, "lora", 1, EVEN)
    for factor, verdict in ((0.5, "supported"), (0.49, "contradicted")):
        (one,) = judged(planter, claim(kind="cheaper", measure="step_seconds", factor=factor))
        assert (one.verdict, one.reason) == (verdict, None)
        assert [(effect.value, effect.is_exact) for effect in one.effects] == [(pytest.approx(0.5), True)]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shared_device": True}, "the runs shared an accelerator with others, so that their times measure no speed"),
        (
            {"core_wait_share": 0.06},
            "the runs waited for cores that other processes used, so that their times measure no speed",
        ),
        ({"core_wait_share": 0.04}, None),  # so they were compared
    ],
)
def test_times_beside_other_work_measure_no_speed(planter: Any, changed: Any, reason: str | None) -> None:
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
            **fields_of("lora", "glue/rte"),
        )
    assert judged(planter, costs)[0].reason == reason
