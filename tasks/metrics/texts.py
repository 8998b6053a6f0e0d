"""Metrics of a generated text against one or more references, from kept libraries; fractions, larger is better.

============= ==================================================================================================
``exact_match`` share of texts that equal a reference, white space at the ends aside
``bleu``        corpus BLEU-4 of sacrebleu with its defaults: 13a tokens, case counts, exponential smoothing
``chrf``        corpus chrF2 of sacrebleu with its defaults: characters up to 6, no words, beta 2
``rouge_l``     mean F-measure of ROUGE-L of rouge_score, without stemming; of the best reference
============= ==================================================================================================

Each is a function of sums over the examples, so that a record is scored, and scored without one of its examples, from a
column of numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TextMetric:
    """A score of texts.

    Attributes:
        column: where per-example rows have its statistics: a number, or a list of numbers.
        statistics: of a text and its references.
        score: of the statistics' sums over a number of examples.
    """

    column: str
    statistics: Callable[[str, Sequence[str]], float | list[int]]
    score: Callable[[np.ndarray, int], float]

    def of(self, predictions: pd.DataFrame) -> float:
        """Return the score of per-example rows."""
        return self.score(self._values(predictions).sum(axis=0), len(predictions))

    def leave_one_out(self, predictions: pd.DataFrame) -> np.ndarray:
        """Return the score without each of the rows in turn, of shape (rows,)."""
        values = self._values(predictions)
        rest = values.sum(axis=0) - values
        return np.array([self.score(sums, len(values) - 1) for sums in rest])

    def _values(self, predictions: pd.DataFrame) -> np.ndarray:
        return np.array([np.atleast_1d(value) for value in predictions[self.column]], dtype="float64")


def _mean(sums: np.ndarray, examples: int) -> float:
    return float(sums[0] / examples)


def _exact_match(text: str, references: Sequence[str]) -> float:
    return float(text.strip() in {reference.strip() for reference in references})


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)


def _rouge_l(text: str, references: Sequence[str]) -> float:
    return max(float(_rouge().score(reference, text)["rougeL"].fmeasure) for reference in references)


@cache
def _sacre(name: str) -> Any:
    import sacrebleu

    # force: a text that ends in " ." is not the user's mistake here, it is what the model wrote.
    return sacrebleu.BLEU(force=True) if name == "bleu" else sacrebleu.CHRF()


def _corpus_metric(name: str) -> TextMetric:
    def statistics(text: str, references: Sequence[str]) -> list[int]:
        # The statistics that sacrebleu itself sums; it offers no public way to them.
        (found,) = _sacre(name)._extract_corpus_statistics([text], [[reference] for reference in references])
        return [int(value) for value in found]

    def score(sums: np.ndarray, examples: int) -> float:
        return float(_sacre(name)._compute_score_from_stats([int(value) for value in sums]).score) / 100

    return TextMetric(f"{name}_statistics", statistics, score)


METRICS: dict[str, TextMetric] = {
    "exact_match": TextMetric("exact_match", _exact_match, _mean),
    "bleu": _corpus_metric("bleu"),
    "chrf": _corpus_metric("chrf"),
    "rouge_l": TextMetric("rouge_l", _rouge_l, _mean),
}
