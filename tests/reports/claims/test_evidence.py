"""Which runs of a planted store are those of a claim."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import ttest_1samp

from parbench.bench.record.run_record import Status
from parbench.reports.claims.tables import would_take
from tests.support.claims import A_LITTLE, A_LOT, EVEN, SEEDS, UNEVEN, claim, fields_of, judged, plant_seeds, set_up


def test_a_share_of_the_data_is_compared_with_all_of_it(planter: Any) -> None:
    row = {"method": "replora", "train_fraction": 0.3}
    reaches = claim(kind="reaches", margin=1.0, row=row)
    plant_seeds(planter, "replora", 3, A_LITTLE)  # of the whole split, which the claim is not about
    lora = plant_seeds(planter, "lora", 1, EVEN)
    (one,) = judged(planter, reaches)
    assert one.verdict == "cannot tell"
    lacking = "replora on glue/rte was not run with this set-up"
    assert one.reason == f"{lacking} (the store has it with train_fraction 1.0 instead of 0.3)"
    replora = plant_seeds(planter, "replora", 1, A_LITTLE, train_fraction=0.3)
    (one,) = judged(planter, reaches)
    assert one.verdict == "supported"
    assert one.holds == pytest.approx(ttest_1samp(replora - lora, -0.01, alternative="greater").pvalue)


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
        **fields_of("lora", "glue/rte"),
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
    plant_seeds(planter, "lora", 2, UNEVEN, setting={"learning_rate": 0.001})
    plant_seeds(planter, "lora", 0, EVEN, setting={"learning_rate": 0.01})
    (one,) = judged(planter, claim())
    others = "the store has it with learning_rate 0.001 instead of 0.005"
    assert one.reason == f"lora on glue/rte was not run with this set-up ({others})"
    (one,) = judged(planter, claim(against=["lora(learning_rate=1e-3)"]))
    assert one.verdict == "supported"
    (one,) = judged(planter, claim(against=[{"method": "lora", "sets": ["lora.learning_rate=0.01"]}]))
    assert one.verdict == "contradicted"


def test_budgets_and_steps_are_part_of_the_condition(planter: Any) -> None:
    limit = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
    plant_seeds(planter, "loca", 1, A_LOT, budget=limit)
    plant_seeds(planter, "lora", 2, UNEVEN, budget={**limit, "asked": "24"})
    plant_seeds(planter, "lora", 2, UNEVEN, training={"max_steps": 100})
    others = "the store has it with budget 24k instead of none"
    assert judged(planter, claim())[0].reason == f"loca on glue/rte was not run with this set-up ({others})"
    sides = {"row": {"method": "loca", "budget": "24000"}, "against": [{"method": "lora", "steps": 100}]}
    assert judged(planter, claim(**sides))[0].verdict == "supported"
    sides["against"] = [{"method": "lora", "steps": 50}]
    others = "the store has it with train.max_steps 100 instead of 50"
    assert judged(planter, claim(**sides))[0].reason == f"lora on glue/rte was not run with this set-up ({others})"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"limit": 50}, "limit 50 instead of none"),
        ({"evaluation_limit": 50}, "evaluation_limit 50 instead of 2000"),
        ({"training": {"max_steps": 5}}, "train.max_steps 5 instead of 100"),
        ({"training": {"length_groups": 1}}, "train.length_groups 1 instead of none"),
        ({"protocol": "paper:best_epoch"}, "protocol paper:best_epoch instead of strict"),
        ({"base_model": "bert-tiny"}, "base_model bert-tiny instead of roberta-base"),
        ({"base_precision": "nf4"}, "base_precision nf4 instead of float32"),
    ],
)
def test_runs_of_another_set_up_are_not_those_of_the_claim(planter: Any, changed: Any, words: str) -> None:
    """Whatever the claim leaves to its suite is part of the set-up."""
    for method, mistakes in (("loca", 1), ("lora", 2)):
        plant_seeds(planter, method, mistakes, A_LOT, **changed)
    (one,) = judged(planter, claim())
    names = ("loca", "lora")
    expected = [f"{name} on glue/rte was not run with this set-up (the store has it with {words})" for name in names]
    assert (one.verdict, one.reason) == ("cannot tell", "; ".join(expected))


@pytest.mark.parametrize("name", ["data_revision", "model_revision"])
def test_sides_of_several_revisions_are_not_compared(planter: Any, name: str) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 2, UNEVEN, **{name: "another"})
    (one,) = judged(planter, claim())
    assert (one.verdict, one.reason) == ("cannot tell", f"the runs compared on glue/rte differ in {name}")


def test_a_suite_that_is_not_here_has_no_set_up(planter: Any) -> None:
    for method, mistakes in (("loca", 1), ("lora", 2)):
        plant_seeds(planter, method, mistakes, A_LOT)
    (one,) = judged(planter, claim(here=set_up(suite="nosuch")))
    assert one.verdict == "cannot tell"
    assert "nosuch" in str(one.reason)


@pytest.mark.parametrize("budgets", [("24k",), ("9k", "24k"), ("9k",)])
def test_a_method_of_fixed_size_is_judged_at_every_budget(planter: Any, budgets: tuple[str, ...]) -> None:
    """It is run once, without any; the other side must be at the claim's."""
    for text in budgets:
        limit = {"asked": text, "parameters": 1000 * int(text[:-1]), "mode": "uniform"}
        plant_seeds(planter, "loca", 1, A_LOT, budget=limit, setting={"n_frequency": limit["parameters"]})
    plant_seeds(planter, "full", 2, UNEVEN)
    (one,) = judged(planter, claim(against=["full"], here=set_up(budget="24k")))
    if "24k" in budgets:
        assert (one.verdict, len(one.runs)) == ("supported", 10)
    else:
        assert str(one.reason).startswith("loca on glue/rte was not run with this set-up")


def test_runs_on_other_examples_are_not_compared(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    others = {"task": "glue/rte", "task_code": "rte", "method": "lora", **fields_of("lora", "glue/rte")}
    planter.seeds([0.6, 0.61, 0.62, 0.63, 0.64], metric="accuracy", **others)
    (one,) = judged(planter, claim())
    assert one.reason == "not scored on the same examples"
