"""Ratings and verdicts on replies of many shapes; FastChat's reading of them against its own functions."""

import re
from itertools import pairwise
from random import Random

import pytest

from parbench.tasks.judge import PairVerdict, parse_pair, parse_rating
from parbench.tasks.judge.verdict import fastchat_pair, fastchat_score, read_otherwise

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


def fastchats_rating(common, monkeypatch, text):
    """Return what FastChat's own function records, or ``None`` where it stops."""
    template = {"prompt_template": "{question}{answer}", "system_prompt": "s", "output_format": "[[rating]]"}
    monkeypatch.setattr(common, "chat_completion_openai", lambda *arguments, **named: text)
    judge, answer = common.Judge("gpt-4", template), {"choices": [{"turns": ["a"]}]}
    try:
        return float(common.run_judge_single({"turns": ["q"]}, answer, judge, None)[0])
    except (SyntaxError, OverflowError):
        return None


def test_fastchats_reading_is_fastchats(fastchat_common, monkeypatch, replies):
    seen = set()
    for text in replies:
        theirs = fastchats_rating(fastchat_common, monkeypatch, text)
        assert fastchat_score(text) == (-1 if theirs is None else theirs), text
        seen.add("stops" if theirs is None else "none" if theirs == -1 else 1 <= theirs <= 10)
    assert seen == {"stops", "none", True, False}


def test_a_judgment_with_one_rating_in_the_form_asked_for_is_read_as_fastchat_reads_it(
    fastchat_common, monkeypatch, replies
):
    kinds: dict[str, int] = {}
    for text in replies:
        if len(re.findall(r"\[\[", text)) != 1 or not re.search(r"\[\[[1-9]\d{0,3}(\.\d)?\]\]", text):
            continue
        theirs = fastchats_rating(fastchat_common, monkeypatch, text)
        rating = parse_rating(text)
        on_the_scale = theirs is not None and 1 <= theirs <= 10
        assert (rating.value, rating.problem) == ((theirs, None) if on_the_scale else (None, "out_of_range")), text
        kinds[rating.problem or "rated"] = kinds.get(rating.problem or "rated", 0) + 1
    assert set(kinds) == {"rated", "out_of_range"}
    assert all(count >= 5 for count in kinds.values()), kinds


def test_pairs_as_fastchat_reads_them(fastchat_common, monkeypatch, replies):
    common = fastchat_common
    template = {"prompt_template": "{question}{answer_a}{answer_b}", "system_prompt": "s", "output_format": "[[A]]"}
    judge = common.Judge("gpt-4", template)
    answer = {"choices": [{"turns": ["a"]}]}
    seen = set()
    for first, second in pairwise(replies):
        text = first + second
        monkeypatch.setattr(common, "chat_completion_openai", lambda *arguments, text=text, **named: text)
        theirs, _, _ = common.run_judge_pair({"turns": ["q"]}, answer, answer, judge, None)
        assert fastchat_pair(text) == theirs
        if len(re.findall(r"\[\[[A-Za-z ]+\]\]", text)) == 1 and theirs != "error":
            assert parse_pair(text) == theirs, text
            seen.add(theirs)
    assert seen == set(PairVerdict) - {PairVerdict.ERROR}


THOUGHT = [
    "<think>Perhaps [[10]].</think>",
    "Perhaps [[10]].</think>",
    "<THINK>\n[[10]]\n</THINK>",
    "<thinking>[[10]]</thinking>",
    "<reasoning>[[10]]</reasoning>",
    "<reflection>[[10]]</reflection>",
    "[THINK][[10]][/THINK]",
    "<seed:think>[[10]]</seed:think>",
    "\u25c1think\u25b7[[10]]\u25c1/think\u25b7",
    "<|begin_of_thought|>[[10]]<|end_of_thought|>",
    "<|START_THINKING|>[[10]]<|END_THINKING|>",
    "<unused94>thought [[10]]<unused95>",
    "<|channel|>analysis<|message|>[[10]]<|end|><|start|>assistant<|channel|>final<|message|>",
    "analysisThey say [[10]].assistantfinal",
]


@pytest.mark.parametrize("thought", THOUGHT)
def test_reasoning_is_dropped(thought):
    assert parse_rating(f"{thought}Rating: [[2]]").value == 2
    assert parse_rating(thought).value is None
    pair = thought.replace("10", "A")
    assert parse_pair(f"{pair}[[B]]") == "B"
    assert parse_pair(pair) == "error"


def test_marks_of_reasoning_are_read_in_one_pass():
    """A text of many openings was read to its end from each of them: half a minute for 56 KB, hours for a megabyte."""
    assert parse_rating("<think>" * 100_000 + " [[5]]").problem == "unparsable"
    assert parse_rating("<think>a <think>b [[1]]</think>" * 20_000 + "[[5]]").value == 5


