"""What a claim's set-up makes of the runs of a side, and in what another run differs from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.bench.plan.overrides import NO_BUDGET
from parbench.bench.plan.resolve import Resolver
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_spec import Json, canonical
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import FLOAT32
from parbench.methods.base import Method, Setting
from parbench.reports.claims.claim import SetUp, Side
from parbench.reports.claims.planning import side_overrides
from parbench.tasks.base import Task
from parbench.tasks.data.lock import RevisionLock

Run = Mapping[Any, Any]


@dataclass(frozen=True)
class Condition:
    """What all runs of a side on a task have in common: what the planner makes of the claim and its suite.

    Attributes:
        method: of the side, with its modifiers.
        task: under the options of the set-up.
        fixed: by column of a frame, values that are compared as they are.
        budget: as the claim has it.
        setting: hyper-parameters of the method; a budget replaces the size in them.
        training: of the runs.
    """

    method: Method[Any]
    task: Task
    fixed: Mapping[str, Any]
    budget: str
    setting: Setting
    training: TrainingSettings

    @classmethod
    def of(cls, side: Side, here: SetUp, task: str) -> Condition:
        """Resolve a side of a claim on a task, which has the name that records have.

        Raises:
            UserError: the suite, the method, the base model or a setting of the claim is not known here.
        """
        suite, overrides = load_suite(here.suite), side_overrides(side, here)
        resolver = Resolver(suite, overrides, RevisionLock(Path()))  # nothing is looked up
        choice = resolver.methods[side.method]
        found = next(resolver.configured(plain) for plain in resolver.asked_tasks.values() if plain.name == task)
        setting, training = resolver.resolved(side.method, found)
        fixed = {
            "protocol": resolver.protocol.value,
            "base_precision": FLOAT32,
            "base_model": resolver.base_model(found).name,
            "train_fraction": overrides.train_fractions[0],
            **resolver.limits(found)._asdict(),
        }
        return cls(choice.method, found, fixed, side.budget or here.budget, setting, training)

    def differences(self, run: Run) -> tuple[str, ...]:
        """Return in words what a run of the method on the task has otherwise; nothing if it is one of the side's."""
        return tuple(self._differences(run))

    def _differences(self, run: Run) -> Iterator[str]:
        for name, wanted in self.fixed.items():
            if not _same(run[name], wanted):
                yield _otherwise(name, run[name], wanted)
        # A method of fixed size is run without the budget.
        asked: str = NO_BUDGET if pd.isna(run["budget"]) else str(run["budget"]).partition(": ")[0]
        if asked != self.budget and not (asked == NO_BUDGET and self.method.size_knob is None):
            yield _otherwise("budget", asked, self.budget)
        size = self.method.size_knob.field if self.method.size_knob and self.budget != NO_BUDGET else None
        yield from _changed(self.method.setting_type, json.loads(run["setting"]), self.setting, size)
        yield from _changed(TrainingSettings, json.loads(run["training"]), self.training, prefix="train.")
        options: Json = {} if pd.isna(run["options"]) else json.loads(run["options"])
        yield from _changed(type(self.task.options), options, self.task.options)


def _same(value: Any, wanted: Any) -> bool:
    if pd.isna(value) or wanted is None:
        return bool(pd.isna(value)) and wanted is None
    return abs(value - wanted) < 1e-9 if isinstance(wanted, float) else bool(value == wanted)


def _changed(kind: Any, known: Json, wanted: Any, besides: str | None = None, prefix: str = "") -> Iterator[str]:
    """Yield what values of a record are not as wanted; those that it lacks have their defaults."""
    deciding = getattr(kind, "deciding", lambda values: values.model_dump(mode="json"))
    after = deciding(wanted)
    try:
        before = deciding(kind.model_validate(known))
    except ValueError:  # of another version, which had other fields
        before = known
    for name in dict.fromkeys((*after, *before)):
        pair = before.get(name), after.get(name)
        if name != besides and canonical(pair[0]) != canonical(pair[1]):
            yield _otherwise(f"{prefix}{name}", *pair)


def _otherwise(name: str, value: Any, wanted: Any) -> str:
    return f"{name} {_text(value)} instead of {_text(wanted)}"


def _text(value: Any) -> str:
    missing = pd.api.types.is_scalar(value) and pd.isna(value)
    return "none" if missing else str(value)
