"""Answers that the runs of a judged task have left in a store, and which of them can be compared pairwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.bench.record.run_spec import canonical
from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.every_budget import once
from parbench.reports.frame import read_frame
from parbench.reports.rows import CONDITION
from parbench.reports.tables import SMALL_LABEL, is_counted
from parbench.tasks import find_task
from parbench.tasks.data.location import DataLocation
from parbench.tasks.judge import QuestionSet
from parbench.tasks.mt_bench import JudgedAnswers

# What must be the same for all runs of a side; differences between the sides are listed.
_SAME = [*CONDITION, "model_revision", "answer_options"]


@dataclass(frozen=True)
class Answered:
    """What one side has answered.

    Attributes:
        name: the row of the leaderboards that the runs are in.
        runs: id of the run of each seed.
        answers: by seed and question id, one text per turn.
    """

    name: str
    runs: Mapping[int, str]
    answers: Mapping[int, Mapping[int, tuple[str, ...]]]


@dataclass(frozen=True)
class Pairing:
    """Two sides whose answers can be compared.

    Attributes:
        task: name of the task.
        questions: what both have answered, and what judges it.
        a: the one side.
        b: the other.
        label: a sentence that must stand wherever the numbers stand, or ``None``.
        notes: what was not the same on both sides.
    """

    task: str
    questions: QuestionSet
    a: Answered
    b: Answered
    label: str | None
    notes: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that both sides have, ascending."""
        return tuple(sorted(self.a.answers.keys() & self.b.answers.keys()))

    @property
    def judgments(self) -> int:
        """Judgments that one repeat takes: of every turn, in both orders."""
        return 2 * len(self.seeds) * sum(len(question.turns) for question in self.questions.questions)


def pair_answers(store: Store, task: str, a: str, b: str, data_root: Path | None = None) -> Pairing:
    """Find the answers of two sides, seed by seed, and the questions that they answer.

    Args:
        store: what holds the runs; only what a report would count is compared.
        task: a task whose answers are judged.
        a: a method, a row of a leaderboard (``lora (rank=4)``), or ids of runs with commas between them.
        b: the other side, likewise.
        data_root: where the runs had their data from, if they had any given.

    Raises:
        UserError: the task has no judged answers, a side has no runs or runs of several kinds, there is no common
            seed, or data and questions are not those of the runs.
    """
    answering = find_task(task)
    if not isinstance(answering, JudgedAnswers):
        raise UserError(f'"{task}" has no answers to be judged; name mt_bench, vicuna_bench or mt_bench_mini')
    frame = read_frame(store)
    counted = once(frame.runs[is_counted(frame.runs) & (frame.runs["task"] == task)])
    if counted.empty:
        refused = f"; {len(frame.unreadable)} records of the store were refused" if frame.unreadable else ""
        raise UserError(f'no run of {task} in "{store.root}" has left answers{refused}; do one with bench run')
    counted = counted.assign(answer_options=[_answer_options(options) for options in counted["options"]])
    first, second = (_runs_of(counted, name) for name in (a, b))
    if set(first["run_id"]) & set(second["run_id"]):
        raise UserError(f'"{a}" and "{b}" are the same runs; give two sides')
    questions = _questions(store, answering, pd.concat([first, second]), data_root)
    sides = (_answered(store, first), _answered(store, second))
    asked = {frozenset(answers) for side in sides for answers in side.answers.values()}
    if len(asked) > 1:
        raise UserError(f'"{a}" and "{b}" have not answered the same questions; run them with the same limit')
    label = SMALL_LABEL if first["small"].any() or second["small"].any() else None
    pairing = Pairing(task, questions.select(*asked), *sides, label, tuple(_differences(first, second)))
    if not pairing.seeds:
        seeds = [", ".join(map(str, side.answers)) for side in sides]
        raise UserError(
            f'"{a}" (seeds {seeds[0]}) and "{b}" (seeds {seeds[1]}) have no seed in common; run one with the other\'s'
        )
    return pairing


