"""A run to do: its spec, and where the objects come from that the spec only names.

Both are plain values, so that a run can be handed to another process, or another machine, and found there again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.data_location import AskedNames
from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.record.run_record import RunSpec
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.errors import UserError
from parbench.bench.util.validation import validated
from parbench.methods import find_method
from parbench.tasks import find_task, task_code
from parbench.tasks.base import Task
from parbench.tasks.data.source import Source

if TYPE_CHECKING:
    from parbench.methods.base import Method, Setting
    from parbench.methods.expression import ResolvedMethod


@dataclass(frozen=True)
class PlannedRun:
    """A run to do.

    Attributes:
        spec: all that determines its result.
        origin: where the objects are found that it names.
        skip: why it cannot be done, if so: it then leaves a record that says so.
        notes: what a reader of its record must know.
    """

    spec: RunSpec
    origin: AskedNames
    skip: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the run as JSON text, its paths whole."""
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, origin=self.origin.absolute())))

    @classmethod
    def from_json(cls, text: str) -> PlannedRun:
        """Return the run that `to_json` wrote."""
        values = json.loads(text)
        return cls(RunSpec(**values["spec"]), AskedNames(**values["origin"]), values["skip"], tuple(values["notes"]))

    @cached_property
    def method(self) -> Method[Any]:
        """The method."""
        return _choice(self.origin.method).method

    @cached_property
    def setting(self) -> Setting:
        """The method's hyper-parameters."""
        return validated(self.method.setting_type, self.spec.setting, f"the setting of {self.spec.method}")

    @cached_property
    def task(self) -> Task:
        """The task under the run's options."""
        return _task(self.origin.task).configured(self.spec.options)

    @cached_property
    def source(self) -> Source:
        """Where the task's data comes from."""
        return self.origin.source(self.task)

    @cached_property
    def base_model(self) -> BaseModel:
        """The backbone."""
        return find_model(self.origin.base_model)

    @cached_property
    def training(self) -> TrainingSettings:
        """The training's hyper-parameters."""
        return validated(TrainingSettings, self.spec.training, "the training")

    def check_code(self) -> None:
        """Make sure that the code is still what the run was planned for.

        Raises:
            UserError: it was changed in between.
        """
        now = (method_code(_choice(self.origin.method)), task_code(self.task), harness_code())
        if now != (self.spec.method_code, self.spec.task_code, self.spec.harness_code):
            raise UserError(f"the code of {self.spec} was changed after the run was planned; give the command again")


@lru_cache(maxsize=256)
def _choice(expression: str) -> ResolvedMethod:
    return find_method(expression)


@lru_cache(maxsize=256)
def _task(name: str) -> Task:
    return find_task(name)
