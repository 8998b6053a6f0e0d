"""Options of tasks: how a text is generated, how large an image is, who judges."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class TaskOptions(BaseModel):
    """Options of one task; a task with options of its own has its own subclass. They are part of a run's identity.

    Attributes:
        for_a_model: names of options whose values suit one base model: what a suite sets of them holds for its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    for_a_model: ClassVar[frozenset[str]] = frozenset()


class NoOptions(TaskOptions):
    """Options of a task that has none."""
