"""Arithmetic word problems, with worked solutions: the six sets of LLM-Adapters, and generated problems.

A solution is generated and its last number taken for the answer. LLM-Adapters trains on ``math_10k``, a mixture of
GSM8K, MAWPS and AQuA with solutions written by another model, which is read from a local folder only. Without it the
six test sets are themselves cut in three: such scores are of another protocol and compare with nothing published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.arithmetic import KINDS, GeneratedProblems
from parbench.tasks.base import Evaluation, Splits, load_checked
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.split import CutSplits, cut_splits
from parbench.tasks.data.values import texts_of
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood
from parbench.tasks.llm_adapters import (
    REFERENCE,
    InstructionOptions,
    MixedSet,
    available,
    generated,
    instruction_prompt,
    instruction_response,
    mixed,
    three_ways,
)
from parbench.tasks.metrics.subsets import over_subsets

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

LETTERS = "ABCDE"
# The set whose answers are letters; all others' are numbers.
LETTERED = "aqua"
# How far a number may be from the right one, in LLM-Adapters' evaluation.
TOLERANCE = 0.001

_COLUMNS = ("instruction", "output", "answer")


class MathOptions(InstructionOptions):
    """Options of the math tasks.

    Attributes:
        max_new_tokens: after which a solution ends; LLM-Adapters' 256.
    """

    max_new_tokens: int = Field(default=256, ge=1)


@dataclass(frozen=True, kw_only=True)
class MathReasoning(LanguageModelTask):
    """Word problems of several sets, trained on as one.

    Attributes:
        forms: where the data is; of several, the first that is there. One whose training split is among the reported
            ones has none of its own, and is cut in three.
    """

    name: str
    forms: tuple[DataRef, ...]
    options: MathOptions = field(default_factory=MathOptions)
    reference: Reference = REFERENCE
    own_source: DataSource | None = None
    primary: str = "accuracy"

    @property
    def data(self) -> DataRef:  # type: ignore[override]
        """The first form."""
        return self.forms[0]

    def missing(self, source: DataSource) -> str | None:
        """Return why the data is not available in any form, or ``None`` if it is."""
        return None if available(self.forms, source) else source.missing(self.forms[-1])

    def describe(self, source: DataSource) -> str:
        """Return where the data comes from, and whether it is cut again."""
        form = self._form(source)
        return source.describe(form) + (" (test sets cut in three)" if _has_no_training_split(form) else "")

    def revision(self, source: DataSource) -> str:
        """Return the hash that fixes the data."""
        return source.revision(self._form(source))

    @property
    def loss_on(self) -> Literal["response", "all"]:
        """The tokens that the loss counts."""
        return self.options.loss_on

    def splits(self, source: DataSource, limit: int | None = None) -> Splits:
        """Load the sets and cut them; ``limit`` is the most examples, and of the reported ones the most of each set.

        A problem that is reported is not trained on: LLM-Adapters' older ``math_data.json`` is four fifths of the very
        test sets. Where test sets are cut in three, only solutions that come to the right answer are trained on.
        """
        form = self._form(source)
        raw = load_checked(source, form, self.check)
        if _has_no_training_split(form):
            bare = replace(form, train="")
            parts = [
                MixedSet(subset, _taught(subset, cut_splits(part, three_ways(bare, part), None, stratify=False)))
                for subset, part in ((subset, {split: raw[split]}) for subset, split in form.reported.items())
            ]
            return mixed(parts, limit, _worded)
        cut = cut_splits(raw, form, None, stratify=False)
        none = cut.train.select([])
        trained = MixedSet("", cut._replace(reported=cut.reported.select([])))
        parts = [MixedSet(subset, CutSplits(none, none, _of(cut.reported, subset))) for subset in form.reported]
        return mixed([trained, *parts], limit, _worded)

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the problem, its solution and its answer."""
        where = f"the {split} split of {self.name}"
        if not len(dataset):
            raise UserError(f"{where} is empty; give a file with examples")
        absent = [column for column in _COLUMNS if column not in dataset.column_names]
        if absent:
            raise UserError(
                f"{where} has no column {', '.join(absent)}: it must have {', '.join(_COLUMNS)}, and has "
                f"{', '.join(dataset.column_names)}"
            )
        lettered = split == self.data.reported.get(LETTERED)
        # Only what is reported needs an answer that can be compared with.
        checked = split in self.data.reported.values()
        kept = {column: texts_of(dataset, column, where) for column in ("instruction", "output")}
        kept["answer"] = texts_of(dataset, "answer", where, missing=None if checked else "")
        for number, answer in enumerate(kept["answer"] if checked else (), start=1):
            if not math.isfinite(_value(answer, lettered)):
                wanted = "one of the letters A to E" if lettered else "a number"
                raise UserError(f"{where}, row {number}, has the answer {answer!r}; it must be {wanted}")
        return type(dataset).from_dict(kept)

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return the problem in LLM-Adapters' frame."""
        return instruction_prompt(example["instruction"])

    def response(self, example: Mapping[str, Any]) -> str:
        """Return the solution."""
        return instruction_response(example["output"])

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example: ``label``, ``prediction``, ``accuracy``, ``answer`` (as found) and ``text``.

        Letters are numbered from 0. ``prediction`` is the label itself where the answer is within the tolerance of it,
        so that the two are equal exactly where the answer counts as right; infinite without an answer.
        """
        import pandas as pd

        texts = generated(predictor, inputs, self.options)
        rows = []
        for text, subset, right in zip(texts, examples["subset"][:], examples["answer"][:], strict=True):
            lettered = subset == LETTERED
            answer = found_letter(text) if lettered else found_number(text)
            label, value = _value(right, lettered), _value(answer, lettered)
            prediction = label if abs(value - label) <= TOLERANCE else value
            rows.append((label, prediction, float(prediction == label), answer, text))
        frame = pd.DataFrame(rows, columns=["label", "prediction", "accuracy", "answer", "text"])
        frame.insert(0, "example", examples["example"][:])
        frame.insert(1, "subset", examples["subset"][:])
        return frame

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``accuracy``, the mean over the sets, and ``accuracy_SET`` of each."""
        return over_subsets(predictions, lambda rows: {"accuracy": float(rows["accuracy"].mean())})

    @property
    def selected_by(self) -> Evaluation:
        """The likelihood of the solutions, or the accuracy if chosen."""
        return LogLikelihood() if self.options.select_by == "log_likelihood" else self

    def _form(self, source: DataSource) -> DataRef:
        return available(self.forms, source) or self.forms[-1]


