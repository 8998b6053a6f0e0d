"""GPT4Tools: when to call which tool with what, from a conversation about images.

The data must be given in the official files, which the authors offer for download and no source here provides:
``gpt4tools_71k.json``, ``gpt4tools_test_unseen.json`` (with tools that are not in the training data) and
``gpt4tools_val_seen.json``, in a folder ``gpt4tools`` under ``--data-root``. Of a row ``instruction`` and ``output``
are read, as the official training does.

Training is on the instruction, followed at once by the output without white space at its ends, where the official
training has Vicuna's words "USER:" and "ASSISTANT:" around the two; its evaluation continues the bare instruction.
Evaluation is greedy: the official generation settings name a temperature, but do not sample.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import PositiveInt

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Evaluation
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.values import check_columns
from parbench.tasks.gpt4tools.metrics import TraceScores, check_wanted, scores
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood
from parbench.tasks.kinds.text_generation import check_room, generated
from parbench.tasks.metrics.subsets import over_subsets
from parbench.tasks.metrics.units import FRACTION, Unit
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows

REFERENCE = Reference(
    "GPT4Tools: Teaching Large Language Model to Use Tools via Self-instruction", 2023, "NeurIPS", "2305.18752"
)
# Where the system prompt with its tools ends and the conversation begins.
CONVERSATION = "Previous conversation:"
METRICS = (*TraceScores._fields, "average")


class ToolOptions(TaskOptions):
    """What a user may set.

    Attributes:
        tools: ``edge`` keeps the definitions of the tools in the prompt; ``cloud`` leaves out the whole system prompt
            they are in, for methods that give it to another model (LoRA-Gen, section 4.4).
        max_new_tokens: the official evaluation has 512.
    """

    tools: Literal["edge", "cloud"] = "edge"
    max_new_tokens: PositiveInt = 512


@dataclass(frozen=True, kw_only=True)
class Gpt4Tools(LanguageModelTask):
    """One reported split of GPT4Tools; ``average`` is the mean of the five official scores, as LoRA-Gen reports it."""

    name: str
    data: DataRef
    reference: Reference = REFERENCE
    primary: str = "average"
    units: ClassVar[Mapping[str, Unit]] = dict.fromkeys(METRICS, FRACTION)
    options: ToolOptions = field(default_factory=ToolOptions)

    def missing(self, source: DataSource) -> str | None:
        """Return why it cannot run with what ``source`` and this installation have."""
        if importlib.util.find_spec("pycocoevalcap") is None:
            return "its score needs the package pycocoevalcap, which is not installed (pip install pycocoevalcap)"
        return super().missing(source)

    @property
    def selected_by(self) -> Evaluation:
        """By the likelihood of the responses: 512 generated tokens per example after each epoch are too expensive."""
        return LogLikelihood()

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return the instruction, or the part of it for the edge model."""
        instruction: str = example["instruction"]
        return instruction if self.options.tools == "edge" else divided(instruction)[1]

    def response(self, example: Mapping[str, Any]) -> str:
        """Return thoughts, actions and their input, or an answer."""
        return str(example["output"]).strip()

    @property
    def reads(self) -> Reads:
        """The instruction and the output."""
        return Reads(("instruction", "output"))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return ``instruction`` and ``output``, both readable."""
        where = f"the {split} split of {self.name}"
        check_columns(dataset, ("instruction", "output"), where)
        kept = dataset.select_columns(["instruction", "output"])
        for row, example in enumerate(kept, start=1):
            if not all(isinstance(text, str) and text.strip() for text in example.values()):
                raise UserError(f"{where} has no text as instruction or output, row {row}; fix or remove the row")
            try:
                check_wanted(example["output"])
                divided(example["instruction"])
            except UserError as error:
                raise UserError(f"{where} is not of GPT4Tools' form in row {row}: {error}") from error
        return kept

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return token ids; see `LanguageModelTask.prepare`."""
        inputs = super().prepare(dataset, processor, max_length)
        check_room(inputs, processor, self.options.max_new_tokens)
        return inputs

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `predictions`."""
        return self.predictions(examples, generated(predictor, inputs, max_new_tokens=self.options.max_new_tokens))

    def predictions(self, examples: Dataset, texts: Sequence[str]) -> pd.DataFrame:
        """Return ``example``, ``subset``, ``text``, and each metric's value of each example."""
        import pandas as pd

        found = [scores(text, wanted) for text, wanted in zip(texts, examples["output"][:], strict=True)]
        frame = pd.DataFrame(found, columns=list(TraceScores._fields))
        frame["average"] = frame.mean(axis=1)
        named = pd.DataFrame({"example": examples["example"][:], "subset": examples["subset"][:], "text": list(texts)})
        return pd.concat([named, frame], axis=1)

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return the mean of each metric over the examples."""
        return over_subsets(predictions, lambda rows: {name: float(rows[name].mean()) for name in METRICS})

    def with_system_prompt(self) -> Self:
        """Return the task with the definitions of the tools in the system prompt."""
        return self.configured({"tools": "cloud"})

    def system_prompt(self, example: Mapping[str, Any]) -> str:
        """Return the definitions of the tools."""
        return divided(example["instruction"])[0]


def divided(instruction: str) -> tuple[str, str]:
    """Return an instruction's system prompt, with the definitions of the tools, and the conversation.

    Raises:
        UserError: it has no such two parts.
    """
    system, begins, rest = instruction.partition(CONVERSATION)
    if not begins or not system.strip():
        raise UserError(f'the instruction has no system prompt followed by "{CONVERSATION}"')
    return system, begins + rest


def _reported(split: str) -> DataRef:
    return DataRef(folder="gpt4tools", train="gpt4tools_71k", reported={"": split})


UNSEEN = Gpt4Tools(name="gpt4tools/unseen", data=_reported("gpt4tools_test_unseen"))
SEEN = Gpt4Tools(name="gpt4tools/seen", data=_reported("gpt4tools_val_seen"))
