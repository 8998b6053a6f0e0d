"""What a judgment says: by the patterns of ``fastchat.llm_judge.common`` 0.2.36, with its failures told apart."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from enum import StrEnum

# The scale that the prompts ask for.
LOWEST, HIGHEST = 1, 10

# What FastChat writes for a judgment without a rating.
NO_SCORE = -1.0

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")


class RatingProblem(StrEnum):
    """Why a judgment has no rating."""

    UNPARSABLE = "unparsable"
    OUT_OF_RANGE = "out_of_range"


@dataclass(frozen=True)
class Rating:
    """The rating in a judgment.

    Attributes:
        value: from 1 to 10; ``None`` if there is none.
        fastchat_score: what FastChat records: -1 for none, and whatever number it finds, be it on the scale or not.
        problem: why ``value`` is missing.
    """

    value: float | None
    fastchat_score: float
    problem: RatingProblem | None = None


def parse_rating(judgment: str) -> Rating:
    """Read the rating as FastChat does: the first ``[[number]]``, else the first ``[number]``.

    A number that Python does not read as one (``[[05]]``, digits of other scripts), which FastChat stops at, is no
    rating. One off the scale is no rating either, although FastChat averages it: it comes from an index such as
    ``x[0]`` that the judge quotes.
    """
    match = _RATING.search(judgment) or _RATING_BACKUP.search(judgment)
    try:
        score = float(ast.literal_eval(match[1])) if match else None
    except (SyntaxError, ValueError, OverflowError):
        score = None
    if score is None:
        return Rating(None, NO_SCORE, RatingProblem.UNPARSABLE)
    if not LOWEST <= score <= HIGHEST:
        return Rating(None, score, RatingProblem.OUT_OF_RANGE)
    return Rating(score, score)


class PairVerdict(StrEnum):
    """Which of two answers is better, by their places in the prompt; FastChat's words."""

    A = "A"
    B = "B"
    TIE = "tie"
    ERROR = "error"


def parse_pair(judgment: str) -> PairVerdict:
    """Read a comparison as FastChat does: ``[[A]]`` anywhere, else ``[[B]]``, else ``[[C]]``, else an error."""
    for mark, verdict in (("[[A]]", PairVerdict.A), ("[[B]]", PairVerdict.B), ("[[C]]", PairVerdict.TIE)):
        if mark in judgment:
            return verdict
    return PairVerdict.ERROR
