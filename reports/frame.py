"""The store as a tidy pandas frame: one row per run, nothing averaged, and nothing omitted but what is listed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from parbench.bench.plan.suite import Suite
from parbench.bench.record.run_record import Cost, ParameterCounts, RunRecord, Status
from parbench.bench.record.run_spec import Json, RunSpec, digest
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.base_precision import FLOAT32
from parbench.bench.util.errors import UserError
from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.every_budget import at_every_budget
from parbench.reports.examples import KnownLayouts
from parbench.reports.integrity import Checked, Checker
from parbench.reports.jackknife import LeftOut
from parbench.reports.rows import COLUMN, CONDITION, board_labels, canonical, column_labels, row_labels
from parbench.reports.suites import read_suites

# Libraries whose version can change a score.
LIBRARIES = ("torch", "transformers", "peft")

_NOT_WORDS = ("setting", "training", "budget", "options", "definition")
_SPEC = [field.name for field in dataclasses.fields(RunSpec) if field.name not in _NOT_WORDS]
LEDGER = [f"ledger/{field.name}" for field in dataclasses.fields(ParameterCounts)]
_COST = [f"cost/{field.name}" for field in dataclasses.fields(Cost)]
_COLUMNS = [
    *("run_id", *_SPEC, "budget", "budget/parameters", "every_budget", "is_reported"),
    *("board", "curve", "column", "row", "setting_id", "repeat_of"),
    *("status", "reason", "unchecked", "metric", "score", "selection_score"),
    *(*LEDGER, *_COST, *(f"version/{library}" for library in LIBRARIES)),
    *("setting", "training", "options", "definition", "started", "finished", "git_commit", "git_dirty", "notes"),
]
_WHOLE_NUMBERS = {
    "limit",
    "evaluation_limit",
    "budget/parameters",
    *LEDGER,
    "cost/train_steps",
    "cost/peak_process_bytes",
    "cost/peak_device_bytes",
}
_TYPES = {
    **dict.fromkeys(_COLUMNS, "string"),
    **dict.fromkeys(_WHOLE_NUMBERS, "Int64"),
    **{
        name: "float64" for name in ("score", "selection_score", "train_fraction", *_COST) if name not in _WHOLE_NUMBERS
    },
    "small": "bool",
    "every_budget": "bool",
    "is_reported": "bool",
    "repeat": "int64",
    "git_dirty": "boolean",
}
del _TYPES["seed"]  # as pandas sees fit: a seed may need more than 63 bits


@dataclass(frozen=True)
class Frame:
    """What a store holds.

    Attributes:
        runs: one row per run, sorted; of a run that stands at several budgets because its method's size is fixed one
            row for each, see `parbench.reports.every_budget`. The columns are those of the run's spec and: ``run_id``;
            ``budget``, the limit on parameters in words, missing if there was none, and ``budget/parameters``, the
            limit itself; ``every_budget``, whether it was run without one and stands at all; ``setting_id``,
            the hash of setting, training and precision of the base weights; ``setting`` and ``training`` as JSON, as
            are ``options`` and ``definition`` of the task, missing where it has none; ``column`` and ``row``, the run's
            place in the tables of its ``board``, which is on a ``curve``; ``repeat_of``, the run that it is the same as
            but for chance; ``status`` and ``reason``; ``unchecked``, why the metrics could not be recomputed from the
            per-example rows, missing where they were; ``metric``, the primary one; ``score``, its value where
            ``status`` is ok, else missing; ``selection_score``, likewise on the selection split; and in the units of
            the record ``metric/NAME`` (reported split), ``selection/NAME`` (selection split), ``examples/SPLIT``,
            ``ledger/NAME``, ``cost/NAME``, ``retention/NAME``, ``version/NAME`` and ``hardware/NAME``.
        unreadable: what lies in the store and counts nowhere, because it is not a run's whole record or because its
            per-example rows do not bear it out.
        left_out: by run id, the score without each of its examples in turn, or in words why it is not known.
        aside: like ``runs``, those that no table may count: made to choose hyper-parameters, and repeats.
        suites: what is known of the runs' suites, see `parbench.reports.suites`.
    """

    runs: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    left_out: Mapping[str, LeftOut | str] = field(default_factory=dict)
    aside: pd.DataFrame = field(default_factory=pd.DataFrame)
    suites: Mapping[str, Suite] = field(default_factory=dict)


def read_frame(store: Store, known: KnownLayouts | None = None) -> Frame:
    """Read every record of a store and check it against its per-example rows, see `parbench.reports.integrity`.

    Args:
        store: what to read.
        known: shared by stores whose runs are to be compared example by example.

    Raises:
        UserError: the folder does not exist or holds nothing.
    """
    store.require()
    found = list(_checked(store, {} if known is None else known))
    if not found:
        raise UserError(f'there are no runs in "{store.root}" yet; start some with bench run --out "{store.root}"')
    unreadable = tuple(entry for entry in found if isinstance(entry, Unreadable))
    kept = [entry for entry in found if isinstance(entry, Checked)]
    rows = attempt(lambda: _rows(kept))
    if isinstance(rows, NotComputed):  # a record that fits into no table must not cost the others
        kept, unfit = _fitting(store, kept)
        unreadable += unfit
        rows = _rows(kept)
    left_out = {entry.run_id: entry.left_out for entry in kept if entry.left_out is not None}
    reported = rows["is_reported"]
    suites = read_suites(sorted(rows["suite"].unique()), store.root)
    return Frame(_tidy(rows[reported]), unreadable, left_out, _tidy(rows[~reported]), suites)


def budget_text(budget: Json | None) -> str | None:
    """Return a spec's budget in words, such as ``24k: at most 24,000 (uniform)``."""
    return f"{budget['asked']}: at most {budget['parameters']:,} ({budget['mode']})" if budget else None


