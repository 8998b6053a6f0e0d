"""Which specs, code, revisions, versions and hardware two sets of runs do not share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.frame import LIBRARIES
from parbench.reports.rows import flatten
from parbench.reports.tables import NOTHING

_SPEC = [
    "suite",
    "budget",
    "base_precision",
    "data_source",
    "data_revision",
    "model_revision",
    "method_code",
    "task_code",
    "harness_code",
]


@dataclass(frozen=True)
class Difference:
    """What was not the same on the two sides, as text; several values where a side has several."""

    what: str
    a: str
    b: str


def spec_differences(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[Difference]:
    """Yield the fields that have not the same values on the two sides, task by task."""
    sides = [_flat(runs) for runs in (a, b)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        values = [side.get(name, {}) for side in sides]
        if values[0] != values[1]:
            yield Difference(name, *(_listed(value) for value in values))


def _flat(runs: pd.DataFrame) -> dict[str, dict[str, set[str]]]:
    """Return the values of every field, by field and task."""
    found: dict[str, dict[str, set[str]]] = {}
    columns = [*_SPEC, *(f"version/{name}" for name in LIBRARIES)]
    columns += sorted(name for name in runs.columns if name.startswith("hardware/"))
    for _, run in runs.iterrows():
        fields: Mapping[str, Any] = flatten(json.loads(run["setting"]), json.loads(run["training"]))
        for name, value in (*fields.items(), *((name, run[name]) for name in columns)):
            if not pd.isna(value):
                found.setdefault(name, {}).setdefault(run["task"], set()).add(str(value))
    return found


def _listed(by_task: Mapping[str, set[str]]) -> str:
    values = sorted({value for values in by_task.values() for value in values})
    return ", ".join(values) or NOTHING
