"""The commonsense tasks: the mixture of eight sets, and each of them alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Self

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.averages import Average
from parbench.tasks.base import Evaluation, Splits, load_checked
from parbench.tasks.commonsense.options import CommonsenseOptions
from parbench.tasks.commonsense.questions import CommonsenseSet
from parbench.tasks.commonsense.scores import asked_of, by_generation, by_likelihood, harmonic_mean, scores
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.data.source import DataRef, DataSource
from parbench.tasks.data.split import CUT_SEED, cut_splits
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood
from parbench.tasks.llm_adapters import (
    REFERENCE,
    MixedSet,
    available,
    instruction_prompt,
    instruction_response,
    mixed,
    three_ways,
    without,
)
from parbench.tasks.lm_eval_bridge import as_text, right_answers

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows


@dataclass(frozen=True, kw_only=True)
class Commonsense(LanguageModelTask):
    """Multiple-choice questions of one or several sets.

    Attributes:
        apart: whether examples of the same set are shown in a system prompt, see `with_system_prompt`.
    """

    name: str
    sets: tuple[CommonsenseSet, ...]
    options: CommonsenseOptions = field(default_factory=CommonsenseOptions)
    apart: bool = False
    reference: Reference = REFERENCE
    primary: str = "accuracy"

    @property
    def data(self) -> DataRef:  # type: ignore[override]
        """The first set's."""
        return self.sets[0].data[0]

    @property
    def refs(self) -> tuple[DataRef, ...]:
        """LLM-Adapters' files, or the hub's rows where that is all there is; see `missing` for how it is chosen."""
        return tuple(self._forms(part)[0] for part in self.sets)

    def missing(self, source: DataSource) -> str | None:
        """Return why a set is not available in either form, or ``None`` if all are."""
        for part in self.sets:
            if available(part.data, source) is None:
                return source.missing(part.data[0])
        return None

    def describe(self, source: DataSource) -> str:
        """Return where the data comes from, for a table."""
        return "; ".join(dict.fromkeys(source.describe(ref) for ref in self._found(source)))

    def revision(self, source: DataSource) -> str:
        """Return the commit or content hash that fixes the data."""
        found = list(dict.fromkeys(source.revision(ref) for ref in self._found(source)))
        return found[0] if len(found) == 1 else f"sha256:{hashlib.sha256(' '.join(found).encode()).hexdigest()}"

    @property
    def loss_on(self) -> Literal["response", "all"]:
        """The tokens that the loss counts."""
        return self.options.loss_on

    def splits(self, source: DataSource, limit: int | None = None) -> Splits:
        """Load, cut and mix the sets; ``limit`` is the most examples, of the reported ones of each set.

        A set without a training split is cut in three (see `tasks.data.split`). Of an unseen set, the training split is
        used for few-shot examples only.
        """
        if all(part.name in self.options.unseen for part in self.sets):
            raise UserError(f"all sets of {self.name} are unseen; leave one to train on")
        parts = []
        for part, ref in zip(self.sets, self._found(source), strict=True):
            raw = load_checked(source, ref, partial(_read_split, part=part))
            cut = cut_splits(raw, ref if ref.train in raw else three_ways(ref, raw), None, stratify=False)
            parts.append(MixedSet(part.name, cut))
        reported = {text.strip() for part in parts for text in part.cut.reported["instruction"][:]}
        pools = {part.subset: without(part.cut.train, reported) for part in parts}
        parts = [self._shown(part) for part in parts]
        return mixed(parts, limit, lambda subset, rows: self._worded(subset, rows, pools[subset]))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the rows of a task of one set; `splits` reads the sets of a mixture one by one."""
        return _read_split(dataset, split, self.sets[0])

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return the instruction in LLM-Adapters' frame, or the question as lm-eval asks it."""
        return str(example["prompt"])

    def response(self, example: Mapping[str, Any]) -> str:
        """Return the right answer."""
        return str(example["response"])

    def with_system_prompt(self) -> Self:
        """Return the task with its few-shot examples in the system prompt, and bare questions."""
        return replace(self, apart=True)

    def system_prompt(self, example: Mapping[str, Any]) -> str:
        """Return examples of the same set with their right answers."""
        return str(example["system_prompt"])

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example: ``label``, ``prediction``, ``accuracy``; see `tasks.commonsense.scores`."""
        if self.options.protocol == "lm_eval":
            return by_likelihood(predictor, self._by_name, examples)
        return by_generation(predictor, self._by_name, examples, inputs, self.options)

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return the mean over the sets, and each set's own; see `parbench.tasks.commonsense.scores.scores`."""
        return scores(predictions, self.options.unseen)

    @property
    def selected_by(self) -> Evaluation:
        """The likelihood of the right answers, or the accuracy if chosen."""
        return LogLikelihood() if self.options.select_by == "log_likelihood" else self

    @property
    def _by_name(self) -> dict[str, CommonsenseSet]:
        return {part.name: part for part in self.sets}

    def _forms(self, part: CommonsenseSet) -> tuple[DataRef, ...]:
        """Return a set's forms, the better one first: only the hub's rows hold all that lm-eval may show."""
        return part.data[::-1] if self.options.asks_lm_eval else part.data

    def _found(self, source: DataSource) -> list[DataRef]:
        found = []
        for part in self.sets:
            forms = self._forms(part)
            found.append(available(forms, source) or forms[0])
        return found

    def _shown(self, part: MixedSet) -> MixedSet:
        """Return a set without training and selection examples, if it is unseen."""
        if part.subset not in self.options.unseen:
            return part
        nothing = part.cut.train.select([])
        return MixedSet(part.subset, part.cut._replace(train=nothing, selection=nothing))

    def _worded(self, subset: str, rows: Dataset, pool: Dataset) -> Dataset:
        """Return rows with what is trained on, ``prompt`` and ``response``, and the ``shots`` that lm-eval shows.

        With a separate system prompt, the shots are in the column ``system_prompt``.

        Args:
            subset: the set.
            rows: as `_read` and `cut_splits` leave them.
            pool: where few-shot examples come from.
        """
        from datasets import Dataset

        columns: dict[str, list[Any]] = {
            "example": [f"{subset}:{name}" for name in rows["example"][:]],
            "subset": [subset] * len(rows),
            **{name: rows[name][:] for name in ("instruction", "answer", "label", "document")},
            "shots": ["[]"] * len(rows) if self.apart else self._shots(subset, rows, pool),
        }
        texts = self._texts(subset, columns)
        columns |= {"prompt": [prompt for prompt, _ in texts], "response": [response for _, response in texts]}
        if self.apart:
            columns["system_prompt"] = self._system_prompts(subset, rows, pool)
        return Dataset.from_dict(columns)

    def _texts(self, subset: str, columns: Mapping[str, list[Any]]) -> list[tuple[str, str]]:
        """Return what is trained on, prompt and response, of rows of a set."""
        from datasets import Dataset

        if self.options.train_text == "instruction":
            return [
                (instruction_prompt(text), instruction_response(f"the correct answer is {name}"))
                for text, name in zip(columns["instruction"], columns["answer"], strict=True)
            ]
        asked = asked_of(self._by_name, Dataset.from_dict(dict(columns)))
        return right_answers(asked, {subset: columns["label"]})[subset]

    def _shots(self, subset: str, rows: Dataset, pool: Dataset) -> list[str]:
        """Return the few-shot examples of each row as JSON."""
        wanted = self.options.num_fewshot
        if not wanted:
            return ["[]"] * len(rows)
        documents = pool["document"][:]
        return [
            json.dumps([documents[row] for row in drawn])
            for drawn in _drawn(rows["example"][:], pool, wanted, f"num_fewshot={wanted}", subset)
        ]

    def _system_prompts(self, subset: str, rows: Dataset, pool: Dataset) -> list[str]:
        """Return the system prompt of each row: its own where it is trained on, the set's where it is not."""
        own = set(pool["example"][:])
        keys = [name if name in own else subset for name in rows["example"][:]]
        unique = list(dict.fromkeys(keys))
        wanted = self.options.system_shots
        draws = dict(zip(unique, _drawn(unique, pool, wanted, f"system_shots={wanted}", subset), strict=True))
        shown = pool.select(needed := sorted({row for draw in draws.values() for row in draw}))
        columns = {name: shown[name][:] for name in shown.column_names}
        columns |= {"subset": [subset] * len(shown), "shots": ["[]"] * len(shown)}
        texts = {
            row: prompt + response for row, (prompt, response) in zip(needed, self._texts(subset, columns), strict=True)
        }
        return ["\n\n".join(texts[row] for row in draws[key]) for key in keys]


