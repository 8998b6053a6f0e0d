"""BLEU, NIST, METEOR, ROUGE-L and CIDEr of generated texts with several references, as the E2E challenge scores them.

The numbers are those of the challenge's official scorer (tuetschek/e2e-metrics): BLEU and NIST of mteval-v13a, METEOR,
ROUGE-L and CIDEr of the MS-COCO caption evaluation. BLEU, METEOR and ROUGE-L lie between 0 and 1, CIDEr between 0 and
10, NIST has no upper bound; larger is better.

A table of statistics, one row per example, is made once. All scores are computed from its rows: all, some, or all but
one. Weights over the whole set of references (the information of NIST's n-grams, CIDEr's document frequencies) are
computed with the table and do not change for a part of its rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.tasks.metrics import captioning, java, ngrams

if TYPE_CHECKING:
    import pandas as pd

StatisticsTable = Sequence[Sequence[float]] | Sequence[float]


@dataclass(frozen=True)
class CorpusMetric:
    """A score that is a function of sums over the examples.

    Attributes:
        title: as papers write it.
        column: the table's column of its statistics: a list of ``width`` numbers per example, or a number if that is 1.
        width: numbers per example.
        statistics: of hypotheses, and as many lists of references.
        score: of sums of shape (corpora, width) over so many examples each; returns shape (corpora,).
        in_java: whether the statistics are made by Java programs, from texts that one of them has tokenized. Scoring
            needs no Java.
    """

    title: str
    column: str
    width: int
    statistics: Callable[[Sequence[str], Sequence[Sequence[str]]], StatisticsTable]
    score: Callable[[np.ndarray, int], np.ndarray]
    in_java: bool = True


def _mean(sums: np.ndarray, examples: int) -> np.ndarray:
    return sums[:, 0] / examples


METRICS: dict[str, CorpusMetric] = {
    "bleu": CorpusMetric(
        "BLEU", "bleu_statistics", ngrams.BLEU_WIDTH, ngrams.bleu_statistics, ngrams.bleu, in_java=False
    ),
    "nist": CorpusMetric(
        "NIST", "nist_statistics", ngrams.NIST_WIDTH, ngrams.nist_statistics, ngrams.nist, in_java=False
    ),
    "meteor": CorpusMetric(
        "METEOR", "meteor_statistics", captioning.METEOR_WIDTH, captioning.meteor_statistics, captioning.meteor
    ),
    "rouge_l": CorpusMetric("ROUGE-L", "rouge_l", 1, captioning.rouge_l, _mean),
    "cider": CorpusMetric("CIDEr", "cider", 1, captioning.cider, _mean),
}
# With those of captions: their BLEU differs from the challenge's in tokens and smoothing.
ALL_METRICS: dict[str, CorpusMetric] = {
    **METRICS,
    "bleu_4": CorpusMetric(
        "BLEU-4", "bleu_4_statistics", captioning.BLEU_WIDTH, captioning.bleu_statistics, captioning.bleu
    ),
}


def unavailable(names: Collection[str] = METRICS) -> dict[str, str]:
    """Return those of some metrics whose statistics cannot be computed here, with what is missing and what to do."""
    no_sacrebleu = None
    if importlib.util.find_spec("sacrebleu") is None:
        no_sacrebleu = "the package sacrebleu is not installed; install it with pip install sacrebleu"
    reasons = {False: no_sacrebleu, True: java.missing()}
    return {name: reason for name in names if (reason := reasons[ALL_METRICS[name].in_java])}


def left_out() -> str | None:
    """Return a sentence on those of `METRICS` that are not available here, or ``None`` if all are."""
    names: dict[str, list[str]] = {}
    for name, why in unavailable().items():
        names.setdefault(why, []).append(METRICS[name].title)
    return "; ".join(f"left out: {', '.join(titles)}, because {why}" for why, titles in names.items()) or None


def example_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the table of statistics that `corpus_scores` and `leave_one_out` work on.

    Starts Java twice where a metric needs it, once to tokenize and once for METEOR; both have ended on return.

    Args:
        hypotheses: of shape (n,); one may be empty.
        references: for each hypothesis one text or more, none blank.
        metrics: names of `ALL_METRICS`; by default those of `METRICS` that are available here.

    Returns:
        One row per example in the given order, with a column per metric.

    Raises:
        UserError: a metric is unknown or not available here, there are no examples, one has no reference, or a Java
            program failed.
    """
    import pandas as pd

    reasons = unavailable(ALL_METRICS)
    names = [name for name in METRICS if name not in reasons] if metrics is None else list(metrics)
    for name in names:
        metric = _known(name)
        if name in reasons:
            raise UserError(f"{metric.title} cannot be computed here: {reasons[name]}")
    _check_texts(hypotheses, references)
    wanted = [ALL_METRICS[name] for name in names]
    cut = _tokenized(hypotheses, references) if any(metric.in_java for metric in wanted) else ([], [])
    return pd.DataFrame(
        {metric.column: metric.statistics(*(cut if metric.in_java else (hypotheses, references))) for metric in wanted}
    )


def corpus_scores(table: pd.DataFrame) -> dict[str, float]:
    """Return each metric whose statistics the table has, over all its rows. Needs no Java.

    Raises:
        UserError: there are no rows, or no statistics.
    """
    names = [name for name, metric in ALL_METRICS.items() if metric.column in table]
    if not names or not len(table):
        raise UserError("there is nothing to score: the table has no rows, or no statistics of a metric of texts")
    sums = {name: _rows(table, name).sum(axis=0, keepdims=True) for name in names}
    return {name: float(ALL_METRICS[name].score(sums[name], len(table))[0]) for name in names}


def leave_one_out(table: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric without each of the rows in turn, of shape (rows,).

    The weights of NIST and CIDEr stay those of all the references the table was made with.

    Raises:
        UserError: the metric is unknown or not in the table, or there are fewer than two rows.
    """
    if _known(metric).column not in table:
        raise UserError(
            f"the rows hold no statistics of {ALL_METRICS[metric].title}; evaluate again where it can be computed"
        )
    if len(table) < 2:
        raise UserError(f"{ALL_METRICS[metric].title} without one of its examples takes two examples, not {len(table)}")
    rows = _rows(table, metric)
    return ALL_METRICS[metric].score(rows.sum(axis=0) - rows, len(table) - 1)


def _known(name: str) -> CorpusMetric:
    if name not in ALL_METRICS:
        raise UserError(f'there is no metric of texts "{name}"{did_you_mean(name, ALL_METRICS)}')
    return ALL_METRICS[name]


def _rows(table: pd.DataFrame, name: str) -> np.ndarray:
    metric = ALL_METRICS[name]
    return np.array(table[metric.column].tolist(), dtype=np.float64).reshape(len(table), metric.width)


def _check_texts(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not len(hypotheses) or len(hypotheses) != len(references):
        raise UserError(
            f"there are {len(hypotheses)} texts to score and references for {len(references)}; give one or more texts, "
            "and references for each"
        )
    for number, texts in enumerate(references, start=1):
        if isinstance(texts, str) or not len(texts) or not all(text.strip() for text in texts):
            raise UserError(f"example {number} has no reference, or a blank one; give a list of texts for each example")


def _tokenized(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    found = iter(captioning.ptb_tokenized([*hypotheses, *(text for texts in references for text in texts)]))
    return [next(found) for _ in hypotheses], [[next(found) for _ in texts] for texts in references]
