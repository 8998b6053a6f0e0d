"""Settings printed in papers, one YAML file a method, each block with its source."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field


class TaskPreset(BaseModel):
    """What a paper prints for one task, over what it prints for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class Preset(TaskPreset):
    """Published settings of one method on one base model.

    Attributes:
        base_model: the registered base model they are for.
        source: the paper and table, and how the numbers came from there to here.
        not_published: what the source leaves open; a suite has to choose it.
        seeds: the seeds the paper names.
        setting: hyper-parameters of the method, for all tasks.
        training: hyper-parameters of the training, for all tasks.
        tasks: the tasks covered, and what differs on each.
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
    """Return the published presets of a method; none if it has no file here."""
    file = files("parbench.methods.presets") / f"{method}.yaml"
    if not file.is_file():
        return []
    return [Preset.model_validate(block) for block in yaml.safe_load(file.read_text(encoding="utf-8"))]


def find_preset(method: str, base_model: str, task: str) -> Preset | None:
    """Return the published preset of a method for a base model and a task, if there is one."""
    return next(
        (preset for preset in presets_of(method) if preset.base_model == base_model and task in preset.tasks),
        None,
    )
