"""Options of tasks: how a text is generated, how large an image is, who judges."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TaskOptions(BaseModel):
    """Options of one task; a task with options of its own has its own subclass. They are part of a run's identity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoOptions(TaskOptions):
    """Options of a task that has none."""