def _checked(store: Store, known: KnownLayouts) -> Iterator[Checked | Unreadable]:
    checker = Checker(store, known)
    for entry in store.scan():
        yield entry if isinstance(entry, Unreadable) else checker.check(entry)


def _fitting(store: Store, kept: list[Checked]) -> tuple[list[Checked], tuple[Unreadable, ...]]:
    """Return the records that make a row of a table, and those that do not, with the reason."""
    alone = {entry.run_id: attempt(partial(_rows, [entry])) for entry in kept}
    unfit = tuple(
        Unreadable(store.runs / run_id, f"does not fit into a table ({rows.reason})")
        for run_id, rows in alone.items()
        if isinstance(rows, NotComputed)
    )
    return [entry for entry in kept if not isinstance(alone[entry.run_id], NotComputed)], unfit


def _rows(kept: list[Checked]) -> pd.DataFrame:
    rows = [_row(entry) for entry in kept]
    extra = sorted({name for row in rows for name in row}.difference(_COLUMNS))
    runs = pd.DataFrame(rows, columns=[*_COLUMNS, *extra]).astype(_TYPES)
    runs = runs.astype({name: "Int64" for name in extra if name.startswith("examples/")})
    runs = at_every_budget(runs.assign(column=column_labels(runs)))
    # Searches are no part of what the leaderboards show, and do not decide how many there are.
    parts = [part for _, part in runs.groupby("purpose", sort=False)]
    labels = pd.concat([board_labels(part) for part in parts]) if parts else board_labels(runs)
    return runs.assign(board=labels["board"], curve=labels["curve"])


def _tidy(rows: pd.DataFrame) -> pd.DataFrame:
    runs = rows.drop(columns="is_reported").assign(row=row_labels(rows), row_order=0)
    return runs.sort_values([*CONDITION, *COLUMN, "row", "seed", "run_id"], ignore_index=True)


def _row(entry: Checked) -> dict[str, Any]:
    record = entry.record
    spec, made = record.spec, record.provenance
    return {
        "run_id": entry.run_id,
        **{name: getattr(spec, name) for name in _SPEC},
        "budget": budget_text(spec.budget),
        "budget/parameters": spec.budget["parameters"] if spec.budget else None,
        "every_budget": False,
        "is_reported": entry.is_reported,
        "setting_id": _setting_id(spec),
        "repeat_of": dataclasses.replace(spec, repeat=0).run_id if spec.repeat else entry.run_id,
        "status": record.status.value,
        "reason": record.reason,
        "unchecked": entry.unchecked,
        "metric": record.primary,
        "score": _finite(record, record.score),
        "selection_score": _finite(record, record.selection_score),
        **_named("metric", record.metrics),
        **_named("selection", record.selection_metrics),
        **_named("examples", record.examples),
        **_named("ledger", vars(record.ledger) if record.ledger else {}),
        **_named("cost", vars(record.cost) if record.cost else {}),
        **_named("retention", record.retention),
        **{f"version/{library}": made.versions.get(library) for library in LIBRARIES},
        **_named("hardware", made.hardware),
        "setting": canonical(spec.setting),
        "training": canonical(spec.training),
        "options": canonical(spec.options) if spec.options else None,
        "definition": None if spec.definition is None else canonical(spec.definition),
        "started": made.started,
        "finished": made.finished,
        "git_commit": made.git_commit,
        "git_dirty": made.git_dirty,
        "notes": canonical(list(made.notes)) if made.notes else None,
    }


def _setting_id(spec: RunSpec) -> str:
    precision = [] if spec.base_precision == FLOAT32 else [spec.base_precision]
    return digest([spec.setting, spec.training, *precision])[:8]


def _finite(record: RunRecord, score: float | None) -> float | None:
    return score if record.status is Status.OK and score is not None and math.isfinite(score) else None


def _named(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{kind}/{name}": value for name, value in values.items()}
