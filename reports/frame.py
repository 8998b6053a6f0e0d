"""The store as a tidy pandas frame: one row a run, nothing averaged, and nothing left out but what is listed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.record import Cost, Json, ParameterLedger, RunSpec, Status, digest
from bench.store import Store, Unreadable
from reports.integrity import Checked, Checker, Known, Said
from reports.rows import BOARD, COLUMN, canonical, row_labels

# Libraries whose version can change a score.
LIBRARIES = ("torch", "transformers", "peft")

_NOT_WORDS = ("setting", "training", "budget")
_SPEC = [field.name for field in dataclasses.fields(RunSpec) if field.name not in _NOT_WORDS]
LEDGER = [f"ledger/{field.name}" for field in dataclasses.fields(ParameterLedger)]
_COST = [f"cost/{field.name}" for field in dataclasses.fields(Cost)]
_COLUMNS = [
    *("run_id", *_SPEC, "budget", "budget/parameters", "row", "setting_id"),
    *("status", "reason", "unchecked", "metric", "score"),
    *(*LEDGER, *_COST, *(f"version/{library}" for library in LIBRARIES)),
    *("setting", "training", "started", "finished", "git_commit", "git_dirty", "notes"),
]
_WHOLE_NUMBERS = {
    "limit",
    "budget/parameters",
    *LEDGER,
    "cost/train_steps",
    "cost/peak_process_bytes",
    "cost/peak_device_bytes",
}
_TYPES = {
    **dict.fromkeys(_COLUMNS, "string"),
    **dict.fromkeys(_WHOLE_NUMBERS, "Int64"),
    **{name: "float64" for name in ("score", *_COST) if name not in _WHOLE_NUMBERS},
    "small": "bool",
    "repeat": "int64",
    "git_dirty": "boolean",
}
del _TYPES["seed"]  # as pandas sees fit: a seed may need more than 63 bits


@dataclass(frozen=True)
class Frame:
    """What a store holds.

    Attributes:
        runs: one row a run, sorted. The columns are those of the run's spec and: ``run_id``; ``budget``, the limit on
            parameters in words, missing if there was none, and ``budget/parameters``, the limit itself;
            ``setting_id``, the hash of setting and training, themselves as JSON in ``setting`` and ``training``;
            ``row``, the run's row in the tables; ``status`` and ``reason``; ``unchecked``, why the metrics could not be
            recomputed from the per-example rows, missing where they were; ``metric``, the primary one; ``score``, its
            value where ``status`` is ok, else missing; and in the units of the record ``metric/NAME``
            (reported split), ``selection/NAME`` (selection split), ``examples/SPLIT``, ``ledger/NAME``,
            ``cost/NAME``, ``version/NAME`` and ``hardware/NAME``.
        unreadable: what lies in the store and counts nowhere, because it is not a run's whole record or because its
            per-example rows do not bear it out.
        said: by run id, what the run said of each example, where that is a number.
        aside: like ``runs``, those that no table may count: made to choose hyper-parameters, and repeats.
    """

    runs: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    said: Mapping[str, Said] = field(default_factory=dict)
    aside: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_frame(store: Store, known: Known | None = None) -> Frame:
    """Read every record of a store and check it against its per-example rows, see `reports.integrity`.

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
    kept = [entry for entry in found if isinstance(entry, Checked)]
    unreadable = tuple(entry for entry in found if isinstance(entry, Unreadable))
    said = {entry.run_id: entry.said for entry in kept if entry.said is not None}
    runs, aside = (_tidy([entry for entry in kept if _is_reported(entry) is wanted]) for wanted in (True, False))
    return Frame(runs, unreadable, said, aside)


def budget_text(budget: Json | None) -> str | None:
    """Return a spec's budget in words, such as ``24k: at most 24,000 (uniform)``."""
    return f"{budget['asked']}: at most {budget['parameters']:,} ({budget['mode']})" if budget else None


def _checked(store: Store, known: Known) -> Iterator[Checked | Unreadable]:
    checker = Checker(store, known)
    for entry in store.scan():
        yield entry if isinstance(entry, Unreadable) else checker.check(entry)


def _is_reported(entry: Checked) -> bool:
    return entry.record.spec.purpose == "report" and entry.record.spec.repeat == 0


def _tidy(kept: list[Checked]) -> pd.DataFrame:
    rows = [_row(entry) for entry in kept]
    extra = sorted({name for row in rows for name in row}.difference(_COLUMNS))
    runs = pd.DataFrame(rows, columns=[*_COLUMNS, *extra]).astype(_TYPES)
    runs = runs.astype({name: "Int64" for name in extra if name.startswith("examples/")})
    runs["row"] = row_labels(runs)
    return runs.sort_values([*BOARD, *COLUMN, "row", "seed", "run_id"], ignore_index=True)


def _row(entry: Checked) -> dict[str, Any]:
    record = entry.record
    spec, made = record.spec, record.provenance
    score = record.score if record.status is Status.OK else None
    return {
        "run_id": entry.run_id,
        **{name: getattr(spec, name) for name in _SPEC},
        "budget": budget_text(spec.budget),
        "budget/parameters": spec.budget["parameters"] if spec.budget else None,
        "setting_id": digest([spec.setting, spec.training])[:8],
        "status": record.status.value,
        "reason": record.reason,
        "unchecked": entry.unchecked,
        "metric": record.primary,
        "score": score if score is not None and math.isfinite(score) else None,
        **_named("metric", record.metrics),
        **_named("selection", record.selection_metrics),
        **_named("examples", record.examples),
        **_named("ledger", vars(record.ledger) if record.ledger else {}),
        **_named("cost", vars(record.cost) if record.cost else {}),
        **{f"version/{library}": made.versions.get(library) for library in LIBRARIES},
        **_named("hardware", made.hardware),
        "setting": canonical(spec.setting),
        "training": canonical(spec.training),
        "started": made.started,
        "finished": made.finished,
        "git_commit": made.git_commit,
        "git_dirty": made.git_dirty,
        "notes": canonical(list(made.notes)) if made.notes else None,
    }


def _named(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{kind}/{name}": value for name, value in values.items()}
