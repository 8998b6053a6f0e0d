"""The specification of a run: everything that determines its result, and the id made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from parbench.bench.util.base_precision import FLOAT32

Json = dict[str, Any]

# Fields that only describe a run, or say where its data was read; they are not part of its id.
_DESCRIPTIONS = ("suite", "small", "data_source")
# Fields added after the first records were written, with the value that those records imply: such runs keep their ids.
_LATER_FIELDS: tuple[tuple[str, object], ...] = (
    ("purpose", "report"),
    ("repeat", 0),
    ("options", {}),
    ("definition", None),
    ("train_fraction", 1.0),
    ("evaluation_limit", None),
    ("retention", None),
    ("base_precision", FLOAT32),
)


@dataclass(frozen=True)
class RunSpec:
    """One training and evaluation of one (task, base model, method, setting, seed): everything that determines it.

    Attributes:
        suite: name of the suite that the run belongs to.
        small: whether the suite is a miniature whose scores must not be read as those of the full set-up.
        protocol: rules of selection and reporting.
        task: name of the task.
        base_model: name of the base model.
        method: name of the method.
        setting: all hyper-parameters of the method.
        training: all settings of the training that decide its result, see `TrainingSettings.deciding`.
        budget: the limit that the size was fitted to (``asked``, ``parameters``, ``mode``), if there is one.
        seed: seeds the head, the adapter, the data order and dropout.
        limit: maximum number of examples of each split; ``None`` for all of them.
        data_source: where the data comes from, in words.
        data_revision: commit or content hash of the data.
        model_revision: commit or content hash of the base model.
        method_code: hash of the source of the method, see `parbench.bench.record.code_hashes`.
        task_code: hash of the source of the task.
        harness_code: hash of the source that trains and evaluates.
        options: options of the task.
        definition: content of the YAML file that defines the task, for a task outside the registry.
        train_fraction: share of the training split that is trained on; drawn by the seed.
        evaluation_limit: a lower maximum for the selection split and for each subset of the reported split.
        retention: commit or content hash of the general text on which forgetting is measured, if it is measured.
        purpose: ``report``, or ``selection`` where hyper-parameters are chosen and the reported split is not scored.
        repeat: number of the repetition, for otherwise identical runs that measure the variation between repetitions.
        base_precision: of the frozen weights, see `parbench.bench.util.base_precision`.
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
    base_precision: str = FLOAT32

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits: the hash of all fields except ``suite``, ``small`` and ``data_source``."""
        # Not `asdict`: its deep copies take longer than the hash, and plans and stores compute 100,000 ids.
        identity = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        for description in _DESCRIPTIONS:
            del identity[description]
        for later, default in _LATER_FIELDS:
            if identity[later] == default:
                del identity[later]
        return digest(identity)[:16]

    def __str__(self) -> str:
        budget = f" within {self.budget['asked']}" if self.budget else ""
        repeat = f", repeat {self.repeat}" if self.repeat else ""
        share = f" ({100 * self.train_fraction:g} % of the training split)" if self.train_fraction < 1 else ""
        precision = f" in {self.base_precision}" if self.base_precision != FLOAT32 else ""
        base = f"{self.base_model}{precision}"
        return f"{self.method} on {self.task}{share} with {base}{budget}, seed {self.seed}{repeat}"


def digest(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return a JSON value as one line in canonical form: keys sorted, no escapes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
