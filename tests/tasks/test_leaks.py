"""What of the reported split is in training as well, as the records of runs on a user's own data say it."""

from dataclasses import replace

import pytest

from parbench.tasks import find_task
from parbench.tasks.leaks import leak_findings
from tests.support.films import COMMON, FILMS, task_file

ROWS = [{"sentence": f"The film number {n}", "label": n % 2} for n in range(200)]
SEEN = "what is scored there was seen in training"


def found(folder, reported, fields=FILMS, rows=ROWS):
    task = find_task(str(task_file(folder, fields, rows, reported)))
    return leak_findings(task, task.splits(task.own_source))


def test_reported_examples_that_are_in_training_are_a_finding(tmp_path):
    assert found(tmp_path, ROWS[:120]) == [
        f"120 of 120 reported examples (100.0%) are in train or selection as well: {SEEN}"
    ]


@pytest.mark.parametrize(("others", "finding"), [(99, None), (98, "2 of 100 reported examples (2.0%) are in train")])
def test_as_many_as_chance_makes_are_none(tmp_path, others, finding):
    new = [{"sentence": f"another {n}", "label": 0} for n in range(others)]
    reported = [*ROWS[: 100 - others], *new]
    (text,) = found(tmp_path, reported) or [None]
    assert text is None if finding is None else text.startswith(finding)


def test_those_that_differ_in_case_and_blanks_count_and_are_told_apart(tmp_path):
    reported = [{"sentence": text, "label": 0} for text in ("The film number 5", "the FILM  number 7", "new")]
    (finding,) = found(tmp_path, reported)
    assert finding.startswith("2 of 3 reported examples (66.7%) are in train")
    assert finding.endswith(f" (1 of them but for case and blanks): {SEEN}")


def test_texts_to_generate_count_by_their_prompts(tmp_path):
    fields = {
        **COMMON,
        "kind": "text_generation",
        "prompt": "{sentence}",
        "response": " {label}",
        "metrics": ["exact_match"],
    }
    rows = [{**row, "label": str(row["label"])} for row in ROWS]
    (finding,) = found(tmp_path, rows[:10], fields, rows)
    assert finding.startswith("10 of 10 reported examples")


def test_the_splits_of_known_tasks_are_not_compared(tmp_path):
    task = find_task(str(task_file(tmp_path, FILMS, ROWS, ROWS[:10])))
    known = replace(task, definition=None)
    assert leak_findings(known, task.splits(task.own_source)) == []
