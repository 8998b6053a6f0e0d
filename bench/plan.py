"""From a suite and the command line to the list of runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel as PydanticModel
from pydantic import ValidationError

from bench.code_version import source_hash
from bench.errors import UserError, did_you_mean
from bench.models import BaseModel, find_model
from bench.record import RunSpec
from bench.registry import Registry
from bench.suite import Choice, Layer, Suite, choose_suite, explain
from bench.training import TrainingSettings
from methods import METHODS
from methods.base import Method, Setting
from methods.presets import TaskPreset, find_preset
from tasks import TASKS
from tasks.base import Task
from tasks.data.folder import FolderSource
from tasks.data.hub import HubSource, obstacle
from tasks.data.lock import RevisionLock
from tasks.data.package import PackageSource
from tasks.data.source import Source

# The owner, in `--set train.max_steps=50`, of what is not a method's.
TRAINING = "train"

M = TypeVar("M", bound=PydanticModel)


@dataclass(frozen=True)
class Overrides:
    """What the command line changes of a suite; ``None`` leaves it.

    Attributes:
        sets: ``method.key=value`` or ``train.key=value``, in the order given.
        data_root: read the data from this folder instead of the suite's source.
    """

    methods: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    base_model: str | None = None
    seeds: tuple[int, ...] | None = None
    limit: int | None = None
    sets: tuple[str, ...] = ()
    data_root: Path | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A run to do, with the objects its names stand for."""

    spec: RunSpec
    method: Method[Any]
    setting: Setting
    task: Task
    source: Source
    base_model: BaseModel
    training: TrainingSettings


@dataclass(frozen=True)
class Plan:
    """The runs of one command, in the order they are done.

    Attributes:
        notes: what was left out of a task group, and why.
    """

    suite: Suite
    runs: list[PlannedRun]
    notes: list[str] = field(default_factory=list)


def make_plan(suite: Suite, overrides: Overrides, lock: RevisionLock) -> Plan:
    """Resolve every name, setting and revision; nothing is trained and no weights are loaded.

    Raises:
        UserError: a name, a setting or a value is wrong, or data that was asked for by name is not there.
    """
    planner = _Planner(suite, overrides, lock)
    methods = [METHODS[name] for name in _expand(overrides.methods or suite.methods, METHODS, "method")]
    tasks, notes = planner.tasks()
    seeds = overrides.seeds or suite.seeds
    # Tasks outermost, then seeds: an interrupted comparison has whole rows of methods, not one method's every seed.
    runs = [planner.run(method, task, seed) for task in tasks for seed in seeds for method in methods]
    return Plan(suite, runs, notes)


def choose_suite_for(name: str, overrides: Overrides) -> Choice:
    """Return the suite called ``name``; for ``auto`` the full one if this machine can carry it, else the miniature."""

    def unreachable(suite: Suite) -> str | None:
        wanted = find_model(overrides.base_model or suite.base_model).weights
        repositories = [wanted.location()] if wanted.on_hub else []
        return next((reason for name in repositories if (reason := obstacle(name))), None)

    return choose_suite(name, unreachable)


