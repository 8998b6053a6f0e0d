"""A run to do: its spec, and where the objects come from that the spec only names.

Both are plain values, so that a run can be handed to another process, or another machine, and found there again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.code_version import source_hash
from bench.errors import UserError
from bench.models import BaseModel, find_model
from bench.record import RunSpec
from bench.training import TrainingSettings
from bench.validation import validated
from methods import find_method
from tasks import find_task, task_code
from tasks.base import Task
from tasks.data.folder import FolderSource
from tasks.data.hub import HubSource
from tasks.data.lock import RevisionLock
from tasks.data.package import PackageSource
from tasks.data.source import Source
from tasks.retention import GeneralText, general_text

if TYPE_CHECKING:
    from methods.base import Method, Setting
    from methods.expression import MethodChoice


@dataclass(frozen=True)
class Origin:
    """What a run was asked for by, where the spec has only the name of what was found.

    Attributes:
        method: the method's expression.
        task: a registered name, or the path of a YAML file.
        base_model: a registered name, a local folder or a hub id.
        data_root: the folder of local data, if there is one.
        hub: whether data that is not local, nor the task's own, comes from the hub; else from packages.
        lock_file: where the revisions are that were resolved at first use.
    """

    method: str
    task: str
    base_model: str
    data_root: str | None
    hub: bool
    lock_file: str

    def absolute(self) -> Origin:
        """Return the same with whole paths, for a process that works in another folder."""

        def whole(name: str) -> str:
            return str(Path(name).absolute()) if Path(name).exists() else name

        root = None if self.data_root is None else whole(self.data_root)
        return Origin(
            self.method,
            whole(self.task),
            whole(self.base_model),
            root,
            self.hub,
            str(Path(self.lock_file).absolute()),
        )

    def general_text(self) -> GeneralText:
        """Return the text that forgetting is measured on."""
        root = None if self.data_root is None else Path(self.data_root)
        return general_text("hub" if self.hub else "package", RevisionLock(Path(self.lock_file)), root)

    def source(self, task: Task) -> Source:
        """Return where the data of a task comes from: the folder given, the task's own, or the suite's.

        A task that has data of its own (generated, say) needs none in the folder given, but what is there goes first.

        Raises:
            UserError: the folder given is none.
        """
        if self.data_root is not None:
            if not Path(self.data_root).is_dir():
                raise UserError(
                    f'the data root "{self.data_root}" is not a folder; give one that holds a folder a task'
                )
            folder = FolderSource(Path(self.data_root))
            if task.own_source is None or task.missing(folder) is None:
                return folder
        if task.own_source is not None:
            return task.own_source
        return HubSource(RevisionLock(Path(self.lock_file))) if self.hub else PackageSource()


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
    origin: Origin
    skip: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the run as JSON text, its paths whole."""
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, origin=self.origin.absolute())))

    @classmethod
    def from_json(cls, text: str) -> PlannedRun:
        """Return the run that `to_json` wrote."""
        values = json.loads(text)
        return cls(RunSpec(**values["spec"]), Origin(**values["origin"]), values["skip"], tuple(values["notes"]))

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


def method_code(choice: MethodChoice) -> str:
    """Return the hash of the source that a method consists of."""
    return "".join(source_hash(module) for module in choice.modules)


def harness_code() -> str:
    """Return the hash of the source that trains."""
    return source_hash("bench.train")


@lru_cache(maxsize=256)
def _choice(expression: str) -> MethodChoice:
    return find_method(expression)


@lru_cache(maxsize=256)
def _task(name: str) -> Task:
    return find_task(name)
