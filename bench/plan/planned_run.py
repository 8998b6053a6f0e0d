"""A run to execute: its spec, and where the objects that the spec names are found.

All fields are plain values, so that a run can be sent to another process or machine.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.names import AskedNames
from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.record.run_spec import Json, RunSpec
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated
from parbench.methods import find_method
from parbench.methods.base import Method, Setting
from parbench.methods.expression import ResolvedMethod
from parbench.tasks import find_task, is_task_file, task_code
from parbench.tasks.base import Task
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.source import DataSource
from parbench.tasks.retention import GeneralText, general_text_at


@dataclass(frozen=True)
class PlannedRun:
    """A run to execute.

    Attributes:
        spec: everything that determines its result.
        asked: the names that the command used.
        location: where its data is read from.
        skip: why it cannot be executed, if so: its record then has the status ``skipped``.
        notes: remarks for readers of its record.
        not_deciding: settings that do not change the result and are not in the spec, by part of the spec
            (``training``, ``options``).
    """

    spec: RunSpec
    asked: AskedNames
    location: DataLocation
    skip: str | None = None
    notes: tuple[str, ...] = ()
    not_deciding: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the run as JSON text, with absolute paths."""
        moved = dataclasses.replace(self, asked=self.asked.absolute(), location=self.location.absolute())
        return json.dumps(dataclasses.asdict(moved))

    @classmethod
    def from_json(cls, text: str) -> PlannedRun:
        """Return the run that `to_json` wrote."""
        values = json.loads(text)
        return cls(
            RunSpec(**values["spec"]),
            AskedNames(**values["asked"]),
            DataLocation(**values["location"]),
            values["skip"],
            tuple(values["notes"]),
            values["not_deciding"],
        )

    @cached_property
    def method(self) -> Method[Any]:
        """The method."""
        return _method(self.asked.method).method

    @cached_property
    def setting(self) -> Setting:
        """The hyper-parameters of the method."""
        return validated(self.method.setting_type, self.spec.setting, f"the setting of {self.spec.method}")

    @cached_property
    def task(self) -> Task:
        """The task under the options of the run."""
        name, options = self.asked.task, {**self.spec.options, **self.not_deciding.get("options", {})}
        if self.spec.definition is not None and not is_task_file(name):
            # Of a record, whose file need not be here.
            return find_task(name, self.spec.definition).configured(options)
        return _task(name).configured(options)

    @cached_property
    def source(self) -> DataSource:
        """Where the data of the task is read from."""
        return self.location.source(self.task)

    @property
    def general_text(self) -> GeneralText | None:
        """The text on which forgetting is measured, if it is measured."""
        return None if self.spec.retention is None else general_text_at(self.location)

    @cached_property
    def base_model(self) -> BaseModel:
        """The base model."""
        return find_model(self.asked.base_model)

    @cached_property
    def training(self) -> TrainingSettings:
        """The settings of the training."""
        values = {**self.spec.training, **self.not_deciding.get("training", {})}
        return validated(TrainingSettings, values, "the training")

    def check_code(self) -> None:
        """Check that the source is still the one that the run was planned with.

        Raises:
            UserError: it has changed since.
        """
        now = (method_code(_method(self.asked.method)), task_code(self.task), harness_code())
        if now != (self.spec.method_code, self.spec.task_code, self.spec.harness_code):
            raise UserError(f"the code of {self.spec} was changed after the run was planned; give the command again")


@lru_cache(maxsize=256)
def _method(expression: str) -> ResolvedMethod:
    return find_method(expression)


@lru_cache(maxsize=256)
def _task(name: str) -> Task:
    return find_task(name)
