"""Generation of a text from the columns of an example, scored against what should have been written."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Evaluation, Splits
from parbench.tasks.data.findings import empty_texts
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.values import check_columns, text_lists_of, texts_of
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood
from parbench.tasks.metrics.subsets import over_subsets
from parbench.tasks.metrics.texts import METRICS, described, reference_scores, unfair
from parbench.tasks.metrics.tokens import TokenizerNames
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows


class GenerationOptions(TaskOptions):
    """How a text is generated: without sampling, greedily or by beams."""

    max_new_tokens: PositiveInt = 64
    num_beams: PositiveInt = 1
    stop: tuple[str, ...] = ()
    # Report metrics even if they do not give the references full marks against themselves.
    accept_unfair_metrics: bool = False


@dataclass(frozen=True)
class Template:
    """A text with columns in braces: ``"{question}\\nAnswer:"``; a brace itself is written twice.

    Raises:
        UserError: a field is anything but the plain name of a column.
    """

    text: str

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise UserError(f'the template "{self.text}" cannot be read: {error}; write {{column}}') from error
        for _, column, form, conversion in parts:
            if column is None:
                continue
            # An attribute or an index of a value is what a template must never reach.
            if form or conversion or not column or column.isdigit() or set(column) & set(".[]{}"):
                raise UserError(
                    f'the template "{self.text}" has {{{column}}} in it; only a plain column name may stand in braces, '
                    "and a brace itself is written twice"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it needs."""
        found = (column for _, column, _, _ in string.Formatter().parse(self.text))
        return tuple(dict.fromkeys(column for column in found if column is not None))

    def filled(self, example: Mapping[str, Any]) -> str:
        """Return the text with the values of an example."""
        return self.text.format_map({column: str(example[column]) for column in self.columns})