def _runs_of(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the runs of a side, one per seed.

    Raises:
        UserError: there are none, or they are of several kinds.
    """
    named = next((runs[runs[column] == name] for column in ("row", "method") if (runs[column] == name).any()), None)
    found = _by_ids(runs, name) if named is None else named
    mixed = [column for column in (*_SAME, "row") if len(found[column].unique()) > 1]
    if not mixed and found["seed"].duplicated().any():
        mixed = ["the versions of data or code"]
    if mixed:
        ids = ", ".join(f"{run} (seed {seed})" for run, seed in zip(found["run_id"], found["seed"], strict=True))
        raise UserError(
            f'the runs of "{name}" differ in {", ".join(mixed)}; name those to compare by their ids, with commas '
            f"between them: {ids}"
        )
    return found


def _by_ids(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    places = []
    for prefix in (part.strip() for part in name.split(",")):
        matches = runs.index[runs["run_id"].str.startswith(prefix)] if prefix else runs.index[:0]
        if len(matches) != 1:
            known = [*runs["method"].unique(), *runs["row"].unique(), *runs["run_id"]]
            what = f"several runs begin with {prefix}" if len(matches) else f'there are no runs of "{prefix}"'
            raise UserError(f"{what}{did_you_mean(prefix, known)}")
        places.append(matches[0])
    return runs.loc[list(dict.fromkeys(places))]


def _answer_options(options: Any) -> str:
    """Return what of a run's options changes its answers: all but how those were judged."""
    given = {} if pd.isna(options) else json.loads(options)
    return canonical({name: value for name, value in given.items() if not name.startswith("judge")})


def _questions(store: Store, answering: JudgedAnswers, runs: pd.DataFrame, data_root: Path | None) -> QuestionSet:
    """Return the questions of a task, once it is sure that they are those that the runs have answered."""
    name = answering.name
    task = answering.configured(json.loads(runs["answer_options"].iloc[0]))
    root = None if data_root is None else str(data_root)
    source = DataLocation("hub", str(store.lock_file), root).source(task)
    here = task.revision(source)
    if other := sorted(set(runs["data_revision"]) - {here}):
        raise UserError(
            f"the data and questions of {name} are not those of the runs (here {here}, there {', '.join(other)}); give "
            "the --data-root that the runs were given, or run both sides again"
        )
    return task.question_set(source)


def _answered(store: Store, runs: pd.DataFrame) -> Answered:
    answers = {}
    for seed, run_id in zip(runs["seed"], runs["run_id"], strict=True):
        rows = pd.read_parquet(store.runs / run_id / PREDICTIONS, columns=["example", "answers"])
        # The example's name is that of the set, a colon, and FastChat's number.
        numbers = (int(str(name).rpartition(":")[2]) for name in rows["example"])
        answers[int(seed)] = {number: tuple(texts) for number, texts in zip(numbers, rows["answers"], strict=True)}
    names = {int(seed): str(run_id) for seed, run_id in zip(runs["seed"], runs["run_id"], strict=True)}
    return Answered(str(runs["row"].iloc[0]), names, answers)


def _differences(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Return what was not the same on both sides."""
    first, second = a.iloc[0], b.iloc[0]

    def text(value: Any) -> str:
        return "none" if pd.isna(value) else str(value)

    differ = [
        f"{name} ({text(first[name])}, {text(second[name])})"
        for name in _SAME
        if text(first[name]) != text(second[name])
    ]
    notes = [f"Not the same on both sides: {', '.join(differ)}."] if differ else []
    for runs, other in ((a, b), (b, a)):
        if alone := sorted(set(runs["seed"]) - set(other["seed"])):
            seeds = ", ".join(map(str, alone))
            notes.append(f"Only {runs['row'].iloc[0]} has seeds {seeds}; they are not compared.")
    return notes
