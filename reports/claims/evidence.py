"""Which runs of a store are those of a claim's sides."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas as pd

from parbench.bench.plan.names import expand_tasks
from parbench.reports.claims.claim import SetUp, Side
from parbench.reports.claims.condition import Condition
from parbench.reports.tables import how_ended, is_counted
from parbench.tasks import find_task

# What both sides have in common on a task; what else they may differ in is what the claim is about.
_SHARED = ("base_model", "limit", "evaluation_limit", "data_revision", "model_revision")


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
    runs: pd.DataFrame, side: Side, here: SetUp, task: str, metric: str | None, declared: Collection[str] | None
) -> SideRuns:
    """Return the runs of a side on a task.

    Of a declared claim they are those that were planned for it, and no others. Else they are found by their specs: all
    that the claim and its suite, as it is now, decide must be as there, but the code and the revisions.

    Args:
        runs: the frame's.
        side: of the claim.
        here: the claim's set-up.
        task: by its name in records.
        metric: the one that is judged; ``None`` for the primary one.
        declared: ids of the runs that were planned for the side; ``None`` if the claim was not declared.

    Raises:
        UserError: the suite, the method, the base model or a setting of the claim is not known here.
    """
    name = f"{side.method} on {task}"
    on_task = runs[(runs["task"] == task) & runs["seed"].isin(here.seeds)]
    if declared is not None:
        found, others = on_task[on_task["run_id"].isin(declared)], ""
    else:
        found, others = _fitting(on_task, Condition.of(side, here, task))
    if found.empty:
        return SideRuns(found, f"{name} was not run{others}", is_missing=not others)
    if varied := _varied([found]):
        return SideRuns(found.iloc[:0], f"the store has runs of {name} with several values of {varied}")
    if found["seed"].duplicated().any():
        return SideRuns(found.iloc[:0], f"the store has several runs of {name} with one seed")
    found = _scored_by(found, metric)
    lacking = _lacking(found, here)
    return SideRuns(found.iloc[:0], f"{name} has no score for {lacking}") if lacking else SideRuns(found)


def unlike(sides: Iterable[SideRuns], task: str) -> str | None:
    """Return why the sides of a claim cannot be compared on a task, though each by itself has its runs; or ``None``."""
    varied = _varied([side.runs for side in sides])
    return f"the runs compared on {task} differ in {varied}" if varied else None


def _varied(parts: Iterable[pd.DataFrame]) -> str:
    joined = pd.concat([part[list(_SHARED)].astype("object") for part in parts])
    return ", ".join(name for name in _SHARED if len(joined[name].unique()) > 1)


def _fitting(runs: pd.DataFrame, wanted: Condition) -> tuple[pd.DataFrame, str]:
    """Return the runs of a condition; where there are none, in words what the nearest of its method have otherwise."""
    own = runs[runs["method"] == wanted.method.name]
    found: list[tuple[str, ...]] = [wanted.differences(run) for run in own.to_dict("records")]
    fitting = own[[not differences for differences in found]]
    if len(fitting) or not found:
        return fitting, ""
    nearest = min(found, key=len)
    return fitting, f" with this set-up (the store has it with {', '.join(nearest)})"


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
