"""METEOR, ROUGE-L, CIDEr and BLEU-4 as the MS-COCO caption evaluation computes them, on its Java tokenizer's tokens.

The scorer of the E2E challenge takes them from there. The same jars and the same two scorers are in the package
pycocoevalcap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parbench.bench.util.errors import UserError
from parbench.tasks.metrics import java

PTB_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
METEOR_JAR = "meteor/meteor-1.5.jar"

# What the caption evaluation removes after tokenizing.
PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)

# The defaults of METEOR 1.5 for English (Denkowski and Lavie, 2014): alpha weighs precision against recall, beta and
# gamma make the penalty for fragments, delta weighs content words against function words; last the weights of exact,
# stem, synonym and paraphrase matches.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])
METEOR_WIDTH = 4 + 4 * len(MATCHERS) + 3
BLEU_WIDTH = 4 + 4 + 2


def ptb_tokenized(texts: Sequence[str]) -> list[str]:
    """Return texts cut into Penn Treebank tokens by Stanford's tokenizer, in lower case and without punctuation.

    Raises:
        UserError: there is no Java, or it failed.
    """
    arguments = ["-cp", "{jar}", "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    # A line break inside a text would split it into two.
    found = java.run(PTB_JAR, arguments, [" ".join(text.split()) for text in texts])
    _check_count(PTB_JAR, found, len(texts))
    return [" ".join(word for word in line.split() if word not in PUNCTUATION) for line in found]


def meteor_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return the statistics that METEOR 1.5 sums over the examples, of each hypothesis with its best reference.

    Args:
        hypotheses: of shape (n,), tokenized.
        references: for each of them, tokenized.

    Returns:
        For each, words of hypothesis and reference; function words of both; for each matcher the matched content words
        of both and function words of both; chunks, 0 if all words match in one; matched words of both.

    Raises:
        UserError: there is no Java, or it failed.
    """
    lines = [
        " ||| ".join(("SCORE", *(_of_one_field(text) for text in (*texts, hypothesis))))
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]
    found = _meteor(lines)
    _check_count(METEOR_JAR, found, len(lines))
    try:
        rows = np.array([line.split() for line in found], dtype=np.float64).reshape(len(lines), METEOR_WIDTH)
    except ValueError as error:
        raise UserError(f"{METEOR_JAR} did not answer with numbers; reinstall pycocoevalcap or Java") from error
    # METEOR sums the chunks of all but perfect matches, whose single chunk is not a fragment.
    perfect = (rows[:, 20] == 1) & (rows[:, 21:23] == rows[:, 0:2]).all(axis=1)
    rows[perfect, 20] = 0
    return rows.tolist()


def meteor(sums: np.ndarray, examples: int) -> np.ndarray:
    """Return METEOR 1.5, 0 to 1, of sums of statistics, of shape (corpora, 23); shape (corpora,).

    Denkowski and Lavie (2014), with the parameters for English; the program's own number for the same sums.
    """
    words, function_words = sums[:, 0:2], sums[:, 2:4]
    # Last axis everywhere: hypothesis, reference.
    matches = sums[:, 4:20].reshape(len(sums), len(MATCHERS), 2, 2)  # corpus, matcher, content or function words
    chunks, matched_words = sums[:, 20], sums[:, 21:23]
    matched = np.einsum("cmks,m,k->cs", matches, MATCHERS, (DELTA, 1 - DELTA))
    weights = DELTA * (words - function_words) + (1 - DELTA) * function_words
    precision, recall = _ratio(matched, weights).T
    mean = _ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragments = _ratio(chunks, matched_words.mean(axis=1))
    return mean * (1 - GAMMA * fragments**BETA)


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return ROUGE-L of each tokenized text, 0 to 1: of its best precision and best recall over the references."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    return [
        float(scorer.calc_score([hypothesis], list(texts)))
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return CIDEr-D of each tokenized text, 0 to 10, with the document frequencies of all these references."""
    from pycocoevalcap.cider.cider import Cider

    given = {number: list(texts) for number, texts in enumerate(references)}
    _, values = Cider().compute_score(given, {number: [text] for number, text in enumerate(hypotheses)})
    return [float(value) for value in values]


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return what BLEU-4 sums, of each tokenized text: by order the right and all n-grams, its words, a reference's.

    The reference is that of the closest length, the shorter of two.
    """
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    rows = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        found = cook_test(hypothesis, cook_refs(texts), eff="closest")
        rows.append([*found["correct"], *found["guess"], found["testlen"], found["reflen"]])
    return [[float(value) for value in row] for row in rows]


def bleu(sums: np.ndarray, examples: int) -> np.ndarray:
    """Return BLEU-4, 0 to 1, of sums of statistics, of shape (corpora, 10); shape (corpora,).

    As the caption evaluation computes it, with the same tiny numbers against division by zero.
    """
    right, all_of_them, words, wanted = sums[:, 0:4], sums[:, 4:8], sums[:, 8], sums[:, 9]
    precision = ((right + 1e-15) / (all_of_them + 1e-9)).prod(axis=1) ** 0.25
    ratio = (words + 1e-15) / (wanted + 1e-9)
    return precision * np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))


def _meteor(lines: Sequence[str]) -> list[str]:
    return java.run(METEOR_JAR, ["-Xmx2G", "-jar", "{jar}", "-", "-", "-stdio", "-l", "en", "-norm"], lines)


def _of_one_field(text: str) -> str:
    return " ".join(text.replace("|||", "").split())


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.zeros_like(over), where=under != 0)


def _check_count(jar: str, found: Sequence[str], wanted: int) -> None:
    if len(found) != wanted:
        raise UserError(f"{jar} gave {len(found)} lines for {wanted} texts; reinstall pycocoevalcap or Java")
