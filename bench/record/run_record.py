"""What a run is (its spec) and what it leaves (its record)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Json = dict[str, Any]

RECORD_FORMAT = 1

_LATER_FIELDS: tuple[tuple[str, object], ...] = (
    ("purpose", "report"),
    ("repeat", 0),
    ("options", {}),
    ("definition", None),
    ("train_fraction", 1.0),
    ("evaluation_limit", None),
    ("retention", None),
)


class Status(StrEnum):
    """How a run ended."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class RunSpec:
    """One training and evaluation of one (task, base model, method, setting, seed): all that determines its result.

    Attributes:
        suite: name of the suite that asked for the run.
        small: whether the suite is a miniature whose scores must not be read as those of the full set-up.
        protocol: rules of selection and reporting.
        task: name of the task.
        base_model: name of the base model.
        method: name of the method.
        setting: the method's hyper-parameters, all of them.
        training: the training's hyper-parameters, all of them.
        budget: the limit that the size was fitted to (``asked``, ``parameters``, ``mode``), if there was one.
        seed: seeds the head, the adapter, the data order and dropout.
        limit: cap on the examples of each split; ``None`` is all of them.
        data_source: where the data comes from, in words.
        data_revision: commit or content hash of the data.
        model_revision: commit or content hash of the base model.
        method_code: hash of the project's source that the method consists of.
        task_code: hash of the project's source that the task consists of.
        harness_code: hash of the project's source that trains and evaluates.
        options: what the user set of the task itself.
        definition: the content of the YAML file that defines the task, where it is none of the registry's.
        train_fraction: share of the training split that is trained on; drawn by the seed.
        evaluation_limit: a lower cap on the examples of the selection split, and of each subset of the reported one.
        retention: commit or content hash of the general text that the run's forgetting is measured on, if it is.
        purpose: ``report``; or ``selection`` where hyper-parameters are chosen and the reported split is not scored.
        repeat: tells runs apart that are the same in all else, done to learn what chance alone changes.
    """

    suite: str
    small: bool
    protocol: str
    task: str
    base_model: str
    method: str
    setting: Json
    training: Json
    budget: Json | None
    seed: int
    limit: int | None
    data_source: str
    data_revision: str
    model_revision: str
    method_code: str
    task_code: str
    harness_code: str
    purpose: str = "report"
    repeat: int = 0
    options: Json = field(default_factory=dict)
    definition: Json | None = None
    train_fraction: float = 1.0
    evaluation_limit: int | None = None
    retention: str | None = None

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits: the hash of everything above, but for the words that only describe it."""
        # Not `asdict`, whose copies take longer than the hash: plans and stores ask for it a hundred thousand times.
        identity = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        for description in ("suite", "small", "data_source"):
            del identity[description]
        # Runs from before these fields were there are what the defaults say, and keep their ids.
        for later, default in _LATER_FIELDS:
            if identity[later] == default:
                del identity[later]
        return digest(identity)[:16]

    def __str__(self) -> str:
        budget = f" within {self.budget['asked']}" if self.budget else ""
        repeat = f", repeat {self.repeat}" if self.repeat else ""
        share = f" ({100 * self.train_fraction:g} % of the training split)" if self.train_fraction < 1 else ""
        return f"{self.method} on {self.task}{share} with {self.base_model}{budget}, seed {self.seed}{repeat}"


@dataclass(frozen=True)
class ParameterCounts:
    """What was counted.

    Attributes:
        reported: as the method's paper counts.
        trainable: numbers of the adapter that the last optimiser step could change.
        optimised: numbers of the adapter that were optimised at any time.
        stored_bytes: size of the adapter file without the head.
        head: numbers of the task head; never part of a budget.
        frozen: numbers that the adapter adds and never trains, such as VeRA's shared projections.
        frozen_stored: how many of those are in the adapter file; the others are made again from a seed.
    """

    reported: int
    trainable: int
    optimised: int
    stored_bytes: int
    head: int
    frozen: int
    frozen_stored: int


@dataclass(frozen=True)
class Cost:
    """What a run took; wall-clock seconds, bytes. ``None`` where it could not be measured.

    Attributes:
        load_seconds: base model, adapter and data made ready.
        train_seconds: from the first to the last optimiser step, without scoring epochs in between; the sum over the
            parts of an interrupted run.
        train_steps: optimiser steps.
        evaluation_seconds: scoring the reported split once; the selection split in a run whose purpose is selection.
        peak_process_bytes: peak resident memory of the process while training, scoring epochs in between included.
        peak_device_bytes: peak memory allocated on the accelerator, likewise.
        scoring_seconds: all that was scored: epochs in between, the selection split, the reported one, the retention.
        wall_seconds: all of it, from taking up the run (again, if it was interrupted) to its record.
        reserved_device_bytes: most that torch had reserved of the accelerator, from the run's beginning to its last
            score: what the run needs of it, beside what CUDA itself takes.
        shared_device: whether other runs of the same command were at work on its accelerator for some of the time: its
            seconds are then no measurement of speed. Its peaks are its own, torch counts them in each process.
    """

    load_seconds: float
    train_seconds: float
    train_steps: int
    evaluation_seconds: float
    peak_process_bytes: int
    peak_device_bytes: int | None
    scoring_seconds: float | None = None
    wall_seconds: float | None = None
    reserved_device_bytes: int | None = None
    shared_device: bool | None = None


@dataclass(frozen=True)
class Provenance:
    """Where and with what a record was made; ``notes`` are the warnings that the run gave."""

    started: str
    finished: str
    command: str
    versions: dict[str, str]
    hardware: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves behind: a row of every table.

    Attributes:
        spec: what was run.
        status: how it ended.
        reason: one sentence where ``status`` is not ``ok``.
        primary: name of the metric that ranks.
        metrics: on the reported split, by name, in the field's usual units (fractions, not percent); empty for a run
            whose purpose is selection.
        selection_metrics: the same on the selection split, of the same weights.
        examples: number of examples of each split.
        ledger: parameter counts.
        cost: time and memory.
        provenance: when, where and with what.
        files: sha256 of every file beside the record, by name.
        best_epoch: passes over the training split after which the weights were kept, where an epoch was chosen: on the
            reported split by protocol ``paper:best_epoch``, on the selection split by the training's ``select_epoch``.
        selection_primary: name of the metric that ranks on the selection split, where it is not ``primary``.
        retention: mean natural log-likelihood of a token of general text, ``before`` and ``after`` the training.
        last_metrics: with ``best_epoch``, the metrics of the last epoch on the split that the epoch was chosen on.
    """

    spec: RunSpec
    status: Status
    reason: str | None
    primary: str
    metrics: dict[str, float]
    selection_metrics: dict[str, float]
    examples: dict[str, int]
    ledger: ParameterCounts | None
    cost: Cost | None
    provenance: Provenance
    files: dict[str, str] = field(default_factory=dict)
    best_epoch: float | None = None
    last_metrics: dict[str, float] = field(default_factory=dict)
    selection_primary: str | None = None
    retention: dict[str, float] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.spec.run_id

    @property
    def score(self) -> float | None:
        """The primary metric, where the run came to one."""
        return self.metrics.get(self.primary)

    @property
    def selection_score(self) -> float | None:
        """The metric that ranks on the selection split, where the run came to one."""
        return self.selection_metrics.get(self.selection_primary or self.primary)


