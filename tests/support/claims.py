"""Claims, and runs planted so that a t test of the runs' scores is the whole answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from parbench.bench.record.run_spec import Json
from parbench.reports.claims.claim import ClaimFile, SetUp, Side, as_claim
from parbench.reports.claims.condition import Condition
from parbench.reports.claims.judge import Judgment, judge_store
from parbench.reports.frame import read_frame
from tests.support.planter import COST, LEDGER, PROVENANCE, Planter, rows_with

SEEDS = (0, 1, 2, 3, 4)
EXAMPLES = 1000
LABELS = np.arange(EXAMPLES) % 2
EVEN = (200, 200, 200, 200, 200)
# Numbers of examples whose mistakes begin with each seed.
A_LITTLE = (203, 198, 201, 199, 199)
A_LOT = (260, 140, 230, 170, 200)
UNEVEN = (150, 240, 210, 180, 220)


def claim(**changes: Any) -> ClaimFile:
    """Return a claim that loca is better than lora on one task, or what is given of another."""
    content = {
        "name": "loca_better",
        "claim": "LoCA is better than LoRA",
        "source": {"paper": "Somebody, 2025", "where": "abstract", "read": "abstract"},
        "kind": "better",
        "row": "loca",
        "against": ["lora"],
        "here": set_up(),
        **changes,
    }
    return as_claim({name: value for name, value in content.items() if value is not None}, "the claim")


def set_up(**changes: Any) -> dict[str, Any]:
    """Return a set-up whose runs `plant_seeds` plants."""
    return {
        "tasks": ["glue/rte"],
        "base_model": "roberta-base",
        "budget": "none",
        "seeds": list(SEEDS),
        **changes,
    }


def predictions(mistakes: int, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Return the predictions of each seed; every example is mistaken by ``mistakes`` of the seeds.

    So the mean over the seeds does not vary with the examples at all, and what varies is the seeds alone.

    Args:
        mistakes: seeds that mistake each example, next to each other.
        sizes: number of examples whose mistakes begin with each seed; they sum to `EXAMPLES`.
    """
    first = np.repeat(np.arange(len(sizes)), sizes)[np.random.default_rng(0).permutation(EXAMPLES)]
    found = []
    for seed in range(len(sizes)):
        wrong = (seed - first) % len(sizes) < mistakes
        found.append(np.where(wrong, 1 - LABELS, LABELS))
    return found


def fields_of(method: str, task: str, setting: Json | None = None, training: Json | None = None) -> Json:
    """Return the fields of a run's spec that a claim's suite decides, with some values of its own."""
    of = Condition.of(Side(method=method), SetUp.model_validate(set_up(tasks=[task])), task)
    return {
        "base_model": of.fixed["base_model"],
        "limit": of.fixed["limit"],
        "evaluation_limit": of.fixed["evaluation_limit"],
        "setting": {**of.setting.model_dump(mode="json"), **(setting or {})},
        "training": {**of.training.deciding(), **(training or {})},
        "options": of.task.options.deciding(),
    }


def plant_seeds(
    planter: Planter,
    method: str,
    mistakes: int,
    sizes: tuple[int, ...] = EVEN,
    seeds: tuple[int, ...] = SEEDS,
    seconds: tuple[float, ...] = (50.0,) * 5,
    parameters: int = 7000,
    started: str = "2025-01-01T00:00:00+00:00",
    **spec: Any,
) -> np.ndarray:
    """Plant a run for each seed of the set-up of `set_up`, and return their accuracies.

    Args:
        planter: of the store.
        method: its name.
        mistakes: see `predictions`.
        sizes: see `predictions`.
        seeds: the first of them are planted.
        seconds: of training, by seed.
        parameters: reported.
        started: when the runs began.
        **spec: what differs; of a setting and a training, the values that do.
    """
    scores = []
    spec = {
        **fields_of(method, spec.get("task", "glue/rte"), spec.pop("setting", {}), spec.pop("training", {})),
        **spec,
    }
    for seed, predicted, time in zip(seeds, predictions(mistakes, sizes), seconds, strict=False):
        scores.append(float((predicted == LABELS).mean()))
        where = {"task": "glue/rte", "task_code": "rte", "method": method, "method_code": method, **spec}
        planter.run(
            scores[-1],
            "accuracy",
            seed=seed,
            rows=rows_with(LABELS, predicted),
            cost=replace(COST, train_seconds=time),
            ledger=replace(LEDGER, reported=parameters),
            provenance=replace(PROVENANCE, started=started),
            **where,
        )
    return np.array(scores)


def judged(planter: Planter, *claims: ClaimFile) -> list[Judgment]:
    """Return the judgments of claims about a planted store."""
    return list(judge_store(planter.store, read_frame(planter.store), claims).judgments)
