"""Means and counts of a frame of judgments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from parbench.tasks.judge.judging import is_failure
from parbench.tasks.judge.verdict import NO_SCORE, RatingProblem, read_otherwise

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JudgeSummary:
    """Means over the rows of `judge_answers`; a row without a rating is in none, and is counted.

    Attributes:
        mean: mean rating over questions and turns, from 1 to 10; ``None`` where nothing was rated.
        by_turn: mean by turn, as far as there are ratings.
        by_category: mean by category, likewise.
        by_repeat: mean over the rows that the repeat rated, repeat by repeat; ``None`` where it rated none.
        spread: sample standard deviation of those means; ``None`` for fewer than two.
        fastchat_mean: what FastChat's ``show_result`` prints: over all judgments that are not -1, whatever their range.
        read_otherwise: judgments in which FastChat reads another rating, or one where there is none.
        judgments: rows times repeats.
        unparsable: judgments without a rating.
        out_of_range: judgments whose rating is off the scale.
        failed: judgments that are missing.
        unrated: rows without any rating.
    """

    mean: float | None
    by_turn: Mapping[int, float]
    by_category: Mapping[str, float]
    by_repeat: tuple[float | None, ...]
    spread: float | None
    fastchat_mean: float | None
    read_otherwise: int
    judgments: int
    unparsable: int
    out_of_range: int
    failed: int
    unrated: int

    @property
    def complete(self) -> bool:
        """Whether every judgment gave a rating."""
        return self.unparsable == self.out_of_range == self.failed == 0


def summarise(judged: pd.DataFrame) -> JudgeSummary:
    """Return means and counts of a frame of `judge_answers`, fresh or read back from a file."""
    rated = judged.dropna(subset="rating")
    problems = [problem for row in judged["problems"] for problem in row]
    scores = [score for row in judged["fastchat_scores"] for score in _given(row)]
    by_repeat = tuple(_mean(_given(repeat)) for repeat in zip(*judged["ratings"], strict=True))
    means = [mean for mean in by_repeat if mean is not None]
    return JudgeSummary(
        mean=_mean(rated["rating"]),
        by_turn=_means(rated, "turn"),
        by_category=_means(rated, "category"),
        by_repeat=by_repeat,
        spread=stdev(means) if len(means) > 1 else None,
        fastchat_mean=_mean(score for score in scores if score != NO_SCORE),
        read_otherwise=sum(
            read_otherwise(_or_none(rating), float(score))
            for row in zip(judged["ratings"], judged["fastchat_scores"], strict=True)
            for rating, score in zip(*row, strict=True)
            if _or_none(score) is not None
        ),
        judgments=len(problems),
        unparsable=problems.count(RatingProblem.UNPARSABLE),
        out_of_range=problems.count(RatingProblem.OUT_OF_RANGE),
        failed=sum(map(is_failure, problems)),
        unrated=len(judged) - len(rated),
    )


def _given(values: Iterable[float | None]) -> list[float]:
    return [value for value in map(_or_none, values) if value is not None]


def _or_none(value: float | None) -> float | None:
    # A frame that was in a file has NaN where there was None.
    return None if value is None or math.isnan(value) else float(value)


def _means(rated: pd.DataFrame, column: str) -> dict[Any, float]:
    means = rated.groupby(column, sort=False)["rating"].mean()
    return dict(zip(means.index.tolist(), means.tolist(), strict=True))


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