def test_reasoning_that_was_cut_off_has_no_verdict_and_a_quoted_mark_is_not_reasoning():
    assert parse_rating("<think>It may be a [[9]], or").problem == "unparsable"
    assert parse_rating("The answer leaks its <think> mark. Rating: [[4]]").value == 4


@pytest.mark.parametrize(
    ("text", "value", "score", "problem"),
    [
        ("Rating: [[5]]", 5, 5, None),
        ("[[7.5]]", 7.5, 7.5, None),
        ("[[10]]", 10, 10, None),
        ("first [[3]] then [[9]]", 9, 3, None),
        ("Rating: [8]", 8, 8, None),
        ("arr[0] is right: [[9]]", 9, 9, None),
        ("x[[1]] is wrong: [[9]]", 9, 1, None),
        ("arr[0] is right: 9", None, 0, "unparsable"),
        ("[[11]]", None, 11, "out_of_range"),
        ("[[5]] or [[11]]", None, 5, "out_of_range"),
        ("[[0]]", None, 0, "out_of_range"),
        ("[[05]]", 5, -1, None),
        ("", None, -1, "unparsable"),
        # Other forms.
        ("x[1] is wrong, so 3/10", 3, 1, None),
        ("x[1] is wrong. I give it 3 out of 10.", 3, 1, None),
        ("**Rating:** **8**", 8, -1, None),
        ("[[**8**]]", 8, -1, None),
        (r"\[\[8\]\]", 8, -1, None),
        (r"$\boxed{8}$", 8, -1, None),
        ('{"rating": 8, "why": "good"}', 8, -1, None),
        ("<score>6.5</score>", 6.5, -1, None),
        ("Score (1-10): 7", 7, -1, None),
        ("[[7/10]]", 7, -1, None),
        ("[rating: 5]", 5, -1, None),
        ("Rating: [[seven]]", 7, -1, None),
        ("Rating: seven", 7, -1, None),
        ("\uff3b\uff3b8\uff3d\uff3d", 8, -1, None),
        ("7", 7, -1, None),
        # Of another scale, or no number.
        ("Rating: 4/5", None, -1, "unparsable"),
        ("Rating: 4 (out of 5)", None, -1, "unparsable"),
        ("Rating: 4 stars", None, -1, "unparsable"),
        ("Rating: 80%", None, -1, "unparsable"),
        ("Rating: 8,5", None, -1, "unparsable"),
        ("Rating: -3", None, -1, "unparsable"),
        ("Rating: 85", None, -1, "out_of_range"),
        ("[[5]] is too much. [[N/A]]", None, 5, "unparsable"),
        ("The rating is one of the best.", None, -1, "unparsable"),
        ("rated on a scale of 1 to 10", None, -1, "unparsable"),
        ("x[0] is fine", None, 0, "unparsable"),
        # The form itself, repeated.
        ('in exactly this form: "[[rating]]", for example: "Rating: [[5]]".', None, 5, "unparsable"),
        ('[[6]], in the form "[[rating]]"', 6, 6, None),
        ("Rating: [[8]]\n\n[[Explanation]]", 8, 8, None),
        ("I am rating 5 aspects: all are good.", None, -1, "unparsable"),
        ("### Rating\n8", 8, -1, None),
        ("Rating: [[8", None, -1, "unparsable"),
        ("Rating: [[3x;", None, -1, "unparsable"),
        ("Rating: [8/10]", 8, -1, None),
    ],
)
def test_the_shapes_that_matter(text, value, score, problem):
    rating = parse_rating(text)
    assert (rating.value, rating.fastchat_score, rating.problem) == (value, score, problem)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The first says [[A]], but: [[B]]", "B"),
        ("**[[A]]**", "A"),
        ("[[tie]]", "tie"),
        ("[[Assistant B]]", "B"),
        ("**Verdict: A**", "A"),
        ("My verdict is B.", "B"),
        ("The final verdict is: a tie", "tie"),
        ("The winner is a matter of taste.", "error"),
        (r"Thus $\boxed{\text{A}}$ is out, and $\boxed{B}$ it is.", "B"),
        ("So [B].", "B"),
        ("[[A]] at first. [[unsure]]", "error"),
        ("[[A]]\n\n[[Explanation]]", "A"),
        ("verdict: a tie", "tie"),
        ("m[A] is right", "error"),
        ("", "error"),
        (
            '[[B]] (form: "[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a tie)',
            "B",
        ),
    ],
)
def test_pairs_that_matter(text, verdict):
    assert parse_pair(text) == verdict


def test_another_reading_is_one_that_gives_another_number():
    assert not read_otherwise(None, -1)
    assert not read_otherwise(7.0, 7)
    assert read_otherwise(None, 11)
    assert read_otherwise(2.0, 10)