@dataclass(frozen=True)
class _Planner:
    suite: Suite
    overrides: Overrides
    lock: RevisionLock

    def tasks(self) -> tuple[list[Task], list[str]]:
        """Return the tasks to run. A group stands for those of its tasks that the source has; a name must be there."""
        asked = self.overrides.tasks or self.suite.tasks
        found, notes = [], []
        for name in _expand(asked, TASKS, "task"):
            task = TASKS[name]
            missing = self.source.missing(task.data)
            if missing is None:
                found.append(task)
            elif name in asked:
                raise UserError(
                    f"the task {name} cannot run: {missing}; give its files with --data-root, or use another suite"
                )
            else:
                notes.append(f"left out {name}: {missing}")
        if not found:
            raise UserError(f"none of the tasks {', '.join(asked)} can run: {'; '.join(notes)}")
        return found, notes

    def run(self, method: Method[Any], task: Task, seed: int) -> PlannedRun:
        """Return one run, its setting and training resolved and checked."""
        setting = self.setting(method, task)
        training = self.training(method, task)
        spec = RunSpec(
            suite=self.suite.name,
            small=self.suite.small,
            protocol=self.suite.protocol,
            task=task.name,
            base_model=self.base_model.name,
            method=method.name,
            setting=setting.model_dump(mode="json"),
            training=training.model_dump(mode="json"),
            seed=seed,
            limit=self.overrides.limit or self.suite.limit,
            data_source=self.source.describe(task.data),
            data_revision=self.data_revision(task),
            model_revision=self.model_revision,
            method_code=source_hash(METHODS.entry(method.name).module),
            task_code=source_hash(TASKS.entry(task.name).module),
            harness_code=source_hash("bench.train"),
        )
        return PlannedRun(spec, method, setting, task, self.source, self.base_model, training)

    def setting(self, method: Method[Any], task: Task) -> Setting:
        """Lay preset, suite and command line over the method's defaults."""
        by_task = self.suite.by_task.get(task.name, Layer())
        layers = [self.suite.settings.get(method.name, {}), by_task.settings.get(method.name, {})]
        if preset := self.preset(method, task):
            layers.insert(0, preset.setting)
        values = _merged(*layers, self.sets.get(method.name, {}))
        return _validated(method.setting_type, values, f"the setting of {method.name} on {task.name}")

    def training(self, method: Method[Any], task: Task) -> TrainingSettings:
        """Lay preset, the suite's values for the task and command line over the suite's training."""
        by_task = self.suite.by_task.get(task.name, Layer())
        layers = [self.suite.training, by_task.training]
        if preset := self.preset(method, task):
            layers.insert(1, preset.training)
        values = _merged(*layers, self.sets.get(TRAINING, {}))
        return _validated(TrainingSettings, values, f"the training of {method.name} on {task.name}")

    def preset(self, method: Method[Any], task: Task) -> TaskPreset | None:
        """Return the published values, where the suite asks for them and there are some."""
        found = find_preset(method.name, self.base_model.name, task.name) if self.suite.presets else None
        return found.on(task.name) if found else None

    @cached_property
    def source(self) -> Source:
        """Where all data of the plan comes from."""
        root = self.overrides.data_root
        if root is None:
            return HubSource(self.lock) if self.suite.data == "hub" else PackageSource()
        if not root.is_dir():
            raise UserError(f'the data root "{root}" is not a folder; give one that holds a folder a task')
        return FolderSource(root)

    def data_revision(self, task: Task) -> str:
        """Return the revision of a task's data, looked up once."""
        if task.name not in self._data_revisions:
            self._data_revisions[task.name] = self.source.revision(task.data)
        return self._data_revisions[task.name]

    @cached_property
    def _data_revisions(self) -> dict[str, str]:
        return {}

    @cached_property
    def base_model(self) -> BaseModel:
        """The backbone of every run."""
        return find_model(self.overrides.base_model or self.suite.base_model)

    @cached_property
    def model_revision(self) -> str:
        """The revision of the backbone, looked up once."""
        return self.base_model.weights.revision(self.lock)

    @cached_property
    def sets(self) -> dict[str, dict[str, Any]]:
        """The command line's ``--set`` by method."""
        allowed = [TRAINING, *_expand(self.overrides.methods or self.suite.methods, METHODS, "method")]
        found: dict[str, dict[str, Any]] = {}
        for text in self.overrides.sets:
            match = re.fullmatch(r"(?P<owner>.+?)\.(?P<key>\w+)=(?P<value>.*)", text)
            if match is None:
                raise UserError(f'"--set {text}" is not of the form method.key=value, for example lora.r=4')
            if match["owner"] not in allowed:
                raise UserError(
                    f'"--set {text}": "{match["owner"]}" is not in this comparison{did_you_mean(match["owner"], allowed)}'
                )
            try:
                found.setdefault(match["owner"], {})[match["key"]] = yaml.safe_load(match["value"])
            except yaml.YAMLError as error:
                raise UserError(f'"--set {text}": the value is neither a number, a word nor a [list]') from error
        return found


def _expand(names: Iterable[str], registry: Registry[Any], kind: str) -> list[str]:
    """Turn groups into their members; keep the order, drop repetitions."""
    found: dict[str, None] = {}
    for name in names:
        members = [known for known in registry if known.startswith(f"{name}/")]
        if name not in registry and not members:
            groups = {known.partition("/")[0] for known in registry if "/" in known}
            raise UserError(f'there is no {kind} called "{name}"{did_you_mean(name, {*registry, *groups})}')
        found.update(dict.fromkeys(members or [name]))
    return list(found)


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay later values over earlier ones; a length in steps replaces one in epochs, and the other way round."""
    values: dict[str, Any] = {}
    for layer in layers:
        for given, replaced in (("max_steps", "epochs"), ("epochs", "max_steps")):
            if given in layer:
                values.pop(replaced, None)
        values.update(layer)
    return values


def _validated(model: type[M], values: dict[str, Any], what: str) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{what} is wrong: {explain(error, model)}") from error
