"""The verdict in a judgment: the last one after the judge's reasoning, and beside it FastChat's own reading.

FastChat (``fastchat.llm_judge.common`` 0.2.36) takes the first ``[[7]]``, else the first ``[7]``, wherever it stands:
in the reasoning of a judge that thinks, in a quotation, or as the index of ``x[1]``. Later judges reason before they
decide and put the verdict last, in the form that was asked for or in one close to it.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

# The scale that the prompts ask for.
LOWEST, HIGHEST = 1, 10

# What FastChat writes for a judgment without a rating.
NO_SCORE = -1.0

_FASTCHAT_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_FASTCHAT_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")

# Marks around reasoning: <think>, <thinking>, <seed:think>, <|begin_of_thought|>, <|START_THINKING|>, [THINK], ...
_NAME = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratch_?pad)"
_OPEN = rf"(?:<\|?(?:start_|begin_of_)?{_NAME}\|?>|\[think\]|◁think▷|<unused94>|<\|channel\|>analysis\b)"
_CLOSE = (
    rf"(?:</\|?{_NAME}\|?>|<\|?/?(?:end_|end_of_){_NAME}\|?>|\[/think\]|◁/think▷|<unused95>|<\|channel\|>final\b|"
    r"\bassistantfinal)"
)
_MARK = re.compile(rf"({_OPEN})|{_CLOSE}", re.I)
# A chat template may have opened it in the prompt; a reply that was cut off does not close it.
_UNOPENED = re.compile(rf"\A.*{_CLOSE}", re.I | re.S)
_UNCLOSED = re.compile(rf"\A\s*{_OPEN}.*", re.I | re.S)

# How FastChat's prompts show the forms, which a judge may repeat.
_EXAMPLES = re.compile(
    r"""for example:?\s*["'“]?\s*rating:\s*\[\[5\]\]|"""
    r"""\[\[A\]\]["'”]? if [^\[\]]{1,60}\[\[B\]\]["'”]? if [^\[\]]{1,60}\[\[C\]\]["'”]? (?:for|if)\b""",
    re.I,
)
_MARKDOWN = re.compile(r"[`\\]|(?<!\d)\*|\*(?!\d)")

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = rf"(?P<number>[0-9]++(?:\.[0-9]++)?+|\b(?:{'|'.join(_WORDS)})\b)"
# What a judge that does not decide puts in place of the verdict: a later one than any number or letter it has quoted.
_NONE = r"n/?a|none|null|neither|both|unrated|unsure|unknown|undecided|not rated|no rating|no verdict"
# In the form asked for: a number or nothing. Not x[[1]], which is an index, nor [[word]], which may be a heading.
_BRACKETED = re.compile(
    rf"(?:(?<![A-Za-z0-9)\]])|(?<=rating)|(?<=score)|(?<=verdict))\[\s*\["
    rf"\s*([A-Za-z .:/=]{{0,20}}[0-9][A-Za-z0-9 .:/=]{{0,20}}?|(?:\w+\s*[:=]\s*)?(?:{'|'.join(_WORDS)})|{_NONE})"
    r"\s*\]\s*\]|\bboxed\{([^{}]{1,30})\}",
    re.I,
)
_RATING = r"\b(?:rating|score|grade)\b"
_IN_BRACKETS = re.compile(rf"(?:{_RATING}\s*[:=]?\s*)?{_NUMBER}\.?(?:\s*(?:/|out of)\s*10)?", re.I)
# Score (1-10): 7; Rating: 7, "rating": 7, a rating of 7; <rating>7</rating>, | Rating | 7 |; and on the next line.
_ANNOUNCED = re.compile(
    rf"{_RATING}(?:\s*[(\[][^()\[\]]{{1,30}}[)\]](?:\s*[:=])?\s*[\"'“]*|"
    rf"[\"'”)>|]*\s*(?:[:=]|[-\u2013\u2014](?=\s)|(?:is|of)\b)\s*[\"'“(\[|]*\s*|"
    rf"\s*[\"'”)>|(\[]+\s*[\"'“]*|\s*\n\s*){_NUMBER}",
    re.I,
)
_ALONE = re.compile(
    r"(?:\A\s*([0-9]++(?:\.[0-9]++)?+)|(?<![A-Za-z0-9)\]])\[\s*([0-9]++(?:\.[0-9]++)?+)\s*\]|"
    r"(?<![\w./])([0-9]++(?:\.[0-9]++)?+)\s*(?:/|out of)\s*10)\W*\Z",
    re.I,
)
# What makes another number of the one before it: 4/5, 4 of 5 stars, 1-10, 80%, 8,5
_OTHER_SCALE = re.compile(
    r"\s*\]?\s*\(?\s*(?:%|percent|stars?\b|(?:/|out of|of)\s*(?!10(?![0-9./]*[0-9]))[0-9]|(?:[-\u2013]|to\b)\s*[0-9])|"
    r"[.,][0-9]|\s+of\b(?!\s*10)",
    re.I,
)

_BRACKETED_PAIR = re.compile(rf"\[\s*\[\s*((?:assistant )?[ABC]|tie|{_NONE})\s*\]\s*\]", re.I)
_CLOSED = re.compile(r"\s*(?:/\s*10\s*)?\]")

_VERDICT = re.compile(
    r"\b(?:verdict|winner|decision)\b[\"'”]?(?:\s*[:=]|\s+is\b:?)\s*[\"'“]*"
    r"(?:assistant\s+|a\s+(?=tie))?\[?((?-i:[ABC])|tie)\b|"
    r"\bboxed\{\s*(?:assistant\s+)?((?-i:[ABC])|tie)\s*\}|"
    r"(?<![A-Za-z0-9)\]])\[((?-i:[ABC]))\]\W*\Z",
    re.I,
)


