"""Metrics of a generated text against one or more references, from maintained libraries; fractions, larger is better.

============= ==================================================================================================
``exact_match`` share of texts that equal a reference, white space at the ends aside
``bleu``        corpus BLEU-4 of sacrebleu: case counts, exponential smoothing, 13a tokens by default
``chrf``        corpus chrF2 of sacrebleu with its defaults: characters up to 6, no words, beta 2
``rouge_l``     mean F-measure of ROUGE-L of rouge_score, without stemming, over the best reference; words of any script
============= ==================================================================================================

The tokens of BLEU and ROUGE-L can be chosen, see `parbench.tasks.metrics.tokens`.

Each metric is a function of sums over the examples, so a record is scored, with or without one of its examples, from a
column of numbers per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from parbench.tasks.metrics.tokens import TokenizerNames, UnicodeTokenizer, sacrebleu_metric, unspaced_share

if TYPE_CHECKING:
    import pandas as pd

# Most examples by which a metric is checked on its references; ROUGE-L takes seconds for long texts.
CHECKED = 500
# Share of letters in scripts without spaces from which 13a and intl tokens are whole sentences.
_MOST_UNSPACED = 0.1


@dataclass(frozen=True)
class TextMetric:
    """A score of texts.

    Attributes:
        column: where per-example rows have its statistics: a number, or a list of numbers.
        statistics: of a text and its references, with given tokens.
        score: of the statistics' sums over a number of examples.
        seen: what it compares of a text: its tokens with a blank between two, or its characters.
    """

    column: str
    statistics: Callable[[str, Sequence[str], TokenizerNames], float | list[int]]
    score: Callable[[np.ndarray, int], float]
    seen: Callable[[str, TokenizerNames], str]

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


def _exact_match(text: str, references: Sequence[str], tokens: TokenizerNames) -> float:
    return float(text.strip() in {reference.strip() for reference in references})


@cache
def _rouge(tokens: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False, tokenizer=UnicodeTokenizer() if tokens == "unicode" else None)


def _rouge_l(text: str, references: Sequence[str], tokens: TokenizerNames) -> float:
    scorer = _rouge(tokens.rouge_l)
    return max(float(scorer.score(reference, text)["rougeL"].fmeasure) for reference in references)


def _rouge_words(text: str, tokens: TokenizerNames) -> str:
    return " ".join(_rouge(tokens.rouge_l)._tokenizer.tokenize(text))


def _corpus_metric(name: str, seen: Callable[[str, TokenizerNames], str]) -> TextMetric:
    def statistics(text: str, references: Sequence[str], tokens: TokenizerNames) -> list[int]:
        metric = sacrebleu_metric(name, tokens.bleu)
        # The statistics that sacrebleu itself sums; it has no public function for them.
        (found,) = metric._extract_corpus_statistics([text], [[reference] for reference in references])
        return [int(value) for value in found]

    def score(sums: np.ndarray, examples: int) -> float:
        # Of the statistics alone: no text is tokenized here.
        metric = sacrebleu_metric(name, TokenizerNames.bleu)
        return float(metric._compute_score_from_stats([int(value) for value in sums]).score) / 100

    return TextMetric(f"{name}_statistics", statistics, score, seen)


def _bleu_tokens(text: str, tokens: TokenizerNames) -> str:
    return " ".join(sacrebleu_metric("bleu", tokens.bleu)._preprocess_segment(text).split())


METRICS: dict[str, TextMetric] = {
    "exact_match": TextMetric("exact_match", _exact_match, _mean, lambda text, tokens: text.strip()),
    "bleu": _corpus_metric("bleu", _bleu_tokens),
    "chrf": _corpus_metric("chrf", lambda text, tokens: "".join(text.split())),
    "rouge_l": TextMetric("rouge_l", _rouge_l, _mean, _rouge_words),
}


def described(metrics: Sequence[str], tokens: TokenizerNames) -> str:
    """Return the tokens of those metrics that have any, for a table; empty where none has."""
    named = {"bleu": f"BLEU on {tokens.bleu} tokens", "rouge_l": f"ROUGE-L on {tokens.rouge_l} words"}
    return ", ".join(named[metric] for metric in metrics if metric in named)


def reference_scores(
    references: Sequence[Sequence[str]], metrics: Sequence[str], tokens: TokenizerNames
) -> dict[str, float]:
    """Return what each metric gives the references against themselves; 1 where the metric recognises a right text.

    Args:
        references: the texts of each example; of the first `CHECKED` examples, each text is scored against itself.
        metrics: names.
        tokens: of BLEU and ROUGE-L.
    """
    texts = [text for wanted in references[:CHECKED] for text in wanted]
    found = {}
    for name in metrics:
        values = [np.atleast_1d(METRICS[name].statistics(text, [text], tokens)) for text in texts]
        found[name] = METRICS[name].score(np.sum(values, axis=0), len(texts))
    return found


def unfair(references: Sequence[Sequence[str]], metrics: Sequence[str], tokens: TokenizerNames) -> dict[str, str]:
    """Return the metrics that cannot distinguish right texts from wrong ones in these references, with the reasons."""
    scores = reference_scores(references, metrics, tokens)
    reasons = {
        name: f"{name} gives the references {100 * score:.2f} of 100 against themselves"
        for name, score in scores.items()
        if score < 1 - 1e-9
    }
    texts = [text for wanted in references[:CHECKED] for text in wanted]
    if "bleu" in metrics and tokens.bleu in ("13a", "intl") and unspaced_share(texts) > _MOST_UNSPACED:
        reasons.setdefault("bleu", f"bleu on {tokens.bleu} tokens takes sentences without spaces for single words")
    return reasons