@dataclass(frozen=True, kw_only=True)
class TextGeneration(LanguageModelTask):
    """A task of one generated text per example.

    Attributes:
        prompt_template: what the model is given.
        response_template: what it is trained to answer; a space between the two belongs to it.
        references: the column of right texts, one or a list; default: the response.
        metrics: names of `parbench.tasks.metrics.texts`, the primary one first.
        tokens: of BLEU and ROUGE-L.
    """

    name: str
    reference: Reference
    data: DataRef
    prompt_template: Template
    response_template: Template
    references: str | None = None
    metrics: tuple[str, ...]
    tokens: TokenizerNames = field(default_factory=TokenizerNames)
    options: GenerationOptions = field(default_factory=GenerationOptions)

    @property
    def primary(self) -> str:  # type: ignore[override]
        """The first of the metrics."""
        return self.metrics[0]

    def describe(self, source: DataSource) -> str:
        """Return where the data comes from, and the tokens of the metrics, for a table."""
        return "; ".join(filter(None, (super().describe(source), described(self.metrics, self.tokens))))

    def check_metrics(self, reported: Dataset) -> None:
        """Check that each metric gives the references full marks against themselves.

        Raises:
            UserError: one does not, and ``accept_unfair_metrics`` is not set.
        """
        if self.options.accept_unfair_metrics:
            return
        if reasons := unfair(reported["references"][:], self.metrics, self.tokens):
            raise UserError(
                f"{self.name}: {'; '.join(reasons.values())}. Choose tokens of the language, as tokens: {{bleu: zh}}, "
                "ja-mecab, ko-mecab or char, or other metrics: BLEU needs answers of four tokens or more, chrf and "
                "exact_match do not. The option accept_unfair_metrics reports such a metric all the same"
            )

    def reference_scores(self, reported: Dataset) -> Mapping[str, float]:
        """Return what each metric gives where every text is the reference itself."""
        return reference_scores(reported["references"][:], self.metrics, self.tokens)

    @property
    def selected_by(self) -> Evaluation:
        """By the likelihood of the responses: generating texts after every epoch and trial is too expensive."""
        return LogLikelihood()

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return what the model is given."""
        return self.prompt_template.filled(example)

    def response(self, example: Mapping[str, Any]) -> str:
        """Return what it should answer."""
        return self.response_template.filled(example)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the templates."""
        return tuple(dict.fromkeys((*self.prompt_template.columns, *self.response_template.columns)))

    @property
    def reads(self) -> Reads:
        """The columns of the templates, and that of the references."""
        return Reads(tuple(dict.fromkeys((*self.columns, *((self.references,) if self.references else ())))))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns of the templates, and ``references``, a list of texts."""
        from datasets import Dataset

        where = f"the {split} split of {self.name}"
        check_columns(dataset, self.reads.texts, where)
        kept = {name: texts_of(dataset, name, where) for name in self.columns}
        if self.references:
            wanted = text_lists_of(dataset, self.references, where)
        else:
            examples = (dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True))
            wanted = [[self.response(example)] for example in examples]
        for row, texts in enumerate(wanted):
            if not all(text.strip() for text in texts):
                what = f"in column {self.references}" if self.references else "to respond with"
                raise UserError(f"{where} has no text {what}, row {row + 1}; fix or remove the row")
        # A column of that name may be the one that was given, or one of a template's.
        if "references" in kept and self.references != "references":
            raise UserError(f'{where}: a template needs the column "references"; give it another name')
        return Dataset.from_dict({**kept, "references": wanted})

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data: absent classes, and empty texts."""
        return [*super().findings(splits), *empty_texts(self.prompt_template.columns, splits.by_name)]

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return token ids; see `LanguageModelTask.prepare`.

        Raises:
            UserError: what is generated would not fit into the model behind the longest prompt.
        """
        inputs = super().prepare(dataset, processor, max_length)
        check_room(inputs, processor, self.options.max_new_tokens)
        return inputs

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `predictions`."""
        options = self.options
        texts = generated(
            predictor, inputs, options.stop, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams
        )
        return self.predictions(examples, texts)

    def predictions(self, examples: Dataset, texts: Sequence[str]) -> pd.DataFrame:
        """Return ``example``, ``subset``, ``text``, ``references`` and of each metric the column it is scored from."""
        import pandas as pd

        references = examples["references"][:]
        frame = pd.DataFrame(
            {"example": examples["example"][:], "subset": examples["subset"][:], "text": list(texts)}
            | {"references": list(references)}
        )
        for metric in (METRICS[name] for name in self.metrics):
            pairs = zip(texts, references, strict=True)
            found = [metric.statistics(text, wanted, self.tokens) for text, wanted in pairs]
            frame[metric.column] = pd.Series(found)
        return frame

    def as_scored(self, text: str) -> dict[str, str]:
        """Return a text as each metric compares it; see `parbench.tasks.metrics.texts.TextMetric`."""
        return {name: METRICS[name].seen(text, self.tokens) for name in self.metrics}

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return each metric; over subsets its unweighted mean, and each subset's own as ``metric_subset``."""
        return over_subsets(predictions, lambda rows: {name: METRICS[name].of(rows) for name in self.metrics})

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return a metric without each of the examples in turn, of shape (examples,)."""
        if metric not in self.metrics:
            return None
        return METRICS[metric].leave_one_out(predictions)


def generated(predictor: Predictor, inputs: Rows, stop: Sequence[str] = (), **decoding: Any) -> list[str]:
    """Return the text that a model writes after each prompt, without sampling, up to the first of ``stop``.

    Args:
        predictor: the model.
        inputs: rows with ``prompt``, as `LanguageModelTask.prepare` makes them.
        stop: texts that end the generated text; they are not part of it.
        decoding: arguments of transformers' ``generate``.
    """
    prompts = [inputs[row]["prompt"] for row in range(len(inputs))]
    written = predictor.generate(prompts, do_sample=False, **decoding)
    texts = predictor.processor.batch_decode(written, skip_special_tokens=True)
    return [cut_at(text, stop) for text in texts]


def check_room(inputs: Dataset, processor: PreTrainedTokenizerBase, max_new_tokens: int) -> None:
    """Check that a model has positions for the longest prompt and what it may generate.

    Raises:
        UserError: it has not.
    """
    longest = max(map(len, inputs["prompt"][:]), default=0)
    if longest + max_new_tokens > processor.model_max_length:
        raise UserError(
            f"a prompt of {longest} tokens and max_new_tokens {max_new_tokens} are more than the "
            f"{processor.model_max_length} tokens that the base model takes; lower train.max_length or max_new_tokens"
        )


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Return a text up to the first of ``stop``."""
    ends = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(ends)] if ends else text