class RatingProblem(StrEnum):
    """Why a judgment has no rating."""

    UNPARSABLE = "unparsable"
    OUT_OF_RANGE = "out_of_range"


@dataclass(frozen=True)
class Rating:
    """The rating in a judgment.

    Attributes:
        value: from 1 to 10; ``None`` if there is none.
        fastchat_score: what FastChat records: -1 for none, and whatever number it finds, on the scale or not.
        problem: why ``value`` is missing.
    """

    value: float | None
    fastchat_score: float
    problem: RatingProblem | None = None


def parse_rating(judgment: str) -> Rating:
    """Return the rating of a judgment: the last ``[[number]]`` after the reasoning.

    Without any ``[[...]]``, a number that is announced (``Rating: 7``, ``"score": 7``) or that the text ends with
    (``7/10``, ``[7]``) is the rating; the last one counts. A last verdict that is not a number, or of another scale
    than 1 to 10, is not replaced by an earlier one.
    """
    fastchat = fastchat_score(judgment)
    value = _last_number(_decided(judgment))
    if value is None:
        return Rating(None, fastchat, RatingProblem.UNPARSABLE)
    if not LOWEST <= value <= HIGHEST:
        return Rating(None, fastchat, RatingProblem.OUT_OF_RANGE)
    return Rating(value, fastchat)


def fastchat_score(judgment: str) -> float:
    """Return what FastChat records: the first ``[[number]]``, else the first ``[number]``, else -1.

    A number that Python does not read as one (``[[05]]``, digits of other scripts), at which FastChat stops, is -1.
    """
    match = _FASTCHAT_RATING.search(judgment) or _FASTCHAT_BACKUP.search(judgment)
    try:
        return float(ast.literal_eval(match[1])) if match else NO_SCORE
    except (SyntaxError, ValueError, OverflowError):
        return NO_SCORE


def read_otherwise(value: float | None, score: float) -> bool:
    """Return whether FastChat reads another rating than ``value``, which is ``None`` where there is none."""
    return score != (NO_SCORE if value is None else value)


class PairVerdict(StrEnum):
    """Which of two answers is better, by their places in the prompt; FastChat's words."""

    A = "A"
    B = "B"
    TIE = "tie"
    ERROR = "error"


_PAIR = {"a": PairVerdict.A, "b": PairVerdict.B, "c": PairVerdict.TIE, "tie": PairVerdict.TIE}


def parse_pair(judgment: str) -> PairVerdict:
    """Return the verdict of a comparison: the last ``[[A]]``, ``[[B]]`` or ``[[C]]`` after the reasoning.

    Without any ``[[...]]``, an announced or boxed one (``Verdict: A``) or a last ``[A]``. A last verdict that is
    something else is an error.
    """
    text = _decided(judgment)
    found = list(_BRACKETED_PAIR.finditer(text)) or list(_VERDICT.finditer(text))
    last = next(group for group in found[-1].groups() if group) if found else ""
    return _PAIR.get(last.lower().removeprefix("assistant").strip(), PairVerdict.ERROR)


def fastchat_pair(judgment: str) -> PairVerdict:
    """Return what FastChat reads: ``[[A]]`` anywhere, else ``[[B]]``, else ``[[C]]``, else an error."""
    for mark, verdict in (("[[A]]", PairVerdict.A), ("[[B]]", PairVerdict.B), ("[[C]]", PairVerdict.TIE)):
        if mark in judgment:
            return verdict
    return PairVerdict.ERROR


def _decided(judgment: str) -> str:
    """Return a judgment without reasoning, repeated examples and markdown, and with plain brackets and digits."""
    text = unicodedata.normalize("NFKC", judgment.replace("【", "[").replace("】", "]"))
    text = _without_reasoning(text)
    for pattern in (_UNOPENED, _UNCLOSED, _EXAMPLES):
        text = pattern.sub(" ", text)
    return _MARKDOWN.sub("", text)


def _without_reasoning(text: str) -> str:
    """Return a text without what is between each opening mark and the next closing one, in one pass of the text."""
    kept, end, opened = [], 0, None
    for mark in _MARK.finditer(text):
        if mark[1] is not None:
            opened = mark.start() if opened is None else opened
        elif opened is not None:
            kept.append(text[end:opened])
            end, opened = mark.end(), None
    return " ".join([*kept, text[end:]])


def _last_number(text: str) -> float | None:
    if bracketed := [match[1] or match[2] for match in _BRACKETED.finditer(text)]:
        inside = _IN_BRACKETS.fullmatch(bracketed[-1].strip())
        return _number(inside["number"]) if inside else None
    places = sorted(_other_forms(text), key=lambda place: place[0])
    return places[-1][1] if places else None


def _other_forms(text: str) -> Iterator[tuple[int, float | None]]:
    """Yield position and number of each rating in another form; ``None`` for one of another scale."""
    for match in _ANNOUNCED.finditer(text):
        is_open = match[0].count("[") > match[0].count("]")
        unreadable = _OTHER_SCALE.match(text, match.end()) or (is_open and not _CLOSED.match(text, match.end()))
        yield match.start("number"), None if unreadable else _number(match["number"])
    if last := _ALONE.search(text):
        yield last.start(last.lastindex or 0), float(last[last.lastindex or 0])


def _number(text: str) -> float:
    return float(_WORDS.index(text.lower()) + 1) if text.lower() in _WORDS else float(text)
