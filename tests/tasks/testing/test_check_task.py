"""What `check_task` finds wrong with a task, one planted fault at a time."""

from dataclasses import dataclass, field

import pytest
from datasets import Dataset

from parbench.bench.util.reference import Reference
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.text_classification import TextClassification
from parbench.tasks.testing import TaskContractError, check_task


def rows(first, count):
    return [
        {"text": f"sentence {number}", "label": ("no", "yes")[number % 2]} for number in range(first, first + count)
    ]


@dataclass
class Planted:
    """A source with the rows that it is given, and a revision for each call."""

    train: list = field(default_factory=lambda: rows(0, 40))
    reported: list = field(default_factory=lambda: rows(100, 20))
    revisions: list = field(default_factory=lambda: ["sha256:1"])
    away: str | None = None
    growing: bool = False

    def missing(self, data):
        return self.away

    def describe(self, data):
        return "planted"

    def revision(self, data):
        return self.revisions.pop() if len(self.revisions) > 1 else self.revisions[0]

    def load(self, data):
        if self.growing:
            self.reported = [*self.reported, *rows(1000 + len(self.reported), 2)]
        return {"train": Dataset.from_list(self.train), "validation": Dataset.from_list(self.reported)}


TASK = TextClassification(
    name="planted",
    reference=Reference("Planted", 2026, "nowhere"),
    data=DataRef(folder="planted", train="train", reported={"": "validation"}),
    texts=("text",),
    labels=("no", "yes"),
    metrics=("accuracy",),
)


def test_a_good_task_has_no_faults():
    report = check_task(TASK, Planted())
    assert report.faults == report.warnings == ()
    assert report.sizes["reported"] == 20
    assert "20 reported" in str(report)
    report.raise_for_failures()


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (None, "it has no own_source"),
        (Planted(away="the disk is at home"), "its data is missing: the disk is at home"),
        (Planted(revisions=["a", "b", "c"]), "its revision changes from call to call"),
        (Planted(growing=True), "the reported split have other rows when they are loaded again"),
        (Planted(reported=[*rows(100, 18), {"text": "SENTENCE  3", "label": "yes"}]), "1 of 19 reported examples are"),
        (Planted(rows(0, 41)[1::2], rows(101, 19)[::2]), "no more for the references themselves"),
        (Planted(reported=[{"text": "x", "label": "perhaps"}]), "perhaps"),
    ],
)
def test_a_planted_fault_is_found(source, fault):
    report = check_task(TASK, source)
    assert [found for found in report.faults if fault in found]
    with pytest.raises(TaskContractError, match='the task "planted" does not keep its contract'):
        report.raise_for_failures()


@pytest.mark.parametrize(("thing", "name"), [(TextClassification, "TextClassification"), (3, "int")])
def test_what_is_no_task_is_named(thing, name):
    report = check_task(thing)
    assert report.task == name
    assert report.faults == ("it is not an instance of a parbench.tasks.base.Task",)
