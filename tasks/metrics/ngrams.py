"""BLEU and NIST as mteval-v13a computes them, from sums over the examples.

Case is ignored and texts are cut into tokens by the rules of mteval-v13a, with which the scorer of the E2E challenge
works. BLEU is sacrebleu's. NIST (Doddington, 2002) is in no kept library in this form: it is written here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

BLEU_ORDER, NIST_ORDER = 4, 5
BLEU_WIDTH, NIST_WIDTH = 2 + 2 * BLEU_ORDER, 2 * NIST_ORDER + 2

# An output of two thirds of the references' length has half its score.
_BREVITY = math.log(2) / math.log(1.5) ** 2

Tokens = tuple[str, ...]


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(lowercase=True, tokenize="13a", smooth_method="exp", max_ngram_order=BLEU_ORDER, force=True)


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return what BLEU sums over the examples.

    Returns:
        Of each example, tokens of the hypothesis; tokens of the reference nearest in length; matched n-grams of length
        1 to 4; all n-grams of the hypothesis of length 1 to 4.
    """
    found = [
        _bleu().corpus_score([hypothesis], [[text] for text in texts])
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]
    return [[float(count) for count in (one.sys_len, one.ref_len, *one.counts, *one.totals)] for one in found]


def bleu(sums: np.ndarray, examples: int) -> np.ndarray:
    """Return BLEU, 0 to 1, of sums of statistics, of shape (corpora, 10); shape (corpora,)."""
    return np.array([_bleu_of(row) for row in sums])


def _bleu_of(row: np.ndarray) -> float:
    lengths, matched, produced = np.split(row, [2, 2 + BLEU_ORDER])
    score = _bleu().compute_bleu(
        correct=matched.tolist(),
        total=produced.tolist(),
        sys_len=int(lengths[0]),
        ref_len=int(lengths[1]),
        smooth_method="exp",
        max_ngram_order=BLEU_ORDER,
    )
    return score.score / 100


def tokens(text: str) -> Tokens:
    """Return the tokens of mteval-v13a, in lower case."""
    return tuple(_bleu().tokenizer(text.lower()).split())


def information_weights(references: Sequence[Sequence[str]]) -> dict[Tokens, float]:
    """Return the information of every n-gram of all the references, in bits.

    That of an n-gram is the base-2 logarithm of how much rarer it is than its first n-1 tokens; of a single token, than
    all tokens together (Doddington, 2002).
    """
    counts: Counter[Tokens] = Counter()
    for text in (text for texts in references for text in texts):
        words = tokens(text)
        counts[()] += len(words)
        counts.update(_ngrams(words))
    return {ngram: math.log2(counts[ngram[:-1]] / count) for ngram, count in counts.items() if ngram}


def nist_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return what NIST sums over the examples, with the information of all these references.

    Returns:
        Of each example, information of the matched n-grams of length 1 to 5; all n-grams of the hypothesis of length 1
        to 5; tokens of the references together; number of the references.
    """
    information = information_weights(references)
    return [
        _nist_statistics(tokens(hypothesis), [tokens(text) for text in texts], information)
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]


def _nist_statistics(words: Tokens, references: Sequence[Tokens], information: Mapping[Tokens, float]) -> list[float]:
    most: Counter[Tokens] = Counter()
    for reference in references:
        most |= Counter(_ngrams(reference))
    gained = [0.0] * NIST_ORDER
    for ngram, count in (Counter(_ngrams(words)) & most).items():
        gained[len(ngram) - 1] += count * information[ngram]
    produced = [float(max(0, len(words) - order)) for order in range(NIST_ORDER)]
    return [*gained, *produced, float(sum(map(len, references))), float(len(references))]


def nist(sums: np.ndarray, examples: int) -> np.ndarray:
    """Return NIST of sums of statistics over ``examples``, of shape (corpora, 12); shape (corpora,).

    The length that an output should have is computed as the E2E scorer's version of mteval-v13a does it: all tokens of
    the references, divided by the mean number of references, so that an example with many references weighs more.
    """
    gained, produced, references = np.split(sums, [NIST_ORDER, 2 * NIST_ORDER], axis=1)
    length = references[:, 0] / (references[:, 1] / examples)
    ratio = np.minimum(produced[:, 0] / length, 1)
    with np.errstate(divide="ignore"):  # of an empty output: exp(-inf) is the 0 that is meant
        penalty = np.exp(-_BREVITY * np.log(ratio) ** 2)
    return penalty * (gained / np.maximum(produced, 1)).sum(axis=1)


def _ngrams(words: Tokens) -> Iterator[Tokens]:
    for order in range(1, NIST_ORDER + 1):
        for start in range(len(words) - order + 1):
            yield words[start : start + order]
