"""System prompts: the part of a prompt that describes the task in general, and not the example.

Most methods get one prompt with both. Those that read the system prompt separately (see
`methods.base.Method.reads_system_prompt`) get it as tokens beside each training row, and in an evaluation once for all
rows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from parbench.bench.util.errors import UserError
from parbench.tasks.kinds.language_model import LanguageModelTask

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset
    from transformers import PreTrainedConfig

    from parbench.tasks.base import Collate, Evaluation, Task
    from parbench.tasks.inference import Predictor, Rows

IDS, MASK = "system_prompt_ids", "system_prompt_mask"


class PromptConditioned(Protocol):
    """A model that can be given one system prompt for many prompts."""

    @property
    def reader_config(self) -> PreTrainedConfig:
        """The configuration of the model that reads system prompts, whose tokenizer they are encoded with."""

    def specialised(self, system_prompt: Sequence[int], name: str | None = None) -> AbstractContextManager[None]:
        """Return the context; ``name`` is the key under which the model keeps the prompt, if any."""


def split_system_prompt(task: Task) -> LanguageModelTask:
    """Return a task with a separate system prompt.

    Raises:
        UserError: it has none.
    """
    if not isinstance(task, LanguageModelTask):
        raise UserError(
            f"the task {task.name} is not for a language model, and has no system prompt, which the method reads"
        )
    return task.with_system_prompt()


@dataclass(frozen=True)
class SystemPrompts:
    """The system prompts of a task as tokens of the model that reads them.

    Attributes:
        task: with a separate system prompt; see `split_system_prompt`.
        encode: turns a text into tokens.
    """

    task: LanguageModelTask
    encode: Callable[[str], list[int]]

    def beside(self, inputs: Rows, examples: Dataset) -> Rows:
        """Return prepared rows with the system prompt of each; ``examples`` are what they were prepared from."""
        return _Prompted(inputs, examples, self)

    def of(self, example: dict[str, Any]) -> list[int]:
        """Return the tokens of an example's system prompt."""
        return self.encode(self.task.system_prompt(example))

    def collate(self, inner: Collate) -> Collate:
        """Return a function that makes a batch: that of ``inner``, with the system prompts and their mask."""

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            import torch
            from torch.nn.utils.rnn import pad_sequence

            prompts = [torch.tensor(row[IDS], dtype=torch.long) for row in rows]
            # What the padding is does not matter: the mask hides it.
            return inner(rows) | {
                IDS: pad_sequence(prompts, batch_first=True),
                MASK: pad_sequence([torch.ones_like(prompt) for prompt in prompts], batch_first=True),
            }

        return collate

    def predicted(self, by: Evaluation, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return the per-example rows of a split, as ``by`` makes them under the system prompt of each, in order."""
        import numpy as np
        import pandas as pd

        model = cast(PromptConditioned, predictor.model)
        groups = self._groups(examples)
        frames = []
        for text, (name, places) in groups.items():
            with model.specialised(self.encode(text), name):
                frames.append(by.predict(predictor, examples.select(places), inputs.select(places)))
        order = np.argsort([place for _, places in groups.values() for place in places])
        return pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True).infer_objects()

    def _groups(self, examples: Dataset) -> dict[str, tuple[str | None, list[int]]]:
        """Return the places of each system prompt, and its subset's name where the subset has no other."""
        places: dict[str, list[int]] = {}
        prompts: dict[str, set[str]] = {}
        for place, (example, subset) in enumerate(zip(examples, examples["subset"][:], strict=True)):
            text = self.task.system_prompt(example)
            places.setdefault(text, []).append(place)
            prompts.setdefault(subset, set()).add(text)
        names = {next(iter(texts)): subset or "all" for subset, texts in prompts.items() if len(texts) == 1}
        return {text: (names.get(text), found) for text, found in places.items()}


@dataclass(frozen=True)
class _Prompted:
    """Prepared rows with system prompts, which are encoded on access: all at once may be gigabytes."""

    inputs: Rows
    examples: Dataset
    prompts: SystemPrompts

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.inputs[row], IDS: self.prompts.of(self.examples[row])}

    def select(self, indices: Sequence[int]) -> Rows:
        """Return the rows at ``indices``, in that order."""
        return _Prompted(self.inputs.select(indices), self.examples.select(indices), self.prompts)
