"""Options of the commonsense tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.llm_adapters import InstructionOptions


class CommonsenseOptions(InstructionOptions):
    """Options of the commonsense tasks.

    Attributes:
        protocol: how accuracy is measured: ``generate`` an answer and look for the choice it names, as LLM-Adapters and
            most tables since; or ``lm_eval``, whether the right choice is likelier than the others.
        train_text: what is trained on: LLM-Adapters' ``instruction``, or the question as ``lm_eval`` words it with the
            right choice after it.
        num_fewshot: examples before each question, in lm-eval's words only: drawn from the training split for each
            question, always the same ones. Not for methods that read a system prompt.
        system_shots: examples in the system prompt, for methods that read one (LoRA-Gen), which get the bare question:
            drawn from the training split of the question's set. Training draws for each question, and never the
            question itself; evaluation draws once for each set, as when a model is tuned for a task.
        unseen: sets that are reported, but neither trained nor selected on.
    """

    protocol: Literal["generate", "lm_eval"] = "generate"
    train_text: Literal["instruction", "lm_eval"] = "instruction"
    num_fewshot: int = Field(default=0, ge=0)
    system_shots: int = Field(default=5, ge=1)
    unseen: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> CommonsenseOptions:
        known = [part.name for part in SETS]
        if wrong := [name for name in self.unseen if name not in known]:
            raise ValueError(f'unseen names "{wrong[0]}", which is not a set; the sets are {", ".join(known)}')
        if self.protocol == "generate" and (self.train_text != "instruction" or self.num_fewshot):
            raise ValueError(
                "protocol=generate asks by instruction, so train_text must be instruction and num_fewshot 0; "
                "use protocol=lm_eval"
            )
        return self

    @property
    def asks_lm_eval(self) -> bool:
        """Whether documents in the hub's columns are needed."""
        return self.protocol == "lm_eval"