def _drawn(names: Sequence[str], pool: Dataset, wanted: int, option: str, subset: str) -> Iterable[list[int]]:
    """Return for each name so many rows of a pool, none of that name, drawn by it: no limit or other name moves them.

    Raises:
        UserError: the pool is too small; names the option that wants so many.
    """
    import numpy as np

    if len(pool) <= wanted:
        raise UserError(
            f"{option} needs more than {wanted} training examples of {subset}, and there are {len(pool)}; use fewer"
        )
    known = pool["example"][:]
    for name in names:
        draw = np.random.default_rng([CUT_SEED, *name.encode()]).choice(len(pool), size=wanted + 1, replace=False)
        yield [row for row in draw.tolist() if known[row] != name][:wanted]


def _read_split(dataset: Dataset, split: str, part: CommonsenseSet) -> Dataset:
    return _read(dataset, part, f"the {split} split of {part.name}")


def _read(dataset: Dataset, part: CommonsenseSet, where: str) -> Dataset:
    """Return a split of a set, of either form, with the columns ``instruction``, ``answer``, ``label``, ``document``.

    Raises:
        UserError: a column is missing, a row cannot be read.
    """
    from datasets import Dataset

    if not len(dataset):
        raise UserError(f"{where} is empty; give a file with examples")
    present = dataset.column_names
    needed = ("instruction", "answer") if "instruction" in present else part.columns.needed(present)
    absent = [name for name in needed if name not in dataset.column_names]
    if absent:
        raise UserError(
            f"{where} has no column {', '.join(absent)}: it must have instruction and answer, or "
            f"{part.columns.described}, and has {', '.join(dataset.column_names)}"
        )
    rows = []
    for number, row in enumerate(dataset, start=1):
        try:
            asked = part.asked(row)
        except UserError as error:
            raise UserError(f"{where}, row {number}, {error}; fix or remove the row") from error
        document = part.document(row)
        rows.append(
            {
                "instruction": part.wording.instruction(asked),
                "answer": part.wording.names(len(asked.choices))[asked.label],
                "label": asked.label,
                "document": "" if document is None else as_text(document),
            }
        )
    return Dataset.from_list(rows)


COMMONSENSE = Commonsense(name="commonsense", sets=SETS)


def _alone(name: str) -> Commonsense:
    (part,) = (part for part in SETS if part.name == name)
    return Commonsense(name=f"commonsense_single/{name}", sets=(part,))


BOOLQ = _alone("boolq")
PIQA = _alone("piqa")
SIQA = _alone("siqa")
HELLASWAG = _alone("hellaswag")
WINOGRANDE = _alone("winogrande")
ARC_EASY = _alone("arc_easy")
ARC_CHALLENGE = _alone("arc_challenge")
OPENBOOKQA = _alone("openbookqa")

# AVE and HAR of LoRA-Gen's tables, here of eight trainings; those of the mixture are among its metrics.
_NAMES = tuple(f"commonsense_single/{part.name}" for part in SETS)
AVERAGES = (
    Average(f"mean of {len(SETS)} sets (AVE)", _NAMES, fmean),
    Average(f"harmonic mean of {len(SETS)} sets (HAR)", _NAMES, harmonic_mean),
)
