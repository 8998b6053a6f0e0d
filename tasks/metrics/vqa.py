"""The accuracy of VQA: an answer counts as far as annotators gave the same one.

Normalisation and accuracy are those of the official evaluator, ``vqaEval.py`` of GT-Vision-Lab/VQA at commit a013f00
(March 2021), also where it does what one may not expect: where all annotators agree, answers are compared as they are,
since questions about a text in the image ask for it as it is written; a period is removed 32 times at most.

Before that commit annotators' answers were cleaned of punctuation only, so that "none" or "the cat" was never right:
scores of older papers may be lower by that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# A word with one of its apostrophes left out gets it back. The evaluator has some with a capital, too, which never
# occur: texts are in lower case by then.
_WITH_APOSTROPHE = (
    *("ain't", "aren't", "can't", "could've", "couldn't", "couldn't've", "didn't", "doesn't", "don't", "hadn't"),
    *("hadn't've", "hasn't", "haven't", "he'd", "he'd've", "he's", "how'd", "how'll", "how's", "isn't", "it'd"),
    *("it'd've", "it'll", "ma'am", "mightn't", "mightn't've", "might've", "mustn't", "must've", "needn't", "not've"),
    *("o'clock", "oughtn't", "'ow's'at", "shan't", "she'd've", "should've", "shouldn't", "shouldn't've"),
    *("somebody'd've", "somebody'll", "somebody's", "someone'd", "someone'd've", "someone'll", "someone's"),
    *("something'd", "something'd've", "something'll", "that's", "there'd", "there'd've", "there're", "there's"),
    *("they'd", "they'd've", "they'll", "they're", "they've", "'twas", "wasn't", "we'd've", "we've", "weren't"),
    *("what'll", "what're", "what's", "what've", "when's", "where'd", "where's", "where've", "who'd", "who'd've"),
    *("who'll", "who's", "who've", "why'll", "why're", "why's", "won't", "would've", "wouldn't", "wouldn't've"),
    *("y'all", "y'all'll", "y'all'd've", "you'd", "you'd've", "you'll", "you're", "you've"),
)
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _WITH_APOSTROPHE
    for place, letter in enumerate(word)
    if letter == "'"
}
# The other way round in the evaluator.
CONTRACTIONS |= {"somebody'd": "somebodyd"}
_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_COUNTED)}
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
_MOST_PERIODS = 32
# An answer that so many others gave is right.
AGREEING = 3


def normalised(answer: str) -> str:
    """Return an answer as it is compared where annotators differ."""
    text = without_punctuation(_on_one_line(answer))
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text: str) -> str:
    """Return a text whose punctuation marks are removed, or blanks where they stand between two words."""
    found = text
    for mark in PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside_blank or _NUMBER_WITH_COMMA.search(text) else " ")
    return _PERIOD.sub("", found, count=_MOST_PERIODS)


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """Return min(n / 3, 1) for the n annotators that gave the answer, averaged over leaving each of them out.

    Args:
        answer: as it was written.
        annotators: their answers, two or more; ten in VQA.
    """
    given, theirs = _on_one_line(answer), [_on_one_line(text) for text in annotators]
    if len(set(theirs)) > 1:
        given, theirs = normalised(given), [normalised(text) for text in theirs]
    same = sum(text == given for text in theirs)
    without = [min(1.0, (same - (text == given)) / AGREEING) for text in theirs]
    return sum(without) / len(without)


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
