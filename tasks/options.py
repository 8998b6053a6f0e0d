"""Options of tasks: how a text is generated, how large an image is, who judges."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from parbench.bench.util.elsewhere import Elsewhere

# Of lm-eval.
_ELSEWHERE = Elsewhere(
    renamed={"max_gen_toks": "max_new_tokens", "until": "stop"},
    explained={
        "num_fewshot": "examples in the prompt are an option of the commonsense tasks, as commonsense.num_fewshot",
        "limit": "give --limit, or --evaluation-limit for what is scored alone",
        "batch_size": "give train.evaluation_batch_size",
        "max_length": "give train.max_length",
    },
)


class TaskOptions(BaseModel):
    """Options of one task; a task with options of its own has its own subclass.

    Attributes:
        for_a_model: names of options whose values suit one base model: what a suite sets of them holds for its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    elsewhere: ClassVar[Elsewhere] = _ELSEWHERE
    for_a_model: ClassVar[frozenset[str]] = frozenset()

    def deciding(self) -> dict[str, Any]:
        """Return the options that decide a result, as JSON values: they are part of a run's identity."""
        return self.model_dump(mode="json")

    def not_deciding(self) -> dict[str, Any]:
        """Return the options that do not, such as an address: those that `deciding` leaves out or shortens."""
        deciding = self.deciding()
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in deciding or deciding[name] != value}


class NoOptions(TaskOptions):
    """Options of a task that has none."""
