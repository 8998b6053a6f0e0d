"""A suite: tasks, base model, methods, seeds and settings in a YAML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from parbench.bench.budget.text import BudgetText
from parbench.bench.train.protocol import Protocol
from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.bench.util.shipped_yaml import ShippedYaml
from parbench.bench.util.validation import validated
from parbench.tasks.base import Kind, Task

AUTO = "auto"
# The range of random generators' seeds, see also `parbench.bench.cli.parsing.read_seeds`.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# The suite that `auto` prefers, and the one that it falls back to, with a message.
FULL, MINI = "loca_paper", "mini"
_FILES = ShippedYaml("suite", "bench/suites/mini.yaml", "parbench.bench", "suites")


class Requirements(BaseModel):
    """What a suite requires of the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["cpu", "cuda"] = "cpu"
    device_memory_gib: PositiveFloat | None = None


class Layer(BaseModel):
    """Values of a suite that replace defaults of methods' settings and of the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="by method")


class TaskLayer(Layer):
    """Values for one task, or for all tasks of a group."""

    base_model: str | None = Field(default=None, description="in place of the suite's")
    seeds: tuple[Seed, ...] | None = Field(default=None, min_length=1, description="in place of the suite's")
    limit: PositiveInt | None = Field(default=None, description="in place of the suite's")
    evaluation_limit: PositiveInt | None = Field(default=None, description="in place of the suite's")
    options: dict[str, Any] = Field(default_factory=dict, description="of the task itself")


class Tuning(BaseModel):
    """How the settings of a suite were found, see `bench.tune.tune`; written by ``bench tune``, not by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: PositiveInt = Field(description="settings tried per method and task")
    selection_seeds: tuple[Seed, ...] = Field(min_length=1)
    sampler: str
    sampler_seed: NonNegativeInt
    base_model: str = Field(description="what it was tuned on, and is for")
    budget: BudgetText | None = Field(default=None, description="the --budget it was tuned at")
    base_precision: BasePrecision = Field(default=FLOAT32, description="of the base weights it was tuned on")
    sets: tuple[str, ...] = Field(default=(), description="the --set it was tuned with")
    found: dict[str, dict[str, Any]] = Field(description="by task and method: best trial, space, trials")

    def has(self, task: str, method: str, precision: str) -> bool:
        """Return whether a setting was found for a method on a task, with base weights of a precision.

        Args:
            task: its name.
            method: its name.
            precision: of the base weights.
        """
        found = self.found.get(task, {}).get(method, {})
        return found.get("best") is not None and self.base_precision == precision


class Suite(Layer):
    """A comparison: tasks, methods, base model, seeds and settings.

    The setting of a method on a task is merged from, later over earlier: the method's defaults, the published preset if
    ``presets`` asks for it, the suite's ``settings``, its ``by_kind``, its ``by_task`` for the task's
    group and then for the task, the command line's ``--set``.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    title: str
    small: bool = Field(description="a miniature: its scores must not be read as those of the full set-up")
    shows: str = Field(description="what can be concluded from it")
    cannot_show: str = Field(description="what cannot")
    base_model: str
    data: Literal["hub", "package"]
    methods: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    protocol: Protocol = Protocol.STRICT
    limit: PositiveInt | None = Field(default=None, description="at most so many examples of each split")
    evaluation_limit: PositiveInt | None = Field(
        default=None, description="at most so many of the selection split, and of each subset of the reported one"
    )
    budget: BudgetText | None = Field(
        default=None,
        description="the --budget of every method, on the suite's own base models, unless the command sets a size",
    )
    base_precisions: tuple[BasePrecision, ...] = Field(
        default=(FLOAT32,), min_length=1, description="of the frozen weights, one run per precision"
    )
    presets: bool = Field(default=False, description="start from the published settings of each method")
    requires: Requirements = Requirements()
    by_kind: dict[Kind, TaskLayer] = Field(
        default_factory=dict,
        description="by the kind of model of a task; options that a task lacks, or gives in its own file, do not apply",
    )
    by_task: dict[str, TaskLayer] = Field(default_factory=dict, description="by task or task group")
    tuning: Tuning | None = None

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with parbench, and so may be run on other base models than those it was tuned on."""
        return self.name in suite_names()

    def layers(self, task: Task) -> list[TaskLayer]:
        """Return the values that go over the suite's on a task: those of its kind, of its group, and its own.

        Options of a kind do not replace what the file of a user's own task gives.
        """
        names = dict.fromkeys((task.name.partition("/")[0], task.name))
        of_kind = self.by_kind.get(task.kind)
        layers = [self.by_task[name] for name in names if name in self.by_task]
        if of_kind is None:
            return layers
        open_to_it = set(type(task.options).model_fields) - (
            task.options.model_fields_set if task.definition else set()
        )
        options = {name: value for name, value in of_kind.options.items() if name in open_to_it}
        return [of_kind.model_copy(update={"options": options}), *layers]

    def on(self, task: Task, field: str) -> Any:
        """Return a field of the suite as it is on a task: the value of its own layer, its group's, its kind's, or the
        suite's.
        """
        given = (getattr(layer, field) for layer in reversed(self.layers(task)))
        return next((value for value in given if value is not None), getattr(self, field))

    def has_base_model(self, task: Task, asked: str | None) -> bool:
        """Return whether the base model that a command asks for on a task is the suite's; none asked for is."""
        return asked in (None, self.on(task, "base_model"))


@dataclass(frozen=True)
class SuiteChoice:
    """A suite, and the reason for its choice."""

    suite: Suite
    why: str


def suite_names() -> list[str]:
    """Return the names of the suites that come with parbench."""
    return _FILES.names()


def load_suite(name: str) -> Suite:
    """Return a suite by name or by the path of a YAML file.

    Raises:
        UserError: no such suite, or the file is not one.
    """
    if name in suite_names():
        return _shipped(name).model_copy(deep=True)
    return parse_suite(_FILES.own_text(name, also=(AUTO,)), name)


@cache
def _shipped(name: str) -> Suite:
    return parse_suite(_FILES.shipped_text(name), name)


def parse_suite(text: str, origin: str) -> Suite:
    """Parse a suite from YAML; ``origin`` is its name in error messages.

    Raises:
        UserError: it is not YAML, or not a suite.
    """
    return validated(Suite, _FILES.content(text, origin), f'the suite "{origin}"')


def suite_text(suite: Suite) -> str:
    """Return a suite as the YAML that `parse_suite` reads."""
    return yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def choose_suite(name: str, unreachable: Callable[[Suite], str | None]) -> SuiteChoice:
    """Return the named suite; for ``auto`` the full suite if this machine can run it, else the miniature.

    Args:
        name: a suite's name, a file, or ``auto``.
        unreachable: returns why a suite's model or data are not available, or ``None`` if they are.
    """
    if name != AUTO:
        return SuiteChoice(load_suite(name), "chosen by name")
    full = load_suite(FULL)
    obstacle = lacking(full.requires) or unreachable(full)
    if obstacle is None:
        return SuiteChoice(full, "chosen by auto: this machine can run it")
    return SuiteChoice(load_suite(MINI), f"chosen by auto: {FULL} cannot run here, {obstacle}")


def lacking(requirements: Requirements) -> str | None:
    """Return which requirement this machine does not meet, or ``None``."""
    if requirements.device == "cpu":
        return None
    import torch

    if not torch.cuda.is_available():
        return "it needs a CUDA device and there is none"
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    if requirements.device_memory_gib is not None and memory < requirements.device_memory_gib:
        return f"it needs {requirements.device_memory_gib:.0f} GiB of device memory and there are {memory:.0f}"
    return None
