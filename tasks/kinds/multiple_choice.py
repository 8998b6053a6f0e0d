"""Multiple choice with a causal language model: the answer is the choice that it finds most likely."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Splits
from parbench.tasks.data.findings import empty_texts
from parbench.tasks.data.labels import places_of
from parbench.tasks.data.source import DataRef, Reads
from parbench.tasks.data.values import check_columns, text_lists_of, texts_of
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.special_tokens import continuing_ids
from parbench.tasks.kinds.text_generation import Template
from parbench.tasks.metrics.subsets import over_subsets

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows

# Each with the column of per-example rows that has the choice it counts.
METRICS = {"accuracy": "prediction", "acc_norm": "prediction_norm"}


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(LanguageModelTask):
    """A question with a choice of answers; the model is trained on the right one, and ranks all.

    ``accuracy`` takes the choice whose tokens together are most likely; ``acc_norm`` divides by the choice's
    characters first, as lm-evaluation-harness does. Of equally likely choices the first counts.

    Attributes:
        prompt_template: what stands before a choice; a space follows it.
        choices: the one column that holds a list of texts, or the columns that hold one text each.
        label: the column with the right one: its text, its column, its letter, or its number from 0; see
            `parbench.tasks.data.labels.places_of`.
        metrics: ``accuracy`` and ``acc_norm``, the primary one first.
    """

    name: str
    reference: Reference
    data: DataRef
    prompt_template: Template
    choices: tuple[str, ...]
    label: str
    metrics: tuple[str, ...] = ("accuracy", "acc_norm")

    @property
    def primary(self) -> str:  # type: ignore[override]
        """The first of the metrics."""
        return self.metrics[0]

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return what the model is given."""
        return self.prompt_template.filled(example)

    def response(self, example: Mapping[str, Any]) -> str:
        """Return the right choice."""
        return f" {example['choices'][example['label']]}"

    @property
    def reads(self) -> Reads:
        """The columns of the prompt and the choices as texts, and the label."""
        texts = (*self.prompt_template.columns, *self.choices)
        return Reads(tuple(dict.fromkeys(texts)), () if self.label in texts else ((self.label,),))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns of the prompt, ``choices``, a list of texts, and ``label``, the right one's number."""
        from datasets import Dataset

        where = f"the {split} split of {self.name}"
        columns = self.prompt_template.columns
        check_columns(dataset, tuple(dict.fromkeys((*columns, *self.choices, self.label))), where)
        kept = {name: texts_of(dataset, name, where) for name in columns}
        choices = self._choices(dataset, where)
        labels = places_of(dataset, self.label, choices, self.choices, where)
        taken = {"choices", "label"} & set(columns)
        if taken:
            raise UserError(f"{where}: a template may not show the column {', '.join(taken)}; give it another name")
        return Dataset.from_dict({**kept, "choices": choices, "label": labels})

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data: absent classes, and empty texts."""
        return [*super().findings(splits), *empty_texts(self.prompt_template.columns, splits.by_name)]

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return token ids with the right choice to train on, and in ``scored`` and ``spared`` all choices to rank.

        ``scored`` are the tokens of prompt and choice, ``spared`` the number of those that are the prompt's. Where they
        are more than ``max_length``, the prompt loses its beginning. Of a choice that is longer by itself only the
        beginning is ranked, as a warning says: two that begin alike cannot be told apart.
        """
        inputs = super().prepare(dataset, processor, max_length)
        found = [self._ranked(example, processor, max_length) for example in dataset]
        if cut := sum(not whole for _, whole in found):
            warnings.warn(
                f"{cut} of {len(found)} examples of {self.name} have a choice that does not fit into {max_length} "
                "tokens, train.max_length: only its beginning is ranked; raise it",
                stacklevel=2,
            )
        rows = [ranked for ranked, _ in found]
        scored = [[tokens for tokens, _ in row] for row in rows]
        return inputs.add_column("scored", scored).add_column("spared", [[number for _, number in row] for row in rows])

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `predictions`."""
        from datasets import Dataset

        from parbench.tasks.inference import IGNORED

        given: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        for number in range(len(inputs)):
            row = inputs[number]
            for tokens, spared in zip(row["scored"], row["spared"], strict=True):
                given["input_ids"].append(tokens)
                given["labels"].append([IGNORED] * spared + tokens[spared:])
        return self.predictions(examples, predictor.log_likelihoods(Dataset.from_dict(given))[:, 0])

    def predictions(self, examples: Dataset, log_likelihoods: np.ndarray) -> pd.DataFrame:
        """Return ``example``, ``subset``, ``label``, each metric's choice, its hits, and ``log_likelihoods``.

        Args:
            examples: the split.
            log_likelihoods: of every choice of every example, one after the other.
        """
        import pandas as pd

        choices = examples["choices"][:]
        ends = np.cumsum([len(texts) for texts in choices])
        by_example = np.split(np.asarray(log_likelihoods, dtype="float64"), ends[:-1])
        normalised = [found / [len(text) for text in texts] for found, texts in zip(by_example, choices, strict=True)]
        frame = pd.DataFrame(
            {
                "example": examples["example"][:],
                "subset": examples["subset"][:],
                "label": examples["label"][:],
                "prediction": [int(found.argmax()) for found in by_example],
                "prediction_norm": [int(found.argmax()) for found in normalised],
                "log_likelihoods": list(by_example),
            }
        )
        for metric in (name for name in self.metrics if name in METRICS):
            frame[metric] = (frame[METRICS[metric]] == frame["label"]).astype("float64")
        return frame

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return each metric; over subsets its unweighted mean, and each subset's own as ``metric_subset``."""

        def scored(rows: pd.DataFrame) -> dict[str, float]:
            return {name: float((rows[METRICS[name]] == rows["label"]).mean()) for name in self.metrics}

        return over_subsets(predictions, scored)

    def _choices(self, dataset: Dataset, where: str) -> list[list[str]]:
        """Return the texts of each row's choices.

        Raises:
            UserError: a row has fewer than two, or a blank one, which would be the likeliest of all: it has no words.
        """
        if len(self.choices) > 1:
            columns = [texts_of(dataset, column, where) for column in self.choices]
            found = [list(texts) for texts in zip(*columns, strict=True)]
            for row, texts in enumerate(found, start=1):
                if absent := [name for name, text in zip(self.choices, texts, strict=True) if not text.strip()]:
                    raise UserError(
                        f"{where} has no text in column {absent[0]}, row {row}, which is a choice; fix or remove the "
                        "row, or give one column with a list of texts, of which each row may have its own number"
                    )
            return found
        (column,) = self.choices
        found = text_lists_of(dataset, column, where)
        for row, texts in enumerate(found, start=1):
            if len(texts) < 2 or not all(text.strip() for text in texts):
                raise UserError(
                    f"{where} has no list of two or more texts in column {column}, row {row}; fix or remove the row, "
                    "or name several columns of one text each"
                )
        return found

    def _ranked(
        self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> tuple[list[tuple[list[int], int]], bool]:
        """Return of each choice its tokens behind the prompt's and the number of those, and whether all are whole."""
        # The very tokens that a response is trained on, so that the two mean the same; but for the end of text, which
        # is the same for every choice.
        pairs, whole = [], True
        for number in range(len(example["choices"])):
            answered = {**example, "label": number}
            row = self._encoded(answered, tokenizer, max_length)
            tokens, spared = row["input_ids"], len(row["kept"])
            if tokens[-1] == tokenizer.eos_token_id:
                tokens = tokens[:-1]
            elif len(continuing_ids(self.response(answered), tokenizer)) > len(tokens) - spared:
                whole = False
            pairs.append((tokens, spared))
        return pairs, whole
