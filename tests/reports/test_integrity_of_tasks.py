"""Records are scored again by the task as it was configured or defined, from the columns that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from parbench.bench.record.run_record import RunRecord
from parbench.bench.util.errors import UserError
from parbench.reports.frame import Frame, read_frame
from parbench.reports.jackknife import LeftOut
from parbench.reports.leaderboard import leaderboards
from parbench.tasks import TASKS
from parbench.tasks.base import Task
from parbench.tasks.options import TaskOptions

DEFINITION = {
    "name": "my/reviews",
    "kind": "classification",
    "reference": {"title": "Reviews of our shop", "year": 2026, "venue": "own data"},
    "licence": "CC BY 4.0",
    "data": {"folder": "reviews", "train": "train.csv", "reported": "test.csv"},
    "texts": ["review"],
    "label": "stars",
    "labels": ["bad", "good"],
    "metrics": ["accuracy"],
}


def names(count: int) -> list[str]:
    return [f"test:{number:02}" for number in range(count)]


def classified(labels: list[int], predicted: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"example": names(len(labels)), "subset": "", "label": labels, "prediction": predicted})


def test_a_task_of_a_file_is_scored_from_its_definition(planter: Any) -> None:
    rows = classified([0, 1, 1, 0], [0, 1, 0, 0])
    spec = {"task": "my/reviews", "definition": DEFINITION, "metric": "accuracy", "rows": rows}
    good = planter.run(0.75, **spec)
    planter.run(0.8, seed=1, **spec)
    frame = read_frame(planter.store)
    assert frame.runs["run_id"].tolist() == [good.run_id]
    assert frame.runs["unchecked"].isna().all()
    (refused,) = frame.unreadable
    assert refused.reason.startswith("gives accuracy 0.75, but the record says 0.8")
    assert isinstance(frame.left_out[good.run_id], LeftOut)


def test_a_definition_that_is_none_is_kept_and_marked(planter: Any) -> None:
    planter.run(0.75, task="my/reviews", definition={"kind": "nothing"}, metric="accuracy")
    frame = read_frame(planter.store)
    assert frame.unreadable == ()
    assert "the definition of the task" in frame.runs.loc[0, "unchecked"]


class Options(TaskOptions):
    """What counts."""

    factor: int = 1


class Configured:
    """A task whose option is a factor of its score, and which needs a package that may not be there."""

    name, definition, leave_one_out = "outside/configured", None, Task.leave_one_out

    def __init__(self, factor: int = 1, error: Exception | None = None) -> None:
        self.factor, self.error = factor, error
        self.columns: list[list[str]] = []

    def configured(self, options: Mapping[str, Any]) -> Configured:
        if "unknown" in options:
            raise UserError("there is no option unknown")
        return Configured(options.get("factor", 1), self.error)

    def score(self, predictions: pd.DataFrame) -> dict[str, float]:
        self.columns.append(list(predictions))
        if self.error is not None:
            raise self.error
        return {"rating": self.factor * float(predictions["rating"].mean())}


def rated(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"example": names(len(values)), "subset": "", "rating": values, "text": "well written"})


def register(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    monkeypatch.setattr("parbench.reports.integrity.find_task", lambda name, definition=None: task)
    monkeypatch.setattr(type(TASKS), "__contains__", lambda self, name: True)


def plant(planter: Any, score: float, rows: pd.DataFrame, **spec: Any) -> RunRecord:
    record: RunRecord = planter.run(score, metric="rating", task="outside/configured", rows=rows, **spec)
    return record


def test_each_run_is_scored_with_its_options(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rated([1.0, 2.0, 6.0])
    kept = [plant(planter, 3.0, rows), plant(planter, 6.0, rows, options={"factor": 2})]
    refused = plant(planter, 3.0, rows, options={"factor": 3})
    marked = plant(planter, 3.0, rows, options={"unknown": 1})
    register(monkeypatch, Configured())
    monkeypatch.setattr("parbench.reports.integrity.task_code", lambda task: "other")
    frame = read_frame(planter.store)
    reasons = frame.runs.set_index("run_id")["unchecked"]
    assert set(reasons.index[reasons.isna()]) == {run.run_id for run in kept}
    assert reasons[marked.run_id] == "there is no option unknown"
    (entry,) = frame.unreadable
    assert entry.path.parent.name == refused.run_id
    (board,) = leaderboards(frame)
    assert board.scores.head[2:] == (
        "outside/configured (factor unset, unknown unset) (rating, as is)",
        "outside/configured (factor unset, unknown=1) (rating, as is)",
        "outside/configured (factor=2, unknown unset) (rating, as is)",
    )


@pytest.mark.parametrize("error", [UserError("install java"), ModuleNotFoundError("No module named 'sacrebleu'")])
def test_what_cannot_be_scored_here_is_kept_and_marked(
    planter: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run = plant(planter, 3.0, rated([3.0]))
    harmed = plant(planter, 3.0, rated([3.0]), seed=1)
    path = planter.store.runs / harmed.run_id / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    register(monkeypatch, Configured(error=error))
    frame = read_frame(planter.store)
    reason = f"outside/configured cannot score them here: {error}"
    assert frame.runs["unchecked"].tolist() == [reason]
    assert frame.left_out == {run.run_id: reason}
    assert [entry.path.parent.name for entry in frame.unreadable] == [harmed.run_id]  # its hash is known without
    (warning,) = leaderboards(frame)[0].warnings
    assert warning.endswith(f"because {reason}.")


class Reading:
    """Notes which columns of a file are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.columns: list[set[str]] = []
        read = pq.ParquetFile.read

        def noted(file: pq.ParquetFile, columns: list[str] | None = None, **rest: Any) -> Any:
            table = read(file, columns, **rest)
            self.columns.append(set(table.column_names))
            return table

        monkeypatch.setattr(pq.ParquetFile, "read", noted)