def found_number(text: str) -> str:
    """Return the last number of a text, as LLM-Adapters finds it: commas are left out; ``""`` if there is none."""
    found = re.findall(r"-?\d+\.?\d*", text.replace(",", ""))
    return found[-1] if found else ""


def found_letter(text: str) -> str:
    """Return the first capital from A to E of a text, wherever it is, as LLM-Adapters finds it; ``""`` if none."""
    found = re.search(f"[{LETTERS}]", text)
    return found[0] if found else ""


def _has_no_training_split(form: DataRef) -> bool:
    return form.train in form.reported.values()


def _of(rows: Dataset, subset: str) -> Dataset:
    return rows.select([row for row, name in enumerate(rows["subset"][:]) if name == subset])


def _value(answer: str, lettered: bool) -> float:
    """Return an answer as a number; infinite for none, as in LLM-Adapters' evaluation."""
    if lettered:
        return float(LETTERS.index(answer)) if answer in tuple(LETTERS) else math.inf
    try:
        return float(answer)
    except ValueError:
        return math.inf


def _taught(subset: str, cut: CutSplits) -> CutSplits:
    """Return a cut without the training solutions with a wrong answer: they were written by a model."""
    lettered = subset == LETTERED

    def right(rows: Dataset) -> list[int]:
        """An output ends with ``The answer is (C).`` or a number."""
        ends = [text.rpartition("nswer is")[2] if lettered else text for text in rows["output"][:]]
        found = [found_letter(text) if lettered else found_number(text) for text in ends]
        pairs = zip(found, rows["answer"][:], strict=True)
        return [
            row
            for row, (one, other) in enumerate(pairs)
            if abs(_value(one, lettered) - _value(other, lettered)) <= TOLERANCE
        ]

    return cut._replace(train=cut.train.select(right(cut.train)), selection=cut.selection.select(right(cut.selection)))


def _worded(subset: str, rows: Dataset) -> Dataset:
    """Return rows whose examples and subsets are named by set."""
    from datasets import Dataset

    kept = {name: rows[name][:] for name in _COLUMNS}
    names = [f"{subset}:{name}" if subset else name for name in rows["example"][:]]
    return Dataset.from_dict({"example": names, "subset": [subset] * len(rows), **kept})


def _adapters(sets: Sequence[str]) -> tuple[DataRef, ...]:
    reported = {name.lower(): f"{name}_test" for name in sets}
    whole = DataRef("math-llm-adapters", train="math_10k", reported=reported, reads=Reads(_COLUMNS))
    return (whole, replace(whole, train=f"{sets[0]}_test"))


MATH = MathReasoning(name="math", forms=_adapters(("AddSub", "AQuA", "gsm8k", "MultiArith", "SVAMP", "SingleEq")))

MATH_GENERATED = MathReasoning(
    name="math_generated",
    forms=(DataRef("math-generated", train="train", reported={kind: kind for kind in KINDS}, reads=Reads(_COLUMNS)),),
    own_source=GeneratedProblems(),
    options=MathOptions(num_beams=1, max_new_tokens=48),
    reference=Reference("Arithmetic word problems written by this project's generator", 2026, "not published"),
)