def scale(scores: Iterable[float]) -> int:
    """Return what scores are multiplied by when shown: 100, if all could be fractions."""
    return 100 if all(abs(score) <= 1 for score in scores) else 1


def digest(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return a JSON value as its one canonical line."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def to_json(record: RunRecord) -> str:
    """Return the record as JSON text, closed by the hash of its content."""
    content = {"format": RECORD_FORMAT, "run_id": record.run_id, **dataclasses.asdict(record)}
    return json.dumps({**content, "sha256": digest(content)}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> RunRecord:
    """Read a record.

    Raises:
        ValueError: not a whole, unedited record of this format; the message says which.
    """
    from pydantic import ValidationError

    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not whole JSON ({error.msg} at line {error.lineno})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply for a record") from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise ValueError("is not a record")
    written = content.pop("sha256")
    if content.pop("format", None) != RECORD_FORMAT:
        raise ValueError(f"is not of record format {RECORD_FORMAT}")
    if written != digest({"format": RECORD_FORMAT, **content}):
        raise ValueError("was changed after it was written (its checksum does not match)")
    run_id = content.pop("run_id", None)
    try:
        record = _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"has a wrong field {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if run_id != record.run_id:
        raise ValueError(f"says it is run {run_id}, but its spec is that of run {record.run_id}")
    return record


@cache
def _adapter() -> TypeAdapter[RunRecord]:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(RunRecord))
