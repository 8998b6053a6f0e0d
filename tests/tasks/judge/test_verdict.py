"""Ratings and verdicts against FastChat's own functions, on replies of many shapes."""

import math
from itertools import pairwise
from random import Random

import pytest

from parbench.tasks.judge import PairVerdict, RatingProblem, parse_pair, parse_rating

WORDS = ["The", "answer", "is", "good", "because", "it", "covers", "x[0],", "y[12]", "[see", "3]", "{all}", "\\[it\\]"]
NUMBERS = ["10", "0", "11", "100", "-3", "7.", ".5", "05", "1e3", "", "8,5", "6/10", "rating", "7 ", " 7", "٣", "5.5.5"]
SHAPES = [
    "[[{}]]",
    "Rating: [[{}]]",
    "[{}]",
    "[rating: {}]",
    "[[Rating: {}]]",
    "{}",
    "[[{}]",
    "[{}]]",
    "[[[{}]]]",
    "[[{0}, 3]]",
]
SHAPES += ["[[{0}]] or [[4]]", "[[\n{}]]", "**[[{}]]**", "({})", "[[A]]", "[[B]]", "[[C]]", "[[D]]"]


def reply(draw: Random) -> str:
    """One judge's reply: prose, with brackets of all kinds strewn in."""
    usual = [str(draw.randint(1, 10)), f"{draw.randint(1, 9)}.5"]
    number = draw.choice([*usual, *usual, *NUMBERS, "9" * 400])
    words = draw.choices(WORDS, k=draw.randint(0, 12)) if draw.random() < 0.7 else []
    mark = draw.choice(SHAPES).format(number) if draw.random() < 0.9 else ""
    words.insert(draw.randint(0, len(words)), mark)
    return draw.choice([" ", "\n"]).join(words)


@pytest.fixture(scope="module")
def replies() -> list[str]:
    draw = Random(7)
    return ["", *(reply(draw) for _ in range(1000))]


def test_ratings_are_those_of_fastchat(fastchat_common, monkeypatch, replies):
    common = fastchat_common
    template = {"prompt_template": "{question}{answer}", "system_prompt": "s", "output_format": "[[rating]]"}
    judge = common.Judge("gpt-4", template)
    answer = {"choices": [{"turns": ["a"]}]}
    kinds: dict[str, int] = {}
    for text in replies:
        monkeypatch.setattr(common, "chat_completion_openai", lambda *arguments, text=text, **named: text)
        ours = parse_rating(text)
        try:
            theirs, _, _ = common.run_judge_single({"turns": ["q"]}, answer, judge, None)
            theirs = float(theirs)
        except (SyntaxError, OverflowError):  # FastChat stops here
            assert ours.problem is RatingProblem.UNPARSABLE
            kinds["stops"] = kinds.get("stops", 0) + 1
            continue
        assert ours.fastchat_score == theirs, text
        if theirs == -1:
            assert (ours.value, ours.problem) == (None, RatingProblem.UNPARSABLE)
        elif 1 <= theirs <= 10:
            assert (ours.value, ours.problem) == (theirs, None)
        else:
            assert (ours.value, ours.problem) == (None, RatingProblem.OUT_OF_RANGE)
        kind = ours.problem or "rated"
        kinds[kind] = kinds.get(kind, 0) + 1
    # The replies are worth something only if every kind is well among them.
    assert set(kinds) == {"rated", "unparsable", "out_of_range", "stops"}
    assert all(count >= 30 for count in kinds.values()), kinds


def test_verdicts_are_those_of_fastchat(fastchat_common, monkeypatch, replies):
    common = fastchat_common
    template = {"prompt_template": "{question}{answer_a}{answer_b}", "system_prompt": "s", "output_format": "[[A]]"}
    judge = common.Judge("gpt-4", template)
    answer = {"choices": [{"turns": ["a"]}]}
    seen = set()
    for first, second in pairwise(replies):
        text = first + second
        monkeypatch.setattr(common, "chat_completion_openai", lambda *arguments, text=text, **named: text)
        theirs, _, _ = common.run_judge_pair({"turns": ["q"]}, answer, answer, judge, None)
        assert parse_pair(text) == theirs
        seen.add(theirs)
    assert seen == set(PairVerdict)


@pytest.mark.parametrize(
    ("text", "value", "score", "problem"),
    [
        ("Rating: [[5]]", 5, 5, None),
        ("[[7.5]]", 7.5, 7.5, None),
        ("[[10]]", 10, 10, None),
        ("first [[3]] then [[9]]", 3, 3, None),
        ("Rating: [8]", 8, 8, None),
        ("arr[0] is right: [[9]]", 9, 9, None),
        ("arr[0] is right: 9", None, 0, "out_of_range"),
        ("[[11]]", None, 11, "out_of_range"),
        ("[rating: 5]", None, -1, "unparsable"),
        ("[[05]]", None, -1, "unparsable"),
        ("", None, -1, "unparsable"),
    ],
)
def test_the_shapes_that_matter(text, value, score, problem):
    rating = parse_rating(text)
    assert (rating.value, rating.fastchat_score, rating.problem) == (value, score, problem)
    assert math.isfinite(rating.fastchat_score)
