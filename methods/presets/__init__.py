"""Settings published in papers: one YAML file per method, each block with its source."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field


class TaskPreset(BaseModel):
    """The settings of a paper for one task, which override those for all tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class Preset(TaskPreset):
    """Published settings of one method on one base model.

    Attributes:
        base_model: name of the registered base model.
        source: paper and table, and how the values were derived from them.
        not_published: what the source does not state, and a suite has to choose.
        seeds: the seeds of the paper.
        setting: hyper-parameters of the method, for all tasks.
        training: hyper-parameters of the training, for all tasks.
        tasks: the tasks of the source, and their own values.
    """

    base_model: str
    source: str
    not_published: str = ""
    seeds: tuple[int, ...] = ()
    tasks: dict[str, TaskPreset]

    def on(self, task: str) -> TaskPreset:
        """Return the settings on one of the preset's tasks."""
        special = self.tasks[task]
        return TaskPreset(setting={**self.setting, **special.setting}, training={**self.training, **special.training})


def presets_of(method: str) -> list[Preset]:
    """Return the published presets of a method; an empty list if it has no file here."""
    file = files("parbench.methods.presets") / f"{method}.yaml"
    if not file.is_file():
        return []
    return [Preset.model_validate(block) for block in yaml.safe_load(file.read_text(encoding="utf-8"))]


def find_preset(method: str, base_model: str, task: str) -> Preset | None:
    """Return the published preset of a method for a base model and a task, or ``None``."""
    return next(
        (preset for preset in presets_of(method) if preset.base_model == base_model and task in preset.tasks),
        None,
    )
