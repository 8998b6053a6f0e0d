"""A unit belongs to the metric: the size of a value changes nothing."""

from __future__ import annotations

import pytest

from parbench.tasks import TASKS, metric_unit
from parbench.tasks.metrics import classification, generation, texts
from parbench.tasks.metrics.units import FRACTION, RAW, UNITS


@pytest.mark.parametrize(
    ("task", "metric", "value", "text"),
    [
        ("e2e_nlg", "nist", 0.054, "0.05"),
        ("e2e_nlg", "nist", 3.13, "3.13"),
        ("e2e_nlg", "bleu", 0.054, "5.4"),
        ("instruct", "log_likelihood", -0.78, "-0.780"),
        ("instruct", "log_likelihood", -1.78, "-1.780"),
        ("mt_bench", "rating", 1.0, "1.00"),
        ("mt_bench", "rating_turn_1", 0.5, "0.50"),
        ("mt_bench", "judge_spread", 0.5, "0.50"),
        ("mt_bench", "unparsable", 0.5, "50.0"),
        ("glue/rte", "accuracy", 1.0, "100.0"),
        ("glue/cola", "matthews_correlation", -0.001, "-0.1"),
        ("commonsense", "accuracy_boolq", 0.5, "50.0"),
        ("glue/rte", "unknown", 0.5, "0.50"),
        ("no/such_task", "accuracy", 0.5, "50.0"),
        ("no/such_task", "perplexity", 0.5, "0.50"),
    ],
)
def test_values_are_shown_in_the_unit_of_their_metric(task: str, metric: str, value: float, text: str) -> None:
    assert metric_unit(task, metric).text(value) == text


def test_every_metric_that_tasks_share_has_a_unit() -> None:
    shared = {*classification.METRICS, *generation.METRICS, *texts.METRICS}
    assert shared <= UNITS.keys()


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS.entry(name).module.startswith("parbench.")])
def test_every_task_declares_the_unit_of_what_ranks(name: str) -> None:
    task = TASKS[name]
    assert task.unit(task.primary) is not RAW
    assert task.unit(task.selected_by.primary) is not RAW


def test_bounds_hold_for_values_of_fractions() -> None:
    assert (FRACTION.low, FRACTION.high) == (0.0, 1.0)
    assert all(unit.low < unit.high for unit in UNITS.values())
