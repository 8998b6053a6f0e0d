"""Regrets of planted stores, and their interval by scipy."""

import numpy as np
import pytest
from scipy import stats

from parbench.reports.recommend.evidence import read_evidence
from parbench.reports.recommend.validation import validate
from parbench.reports.recommend.words import validation_in_words

TASKS = ["glue/rte", "glue/qnli", "glue/sst2", "glue/wnli", "glue/qqp"]


def test_a_method_that_is_best_everywhere_costs_nothing(planted):
    store, _ = planted("steady", {"lora": 0.20, "loca": 0.10, "vera": 0.25}, TASKS)
    found = validate(read_evidence([store]).evidence)
    assert [one.recommended for one in found.tasks] == ["loca"] * 5
    assert [one.regret for one in found.tasks] == [0.0] * 5
    assert found.regret.mean == 0
    assert not any(one.is_shown_worse for one in found.tasks)
    assert "Mean regret of following the recommendation: 0.0 points" in " ".join(validation_in_words(found).sentences)


@pytest.fixture
def reversed_once(planted, tmp_path):
    """A store in which loca is best on four tasks and worst on the fifth, and the means."""
    store, means = planted("most", {"lora": 0.20, "loca": 0.10, "vera": 0.25}, TASKS[:4])
    other, more = planted("last", {"lora": 0.20, "loca": 0.30, "vera": 0.10}, TASKS[4:])
    return read_evidence([store, other]).evidence, means | more


def test_regrets_are_those_of_the_means(reversed_once):
    evidence, means = reversed_once
    found = validate(evidence)
    by_task = {one.evidence.task: one for one in found.tasks}
    last = by_task["glue/qqp"]
    assert (last.recommended, last.best) == ("loca", "vera")
    assert last.regret == pytest.approx(means["glue/qqp", "vera"] - means["glue/qqp", "loca"])
    assert last.is_shown_worse
    assert last.same_kind
    assert last.tasks == 4
    regrets = [one.regret for one in found.tasks]
    low, high = stats.t.interval(0.95, 4, np.mean(regrets), stats.sem(regrets))
    assert found.regret.mean == pytest.approx(np.mean(regrets))
    assert (found.regret.interval.low, found.regret.interval.high) == pytest.approx((low, high))
    best = {task: max(means[task, row] for row in ("lora", "loca", "vera")) for task in TASKS}
    assert found.baseline.mean == pytest.approx(np.mean([best[task] - means[task, "lora"] for task in TASKS]))
    drawn = [best[task] - np.mean([means[task, row] for row in ("lora", "loca", "vera")]) for task in TASKS]
    assert found.any_method.mean == pytest.approx(np.mean(drawn))


def test_the_words_show_where_it_failed(reversed_once):
    words = validation_in_words(validate(reversed_once[0]))
    (line,) = (row for row in words.table.rows if row[0].startswith("glue/qqp"))
    assert line[1:4] == ("loca", "4 tasks", "vera")
    assert line[6] == "yes"
    assert "on 1 of 5 tasks some method is shown to be better" in " ".join(words.sentences)


def test_the_task_itself_is_left_out_with_every_base_model(planted):
    """On the same task with another base model nothing is learnt of it either."""
    one, _ = planted("one", {"lora": 0.10, "loca": 0.25}, ["glue/rte"], base_model="roberta-large")
    other, _ = planted("other", {"lora": 0.10, "loca": 0.25}, ["glue/rte"])
    found = validate(read_evidence([one, other]).evidence)
    assert {entry.reason for entry in found.tasks} == {"nothing is known from other tasks"}
    assert found.regret is None
    assert "No task could be left out" in " ".join(validation_in_words(found).sentences)


def test_of_one_task_nothing_can_be_left_out(planted):
    store, _ = planted("one", {"lora": 0.10, "loca": 0.25}, ["glue/rte"])
    assert validate(read_evidence([store]).evidence).regret is None
    assert validate([]).tasks == ()