def test_texts_are_not_read_for_a_task_that_scores_numbers(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rated([1.0, 2.0, 6.0]).assign(logits=[[0.1, 0.2]] * 3)
    for seed in range(3):
        plant(planter, 3.0, rows, seed=seed)
    register(monkeypatch, Configured())
    reading = Reading(monkeypatch)
    frame = read_frame(planter.store)
    assert reading.columns == [{"example", "subset", "rating"}] * 3
    (board,) = leaderboards(frame)
    assert board.ranking.columns["outside/configured", "rating"].standings["lora"].estimate.n == 3


class ByText(Configured):
    """A task that scores texts, if there are any."""

    def configured(self, options: Mapping[str, Any]) -> ByText:
        return self

    def score(self, predictions: pd.DataFrame) -> dict[str, float]:
        if "text" not in predictions:
            return {}
        return {"rating": float(predictions["text"].str.len().mean())}


def test_texts_are_read_for_a_task_that_scores_them_and_asked_for_once(
    planter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rated([1.0, 2.0]).assign(text=["a", "abc"], steps=[[1], [2]])
    for seed in range(3):
        plant(planter, 2.0, rows, seed=seed)
    register(monkeypatch, ByText())
    reading = Reading(monkeypatch)
    frame = read_frame(planter.store)
    assert (len(frame.runs), len(frame.unreadable)) == (3, 0)
    numbers = {"example", "subset", "rating"}
    every = numbers | {"text", "steps"}
    assert reading.columns == [numbers, numbers | {"steps"}, every, every, every]


def test_generated_texts_have_intervals_and_ranks(planter: Any) -> None:
    """A task of the registry, whose score is a corpus metric, from end to end."""
    definition = {
        **{name: DEFINITION[name] for name in ("reference", "licence", "data")},
        "name": "my/answers",
        "kind": "text_generation",
        "prompt": "{question}",
        "response": "{answer}",
        "metrics": ["rouge_l", "exact_match"],
    }
    for number, method in enumerate(("a", "b")):
        for seed in range(3):
            draw = np.random.default_rng([seed, number])
            values = np.clip(0.4 + 0.3 * number + draw.normal(0, 0.05, 20), 0, 1)
            rows = rated(values.tolist()).rename(columns={"rating": "rouge_l"}).assign(exact_match=0.0)
            others = {"exact_match": 0.0}
            spec = {"metric": "rouge_l", "task": "my/answers", "definition": definition, "others": others}
            planter.run(float(values.mean()), rows=rows, method=method, method_code=method, seed=seed, **spec)
    frame: Frame = read_frame(planter.store)
    assert frame.unreadable == ()
    assert frame.runs["unchecked"].isna().all()
    (board,) = leaderboards(frame)
    a, b = board.scores.rows
    assert "[2]" in a[2]
    assert "[1]" in b[2]
    assert board.scores.bold == {(1, 2)}


def test_no_text_is_kept(planter: Any, tmp_path: Path) -> None:
    planter.run(0.75, metric="accuracy", task="glue/rte", rows=classified([0, 1, 1, 0], [0, 1, 0, 0]))
    (found,) = read_frame(planter.store).left_out.values()
    assert isinstance(found, LeftOut)
    kept = [found.by_subset, found.scores, found.kinds, found.examples.subsets, found.examples.labels]
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "iuf" for array in kept)
