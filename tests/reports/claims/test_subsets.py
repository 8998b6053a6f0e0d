"""Claims about some subsets of a task, on planted stores, with p-values from scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from parbench.reports.claims.judge import judge_store
from parbench.reports.frame import read_frame
from tests.support.claims import A_LOT, EVEN, LABELS, SEEDS, UNEVEN, claim, fields_of, predictions, set_up
from tests.support.planter import rows_with


def plant_sets(planter: Any, method: str, mistakes: dict[str, int], sizes: tuple[int, ...]) -> np.ndarray:
    """Plant runs of several sets, and return the accuracies, of shape (seeds, sets)."""
    parts = {name: predictions(number, sizes) for name, number in mistakes.items()}
    scores = np.array([[float((part[seed] == LABELS).mean()) for part in parts.values()] for seed in SEEDS])
    for seed in SEEDS:
        rows = pd.concat(
            rows_with(LABELS, part[seed]).assign(subset=name, example=lambda rows, name=name: name + rows["example"])
            for name, part in parts.items()
        )
        rows["accuracy"] = (rows["label"] == rows["prediction"]).astype("float64")
        where = {"task": "commonsense", "task_code": "c", "method": method, "method_code": method}
        where |= fields_of(method, "commonsense")
        planter.run(scores[seed].mean(), "accuracy", seed=seed, rows=rows.reset_index(drop=True), **where)
    return scores


def test_a_claim_about_some_subsets_is_judged_on_these_alone(planter: Any) -> None:
    loca = plant_sets(planter, "loca", {"boolq": 0, "hellaswag": 1, "piqa": 2}, A_LOT)
    lora = plant_sets(planter, "lora", {"boolq": 4, "hellaswag": 0, "piqa": 1}, UNEVEN)
    unseen = ["hellaswag", "piqa"]
    here = set_up(tasks=["commonsense"])
    claims = [claim(here=here, name="a"), claim(here=here, name="b", subsets=unseen)]
    whole, part = judge_store(planter.store, read_frame(planter.store), claims).judgments
    assert (whole.verdict, part.verdict) == ("supported", "contradicted")
    (effect,) = part.effects
    mine, others = loca[:, 1:].mean(axis=1), lora[:, 1:].mean(axis=1)
    assert effect.value == pytest.approx((mine - others).mean())
    # Twice, for the two claims of the page.
    assert part.fails == pytest.approx(2 * ttest_rel(mine, others).pvalue, rel=1e-6)
    assert part.claim.comparison == "loca is better than lora on hellaswag, piqa"


def test_a_subset_that_was_not_scored_is_named(planter: Any) -> None:
    for method in ("loca", "lora"):
        plant_sets(planter, method, {"boolq": 1, "piqa": 2}, EVEN)
    asked = [claim(here=set_up(tasks=["commonsense"]), subsets=["piqa", "siqa"])]
    (one,) = judge_store(planter.store, read_frame(planter.store), asked).judgments
    assert one.verdict == "cannot tell"
    assert one.reason is not None
    assert "loca on commonsense has no score for seed 0 (not scored on siqa)" in one.reason
