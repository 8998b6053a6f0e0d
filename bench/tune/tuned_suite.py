"""The suite that a study's results make."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.suite import Suite, TaskLayer, Tuning, load_suite, suite_text
from parbench.bench.store.layout import ASIDE, LOCK
from parbench.bench.tune.study import SAMPLER_SEED, StudyResult, TuningBudget
from parbench.bench.util.errors import UserError
from parbench.bench.util.file_lock import file_lock
from parbench.bench.util.files import explained, write_atomically


def tuned_suite(suite: Suite, overrides: Overrides, effort: TuningBudget, found: Iterable[StudyResult]) -> Suite:
    """Return the suite with the best settings laid over its own, task by task, and how they were found."""
    found = list(found)
    by_task = dict(suite.by_task)
    (budget,) = {one.study.budget for one in found}
    base_precisions = overrides.base_precisions or suite.base_precisions
    # The command line goes before what the suite sets for a task, also when the tuned suite is run later.
    overridden = {
        name: None for name in ("base_model", "seeds", "limit", "evaluation_limit") if getattr(overrides, name)
    }
    by_task = {name: layer.model_copy(update=overridden) for name, layer in by_task.items()}
    notes: dict[str, dict[str, Any]] = {}
    for tuned in found:
        name, task, best = tuned.study.method.name, tuned.study.task, tuned.best
        notes.setdefault(task, {})[name] = _note(tuned)
        if best is not None:
            layer = by_task.get(task, TaskLayer())
            settings = {**layer.settings, name: {**layer.settings.get(name, {}), **best.changes}}
            by_task[task] = layer.model_copy(update={"settings": settings})
    base_model = overrides.base_model or suite.base_model
    changes = {
        "name": f"{suite.name}-tuned",
        "budget": budget,
        "base_model": base_model,
        "base_precisions": base_precisions,
        "methods": overrides.methods or suite.methods,
        "tasks": tuple(notes),
        "seeds": overrides.seeds or suite.seeds,
        "limit": overrides.limit or suite.limit,
        "evaluation_limit": overrides.evaluation_limit or suite.evaluation_limit,
        "protocol": overrides.protocol or suite.protocol,
        "by_kind": {kind: layer.model_copy(update=overridden) for kind, layer in suite.by_kind.items()},
        "by_task": by_task,
        "tuning": Tuning(
            trials=effort.trials,
            selection_seeds=effort.seeds,
            sampler=effort.sampler,
            sampler_seed=SAMPLER_SEED,
            base_model=base_model,
            budget=budget,
            base_precision=base_precisions[0],
            sets=overrides.sets,
            found=notes,
        ),
    }
    return suite.model_copy(update=changes)


@dataclass(frozen=True)
class Written:
    """What `write_tuned` wrote.

    Attributes:
        suite: what is in the file now: what was there and what is new, where both were tuned under the same conditions.
        kept: where an earlier suite is now that was tuned under other conditions; ``None`` where nothing of it is lost.
    """

    suite: Suite
    kept: Path | None = None


def write_tuned(suite: Suite, path: Path) -> Written:
    """Write a tuned suite, merged with the one that is there; several processes may do so at once.

    One that was tuned under other conditions cannot be merged, since tuning is equal: it is kept among what was
    replaced, unless the same was tuned again with more trials.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    with explained(path), file_lock(path.with_name(LOCK)):
        earlier = read_tuned(path)
        both = merged(earlier, suite) if earlier else None
        kept = None
        if earlier is not None and both is None and not _supersedes(suite, earlier):
            kept = path.parent / ASIDE / f"{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}"
            kept.parent.mkdir(exist_ok=True)
            write_atomically(kept, suite_text(earlier))
        write_atomically(path, suite_text(both or suite))
    return Written(both or suite, kept)


def read_tuned(path: Path) -> Suite | None:
    """Return the tuned suite that is there, or ``None``.

    Raises:
        UserError: it is damaged, or of another version.
    """
    if not path.exists():
        return None
    try:
        return load_suite(str(path))
    except UserError as error:
        raise UserError(f"{error}; results cannot be added to it: move the file away, or give another --out") from error


def merged(earlier: Suite, new: Suite) -> Suite | None:
    """Return what two tunings found, the new one first; ``None`` where their conditions differ."""

    if earlier.tuning is None or new.tuning is None or _conditions(earlier) != _conditions(new):
        return None
    by_task, found = dict(earlier.by_task), dict(earlier.tuning.found)
    for task, notes in new.tuning.found.items():
        old, layer = by_task.get(task, TaskLayer()), new.by_task.get(task, TaskLayer())
        by_task[task] = layer.model_copy(update={"settings": {**old.settings, **layer.settings}})
        found[task] = {**found.get(task, {}), **notes}
    return new.model_copy(
        update={
            "methods": tuple(dict.fromkeys((*earlier.methods, *new.methods))),
            "tasks": tuple(dict.fromkeys((*earlier.tasks, *new.tasks))),
            "by_task": by_task,
            "tuning": new.tuning.model_copy(update={"found": found}),
        }
    )


def _conditions(suite: Suite, besides: Iterable[str] = ()) -> dict[str, Any]:
    """Return under what a suite was tuned, without some fields of its tuning."""
    what = {"methods", "tasks", "seeds", "protocol", "by_task"}
    left_out: Any = {**dict.fromkeys(what, True), "tuning": {"found", *besides}}
    return suite.model_dump(mode="json", exclude=left_out)


def _supersedes(new: Suite, earlier: Suite) -> bool:
    """Return whether a tuning found all that an earlier one did, with more trials."""
    if earlier.tuning is None or new.tuning is None or new.tuning.trials <= earlier.tuning.trials:
        return False
    before, now = (
        {(task, method) for task, methods in tuning.found.items() for method in methods}
        for tuning in (earlier.tuning, new.tuning)
    )
    return before <= now and _conditions(new, ["trials"]) == _conditions(earlier, ["trials"])


def _note(tuned: StudyResult) -> dict[str, Any]:
    """Return a study as what YAML can hold."""
    best = tuned.best
    return {
        "best": best.number if best else None,
        "score": best.score if best else None,
        "metric": tuned.metric,
        "tied": [trial.number for trial in tuned.tied],
        "at_bounds": tuned.at_bounds,
        "space": {axis.field: [axis.low, axis.high] for axis in tuned.study.space},
        "trials": [
            {**trial.point, "score": trial.score, **({"reason": trial.reason} if trial.reason else {})}
            for trial in tuned.trials
        ],
    }
