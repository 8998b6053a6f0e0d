"""Single-answer grading: a judge rates each turn of each answer from 1 to 10, as FastChat's ``--mode single``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.asking import JudgeSettings, JudgmentProgress, ask_all
from parbench.tasks.judge.cache import JudgmentCache
from parbench.tasks.judge.outcome import Failure, FailureKind, Inquiry, Judge, Reply
from parbench.tasks.judge.prompts import prompt_name, single_fields
from parbench.tasks.judge.questions import Question, QuestionSet, check_answers
from parbench.tasks.judge.verdict import RatingProblem, parse_rating

if TYPE_CHECKING:
    import pandas as pd


def judge_identity(model: str, settings: JudgeSettings, questions: QuestionSet) -> dict[str, Any]:
    """Return everything that determines the judgments of given answers, ready for JSON: part of a run's identity.

    The endpoint is not in it: the same model is the same judge anywhere.
    """
    return {"judge": model, **settings.identity(), "questions": questions.identity()}


def judge_answers(
    questions: QuestionSet,
    answers: Mapping[int, Sequence[str]],
    judge: Judge,
    settings: JudgeSettings,
    cache_folder: Path,
    progress: JudgmentProgress | None = None,
) -> pd.DataFrame:
    """Have each answer rated.

    A judgment without a rating is kept, counted, and not asked for again; FastChat does the same and writes -1. It is
    never averaged.

    Args:
        questions: the questions.
        answers: by question id, one text per turn.
        judge: usually a `JudgeClient`.
        settings: how often, and how the judge writes.
        cache_folder: where raw judgments are kept; runs may share it.
        progress: called with the number of judgments so far and their total.

    Returns:
        One row per question and turn, in the order of the questions:

        ==================  ========================================================================================
        ``question_id``     FastChat's number
        ``category``        the question's
        ``turn``            1 or 2
        ``prompt``          name of the judge prompt
        ``rating``          mean of the judge's ratings, 1 to 10; missing if there is none
        ``spread``          their sample standard deviation; missing for fewer than two
        ``ratings``         the rating of each repeat, ``None`` where there is none
        ``fastchat_scores`` what FastChat would record for each repeat: -1 without a rating; ``None`` for a failure
        ``problems``        for each repeat: empty, ``unparsable``, ``out_of_range``, or a `FailureKind`
        ``errors``          for each repeat: the failure's message, or empty
        ``served_models``   the model that the endpoint reports, for each repeat
        ``text_sha256``     hash of each raw judgment, ``None`` for a failure; the text is in the cache
        ==================  ========================================================================================

    Raises:
        UserError: an answer is missing, the judge cannot be asked at all, or the cache cannot be used. A single
            judgment that fails is a missing rating instead, and its failure is in ``problems``.
    """
    import pandas as pd

    check_answers(questions, answers)
    places = [(question, turn) for question in questions.questions for turn in range(1, len(question.turns) + 1)]
    inquiries = [
        inquiry
        for question, turn in places
        for inquiry in single_inquiries(questions, question, answers[question.question_id], turn, judge.model, settings)
    ]
    outcomes = ask_all(inquiries, judge, settings, JudgmentCache(cache_folder), progress)
    repeats = settings.repeats
    rows = [
        _row(question, turn, outcomes[place * repeats : (place + 1) * repeats])
        for place, (question, turn) in enumerate(places)
    ]
    return pd.DataFrame(rows).astype({"rating": float, "spread": float})


def _row(question: Question, turn: int, outcomes: Sequence[Reply | Failure]) -> dict[str, Any]:
    return {
        "question_id": question.question_id,
        "category": question.category,
        "turn": turn,
        "prompt": prompt_name("single", turn, bool(question.reference)),
        **_rated(outcomes),
    }


def single_inquiries(
    questions: QuestionSet,
    question: Question,
    answers: Sequence[str],
    turn: int,
    judge: str,
    settings: JudgeSettings,
) -> Iterator[Inquiry]:
    """Yield the inquiries that rate one turn of one answer, one per repeat."""
    prompt = questions.prompts[prompt_name("single", turn, bool(question.reference))]
    messages = prompt.messages(single_fields(question.turns, answers, question.reference, turn))
    for repeat in range(settings.repeats):
        yield Inquiry(judge, messages, settings.sampling, repeat)


def _rated(outcomes: Sequence[Reply | Failure]) -> dict[str, Any]:
    ratings: list[float | None] = []
    scores: list[float | None] = []
    problems: list[str] = []
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            ratings.append(None)
            scores.append(None)
            problems.append(str(outcome.kind))
        else:
            rating = parse_rating(outcome.text)
            ratings.append(rating.value)
            scores.append(rating.fastchat_score)
            problems.append(str(rating.problem or ""))
    given = [rating for rating in ratings if rating is not None]
    return {
        "rating": fmean(given) if given else None,
        "spread": stdev(given) if len(given) > 1 else None,
        "ratings": ratings,
        "fastchat_scores": scores,
        "problems": problems,
        "errors": [outcome.message if isinstance(outcome, Failure) else "" for outcome in outcomes],
        "served_models": [outcome.served_model if isinstance(outcome, Reply) else None for outcome in outcomes],
        "text_sha256": [outcome.sha256 if isinstance(outcome, Reply) else None for outcome in outcomes],
    }


def is_failure(problem: str) -> bool:
    """Return whether a problem means that there is no judgment at all, rather than one without a rating."""
    return bool(problem) and problem not in set(RatingProblem)


def refuse_passing(judged: pd.DataFrame, judge: str, again: str) -> list[tuple[str, str]]:
    """Return the problem and the error of every judgment, both empty where there is none.

    Args:
        judged: rows with the columns ``problems`` and ``errors`` of `judge_answers`, or of a comparison.
        judge: its name.
        again: what the user should do about judgments that failed for a reason that may pass.

    Raises:
        UserError: there are such; caused by a `ConnectionError`, so that a run is tried again.
    """
    pairs = [pair for row in zip(judged["problems"], judged["errors"], strict=True) for pair in zip(*row, strict=True)]
    passing = [error for problem, error in pairs if is_failure(problem) and FailureKind(problem).passing]
    if passing:
        raise UserError(
            f"{len(passing)} of {len(pairs)} judgments by {judge} are missing: {passing[0]}; {again}: the others are "
            "kept and will not be asked again"
        ) from ConnectionError(passing[0])
    return pairs
