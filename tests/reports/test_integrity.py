"""A run counts only if its per-example rows are those it wrote, and its metrics come out of them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.util.source_hash import source_hash
from parbench.reports.frame import read_frame
from parbench.reports.jackknife import LeftOut
from parbench.reports.report import write_report
from parbench.tasks.base import Task


def rows(predicted: list[int], labels: list[int], **columns: Any) -> pd.DataFrame:
    examples = [f"validation:{row}" for row in range(len(labels))]
    return pd.DataFrame({"example": examples, "subset": "", "label": labels, "prediction": predicted, **columns})


def file_of(planter: Any, record: RunRecord) -> Path:
    path = planter.store.runs / record.run_id / PREDICTIONS
    assert isinstance(path, Path)
    return path


def edit_one_label(path: Path) -> None:
    table = pd.read_parquet(path)
    table.loc[0, "prediction"] = 1 - table.loc[0, "prediction"]
    table.to_parquet(path, index=False)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (edit_one_label, "was changed after it was written (its hash is not that of the record)"),
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was changed after it was written"),
    ],
)
@pytest.mark.usefixtures("_no_figures")
def test_a_harmed_file_is_refused_and_counts_nowhere(planter: Any, harm: Callable[[Path], Any], reason: str) -> None:
    planter.seeds([0.5, 0.6])
    harmed = planter.run(0.9, seed=2)
    harm(file_of(planter, harmed))
    report = write_report(planter.store)
    assert list(report.frame.runs["score"]) == [0.5, 0.6]
    (refused,) = report.frame.unreadable
    assert str(refused.path.relative_to(planter.store.runs)) == f"{harmed.run_id}/{PREDICTIONS}"
    assert refused.reason.startswith(reason)
    page = report.files[0].read_text(encoding="utf-8")
    assert f"- runs/{harmed.run_id}/{PREDICTIONS} {reason}" in page
    assert "55.0 (n=2)" in page
    assert all(harmed.run_id.encode() not in path.read_bytes() for path in report.files[1:])


def test_a_score_that_the_rows_do_not_give_is_refused(planter: Any) -> None:
    planter.run(0.9, metric="accuracy", task="glue/rte", rows=rows([1, 1, 0, 0], [1, 1, 1, 0]))
    (refused,) = read_frame(planter.store).unreadable
    assert refused.reason == (
        "gives accuracy 0.75, but the record says 0.9; glue/rte has changed since, so that either may be right"
    )


def test_a_wrong_metric_of_the_current_code_gets_no_remark_on_changed_code(planter: Any) -> None:
    code = source_hash("parbench.tasks.glue")
    planter.run(0.9, metric="accuracy", task="glue/rte", task_code=code, rows=rows([1, 0], [1, 1]))
    (refused,) = read_frame(planter.store).unreadable
    assert refused.reason == "gives accuracy 0.5, but the record says 0.9"


def test_not_the_primary_metric_alone_is_recomputed(planter: Any) -> None:
    record = planter.run(0.5, metric="accuracy", task="glue/mrpc", rows=rows([1, 0], [1, 1]))
    honest = {"accuracy": 0.5, "f1": 2 / 3}
    for f1, refused in ((honest["f1"], 0), (0.7, 1)):
        again = replace(record, metrics={**honest, "f1": f1})
        folder = planter.store.workspace(record.run_id)
        rows([1, 0], [1, 1]).to_parquet(folder / PREDICTIONS, index=False)
        planter.store.commit(again, folder)
        assert len(read_frame(planter.store).unreadable) == refused


def test_rows_that_a_task_cannot_score_are_refused(planter: Any) -> None:
    planter.run(0.5, rows=rows([1, 0], [1, 1]).drop(columns="label"))
    (refused,) = read_frame(planter.store).unreadable
    assert refused.reason.startswith("cannot be scored by glue/cola (KeyError")


def test_a_record_that_names_no_rows_is_refused(planter: Any) -> None:
    record = planter.run(0.5)
    nothing = replace(record, metrics={})
    planter.store.commit(nothing, planter.store.workspace(record.run_id))
    assert read_frame(planter.store).unreadable == ()  # it has no metric that rows could confirm
    planter.store.commit(record, planter.store.workspace(record.run_id))
    (refused,) = read_frame(planter.store).unreadable
    assert refused.reason == "is not among the files of its record"


def test_what_is_not_a_table_is_refused(planter: Any) -> None:
    record = planter.run(0.5)
    folder = planter.store.workspace(record.run_id)
    (folder / PREDICTIONS).write_bytes(b"no table")
    planter.store.commit(record, folder)
    (refused,) = read_frame(planter.store).unreadable
    assert refused.reason.startswith("is not a table of rows")


@pytest.mark.usefixtures("_no_figures")
def test_an_unknown_task_is_kept_and_marked(planter: Any) -> None:
    planter.run(0.5, task="outside/task")
    report = write_report(planter.store)
    assert list(report.frame.runs["score"]) == [0.5]
    assert 'there is no task called "outside/task"' in report.frame.runs.loc[0, "unchecked"]
    (warning,) = report.boards[0].warnings
    assert warning.startswith("not recomputed: the scores of outside/task (1 run) are those of the records")
    edit_one_label(file_of(planter, planter.run(0.6, task="outside/task", seed=1)))
    assert len(read_frame(planter.store).unreadable) == 1  # its hash is known whatever its task


def test_a_metric_that_the_task_no_longer_has_is_kept_and_marked(planter: Any) -> None:
    planter.run(0.5, metric="accuracy")
    frame = read_frame(planter.store)
    assert frame.runs.loc[0, "unchecked"] == "glue/cola has no accuracy in this version"


class ByLogits:
    """A task that scores what a run found likely."""

    name, definition, leave_one_out = "glue/cola", None, Task.leave_one_out

    def score(self, predictions: pd.DataFrame) -> dict[str, float]:
        return {"loss": float(np.mean([row[0] for row in predictions["logits"]]))}


@pytest.mark.parametrize(("loss", "refused"), [(2.0, 0), (2.1, 1)])
def test_logits_are_read_for_a_task_that_needs_them(
    planter: Any, monkeypatch: pytest.MonkeyPatch, loss: float, refused: int
) -> None:
    monkeypatch.setattr("parbench.reports.integrity._find_task", lambda spec: ByLogits())
    planter.run(loss, metric="loss", rows=rows([1, 0], [1, 1], logits=[[1.0], [3.0]]))
    assert len(read_frame(planter.store).unreadable) == refused


def test_failed_runs_need_no_rows(planter: Any) -> None:
    planter.run(status=Status.DIVERGED, reason="The loss rose.")
    frame = read_frame(planter.store)
    assert (len(frame.runs), frame.unreadable, frame.left_out) == (1, (), {})


def test_rows_are_kept_by_example_whatever_their_order(planter: Any) -> None:
    labels, predicted = [1, 1, 0, 0, 1], [1, 0, 0, 1, 1]
    table = rows(predicted, labels, logits=[[0.0, 1.0]] * 5)
    accuracy = {"metric": "accuracy", "task": "glue/rte", "score": 0.6}
    first = planter.run(rows=table, **accuracy)
    second = planter.run(rows=table.iloc[::-1], seed=1, **accuracy)
    other = planter.run(rows=table.assign(example=[f"test:{row}" for row in range(5)]), seed=2, **accuracy)
    left_out = read_frame(planter.store).left_out
    found = [left_out[run.run_id] for run in (first, second, other)]
    assert all(isinstance(one, LeftOut) for one in found)
    assert found[0].examples is found[1].examples is not found[2].examples
    np.testing.assert_array_equal(found[0].examples.labels, labels)
    # Without a right one 2 of 4 are right, without a wrong one 3.
    for one in found[:2]:
        np.testing.assert_allclose(one.scores[one.kinds], [0.5, 0.75, 0.5, 0.75, 0.5])
        assert one.kinds.dtype.itemsize == 1
