"""What a frame of judgments comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from parbench.tasks.judge.judging import is_failure
from parbench.tasks.judge.verdict import NO_SCORE, RatingProblem

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
        judgments: asked for: rows times repeats.
        unparsable: judgments in which no rating was found (FastChat's -1).
        out_of_range: judgments with a number off the scale in the rating's place.
        failed: judgments that could not be had.
        unrated: rows without any rating.
    """

    mean: float | None
    by_turn: Mapping[int, float]
    by_category: Mapping[str, float]
    by_repeat: tuple[float | None, ...]
    spread: float | None
    fastchat_mean: float | None
    judgments: int
    unparsable: int
    out_of_range: int
    failed: int
    unrated: int

    @property
    def complete(self) -> bool:
        """Whether every single judgment gave a rating."""
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
        judgments=len(problems),
        unparsable=problems.count(RatingProblem.UNPARSABLE),
        out_of_range=problems.count(RatingProblem.OUT_OF_RANGE),
        failed=sum(map(is_failure, problems)),
        unrated=len(judged) - len(rated),
    )


def _given(values: Iterable[float | None]) -> list[float]:
    # A frame that was in a file has NaN where there was None.
    return [float(value) for value in values if value is not None and not math.isnan(value)]


def _means(rated: pd.DataFrame, column: str) -> dict[Any, float]:
    means = rated.groupby(column, sort=False)["rating"].mean()
    return dict(zip(means.index.tolist(), means.tolist(), strict=True))


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
