"""Which runs of a store are those of a claim's sides."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.names import expand_tasks
from parbench.bench.plan.overrides import NO_BUDGET, TRAINING, read_sets
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_spec import Json, canonical
from parbench.bench.train.protocol import Protocol
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import FLOAT32
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.expression import ResolvedMethod
from parbench.reports.claims.claim import SetUp, Side
from parbench.reports.tables import how_ended, is_counted
from parbench.tasks import find_task

# What the runs of a side have in common on a task; the rest of what may differ is in the id of the setting.
_FIXED = ["setting_id", "base_model", "limit", "evaluation_limit", "options", "data_revision", "model_revision"]


@dataclass(frozen=True)
class SideRuns:
    """The runs of a side on a task.

    Attributes:
        runs: the frame's, one per seed of the set-up; empty where ``reason`` says why they cannot be judged.
        reason: a part of a sentence, or ``None``.
        is_missing: whether no run of the side was done.
    """

    runs: pd.DataFrame
    reason: str | None = None
    is_missing: bool = False


def tasks_of(here: SetUp) -> list[str]:
    """Return the tasks of a set-up by the names that records have, with groups expanded.

    Raises:
        UserError: there is no such task.
    """
    return [find_task(name).name for name in expand_tasks(here.tasks)]


def runs_of_side(
    runs: pd.DataFrame, side: Side, here: SetUp, task: str, metric: str | None, declared: Collection[str]
) -> SideRuns:
    """Return the runs of a side on a task.

    They are found by their specs: method, task, base model, budget, share of the training split, steps and whatever
    hyper-parameters the claim sets. Where some of those are among the ``declared`` ones, the others are left aside.

    Args:
        runs: the frame's.
        side: of the claim.
        here: the claim's set-up.
        task: by its name in records.
        metric: the one that is judged; ``None`` for the primary one.
        declared: ids of the runs that were planned for the claim.

    Raises:
        UserError: the method, the base model or a setting of the claim is not known here.
    """
    found = runs[_matches(runs, side, here, task)]
    planned = found[found["run_id"].isin(declared)]
    found = planned if len(planned) else found
    found = found[found["seed"].isin(here.seeds)]
    name = f"{side.method} on {task}"
    if found.empty:
        return SideRuns(found, f"{name} was not run", is_missing=True)
    varied = [column for column in _FIXED if len(found[column].unique()) > 1]
    if varied:
        what = "settings" if varied == ["setting_id"] else ", ".join(varied).replace("setting_id", "setting")
        reason = f"the store has runs of {name} with several {what}, none of them planned for it"
        return SideRuns(found.iloc[:0], reason)
    if found["seed"].duplicated().any():
        return SideRuns(found.iloc[:0], f"the store has several runs of {name} with one seed")
    found = _scored_by(found, metric)
    lacking = _lacking(found, here)
    return SideRuns(found.iloc[:0], f"{name} has no score for {lacking}") if lacking else SideRuns(found)


def _scored_by(runs: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """Return runs by their primary metric; by another there is no score."""
    if metric is None:
        return runs
    return runs.assign(score=runs["score"].where(runs["metric"] == metric))


def _lacking(found: pd.DataFrame, here: SetUp) -> str:
    """Return in words which seeds of the set-up have no score, and why; empty where all have one."""
    unscored = (found["status"] == "ok") & ~is_counted(found) & found["reason"].notna()
    ended = dict(zip(found["seed"], how_ended(found).mask(unscored, found["reason"]), strict=True))
    scored = set(found.loc[is_counted(found), "seed"])
    lacking = [seed for seed in here.seeds if seed not in scored]
    return ", ".join(f"seed {seed} ({ended.get(seed, 'not run')})" for seed in lacking)


def _matches(runs: pd.DataFrame, side: Side, here: SetUp, task: str) -> pd.Series[bool]:
    choice = find_method(side.method)
    asked = side.budget or here.budget
    share = side.train_fraction or here.train_fraction
    found = (runs["method"] == choice.method.name) & (runs["task"] == task)
    found &= (runs["protocol"] == Protocol.STRICT.value) & (runs["base_precision"] == FLOAT32)
    found &= (runs["train_fraction"] - share).abs() < 1e-9
    if asked == NO_BUDGET:
        found &= runs["budget"].isna()
    else:
        at_budget = runs["budget"].str.startswith(f"{asked}: ").fillna(False).astype("bool")
        # A method of fixed size is run without the budget.
        found &= at_budget | (runs["budget"].isna() & (choice.method.size_knob is None))
    if (model := _base_model(here, task)) is not None:
        found &= runs["base_model"] == model
    wanted = _wanted(choice, side, here, task)
    kept = runs.index[found.to_numpy(dtype="bool")]
    values = runs.loc[kept, ["setting", "training", "options"]].to_dict("records")
    fitting = [place for place, run in zip(kept, values, strict=True) if _fits(choice, wanted, run)]
    return pd.Series(runs.index.isin(fitting), index=runs.index, dtype="bool")


def _base_model(here: SetUp, task: str) -> str | None:
    """Return the name of the base model; ``None`` where the claim leaves it to a suite that is not known here."""
    try:
        if here.base_model is not None:
            return find_model(here.base_model).name
    except UserError:  # a folder of another machine
        return Path(str(here.base_model)).name
    try:
        return find_model(load_suite(here.suite).on(find_task(task), "base_model")).name
    except UserError:  # of another machine; runs with several base models are refused below
        return None


@dataclass(frozen=True)
class _Wanted:
    """The values that a side sets."""

    setting: Json
    training: Json
    options: Json


def _wanted(choice: ResolvedMethod, side: Side, here: SetUp, task: str) -> _Wanted:
    methods = choice.setting_names
    tasks = dict.fromkeys((task.partition("/")[0], task))
    others = {text.partition(".")[0] for text in (*here.sets, *side.sets)}
    sets = read_sets((*here.sets, *side.sets), [*methods, *tasks, *others])
    steps = side.steps or here.steps
    training = {**sets.get(TRAINING, {}), **({"max_steps": steps} if steps else {})}
    setting = {**choice.values, **_joined(sets, methods)}  # noqa: PD011 -- not pandas'
    return _Wanted(setting, training, _joined(sets, tasks))


def _joined(sets: Mapping[str, Json], owners: Collection[str]) -> Json:
    return {name: value for owner in owners for name, value in sets.get(owner, {}).items()}


def _fits(choice: ResolvedMethod, wanted: _Wanted, run: Mapping[Any, Any]) -> bool:
    """Return whether a run already has every value that the claim sets."""
    setting, training = json.loads(run["setting"]), json.loads(run["training"])
    options = {} if pd.isna(run["options"]) else json.loads(run["options"])
    asked = {name: canonical(value) for name, value in wanted.options.items()}
    kept = all(name in options and canonical(options[name]) == text for name, text in asked.items())
    try:
        return (
            kept
            and _unchanged(choice.method.setting_type, setting, wanted.setting)
            and _unchanged(TrainingSettings, training, wanted.training)
        )
    except ValueError:  # values that exclude each other, such as steps and epochs
        return False


def _unchanged(kind: Any, known: Json, values: Json) -> bool:
    """Return whether values laid over known ones change nothing."""
    if not values:
        return True
    before, after = (kind.model_validate(one).model_dump(mode="json") for one in (known, {**known, **values}))
    return all(canonical(before[name]) == canonical(after[name]) for name in before)
