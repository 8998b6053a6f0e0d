"""What training and evaluation need to know of a run: its specification and the objects that it names."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import PreTrainedModel

from parbench.bench.record.run_spec import RunSpec
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import BasePrecision
from parbench.methods.base import Method, Setting
from parbench.tasks.base import Head, Modality, Task
from parbench.tasks.data.source import DataSource
from parbench.tasks.retention import GeneralText


class Backbone(Protocol):
    """A base model as training uses it; `parbench.bench.models.base_model.BaseModel` is one."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def check(self, revision: str, head: Head) -> None:
        """Raise `UserError` unless the model is available and can have ``head``."""

    def processor(self, modality: Modality, revision: str) -> Any:
        """Return the tokenizer or the image processor."""

    def load(self, head: Head, revision: str, precision: BasePrecision) -> PreTrainedModel:
        """Return the model under its own head, or under a new one drawn from torch's generator."""


class ResolvedRun(Protocol):
    """A run whose names are resolved to objects; `parbench.bench.plan.planned_run.PlannedRun` is one."""

    @property
    def spec(self) -> RunSpec:
        """Everything that determines the result."""

    @property
    def method(self) -> Method[Any]:
        """The method."""

    @property
    def setting(self) -> Setting:
        """The hyper-parameters of the method."""

    @property
    def task(self) -> Task:
        """The task under the options of the run."""

    @property
    def source(self) -> DataSource:
        """Where the data of the task is read from."""

    @property
    def base_model(self) -> Backbone:
        """The base model."""

    @property
    def training(self) -> TrainingSettings:
        """The settings of the training."""

    @property
    def general_text(self) -> GeneralText | None:
        """The text on which forgetting is measured, if it is measured."""
