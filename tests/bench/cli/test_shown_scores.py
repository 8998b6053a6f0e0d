"""Scores are shown in the unit of their metric: fractions times 100, ratings and likelihoods as they are."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from parbench.bench.cli.studies import _print_found
from parbench.bench.tune.study import StudyResult, Trial
from parbench.tasks import find_task
from parbench.tasks.testing.inspection import Constant
from tests.support.data import sentences
from tests.support.films import FILMS, task_file


def study(task):
    run = SimpleNamespace(task=find_task(task))
    return SimpleNamespace(task=task, method=SimpleNamespace(name="lora"), space=(), runs=[run])


@pytest.mark.parametrize(
    ("task", "scores", "shown"),
    [
        ("glue/sst2", (0.5, 0.25), ("50.0", "25.0")),
        ("glue/sst2", (1.0, 0.0), ("100.0", "0.0")),
        ("instruct", (-1.25, -0.875), ("-1.250", "-0.875")),
        ("glue/sst2", (None, 0.5), ("diverged", "50.0")),
        ("instruct", (None, None), ("diverged", "diverged")),
    ],
)
def test_the_trials_of_a_study_are_shown_in_the_unit_of_their_metric(task, scores, shown):
    trials = tuple(
        Trial(number, {"learning_rate": 1e-3}, {}, score, "" if score is not None else "diverged")
        for number, score in enumerate(scores)
    )
    console = Console(file=io.StringIO(), width=120)
    _print_found([StudyResult(study(task), trials)], console)
    rows = [line.split() for line in console.file.getvalue().splitlines() if task in line]
    assert [next(word for word in row if word in shown) for row in rows] == list(shown)


def test_the_constant_of_a_task_is_shown_by_the_same_rule(bench, tmp_path, monkeypatch):
    path = task_file(tmp_path, FILMS, sentences(40, 0))
    result = bench("task", "check", path, "--out", tmp_path / "store")
    assert "accuracy 50.0; accuracy ranks" in result.out
    found = Constant("nothing", {"rating": 5.0, "accuracy": 0.125, "log_likelihood": -2.5})
    monkeypatch.setattr("parbench.tasks.testing.inspection.constant", lambda task, splits: found)
    result = bench("task", "check", path, "--out", tmp_path / "store")
    assert "rating 5.00, accuracy 12.5, log_likelihood -2.500; accuracy ranks" in result.out
