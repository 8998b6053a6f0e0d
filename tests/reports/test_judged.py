"""Tables of pairwise judgments, by hand; and whatever names, categories and judges are called, they are text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from parbench.bench.util.errors import UserError
from parbench.reports.judged import Judged, check_judged, write_judged
from parbench.reports.pairing import Answered, Pairing
from parbench.reports.render import one_line
from parbench.tasks.judge.questions import Question, QuestionSet
from tests.support.markdown import HOSTILE, parsed_tables

POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}


def judged(winners: dict[int, Sequence[Sequence[str | None]]], **words: str) -> Judged:
    """Return verdicts: by seed and question the winners of its turns; odd questions are of one category."""
    category, error, judge, name = (words.get(what, what) for what in ("category", "error", "judge", "name"))
    rows = [
        {
            "question_id": question,
            "category": category if question % 2 else "other",
            "turn": turn,
            "winner": winner,
            "consistent": None if winner is None else True,
            "problems": ["", ""] if winner else ["refused", "unparsable"],
            "errors": ["", ""] if winner else [error, ""],
            "served_models": [judge, None],
            "seed": seed,
        }
        for seed, of_seed in winners.items()
        for question, turns in enumerate(of_seed, start=1)
        for turn, winner in enumerate(turns, start=1)
    ]
    questions = tuple(
        Question(number, "any", ("one", "two"), ()) for number in range(1, 1 + len(next(iter(winners.values()))))
    )
    asked = QuestionSet("mt_bench", questions, {}, {name: "0" * 64}, name)
    runs = {seed: f"{seed:016x}" for seed in winners}
    sides = [Answered(row, runs, {seed: {} for seed in winners}) for row in (name, "lora")]
    pairing = Pairing("mt_bench", asked, sides[0], sides[1], name, (f"Not the same: {name}.",))
    compared = pd.DataFrame(rows).astype({"winner": object, "consistent": object})
    return Judged(pairing, {"judge": judge, "temperature": 0.0, "questions": asked.identity()}, compared)


def test_the_interval_over_questions_is_the_jackknifes() -> None:
    """One question at a time left out by hand, where questions have unlike numbers of verdicts."""
    winners = [("a", "tie"), ("b", "b"), ("a", None), ("tie", "a"), (None, None)]
    whole = judged({1: winners}).lines[0]
    assert (whole.counts.wins, whole.counts.ties, whole.counts.losses, whole.counts.undecided) == (3, 2, 2, 3)
    points = [(place, POINTS[winner]) for place, turns in enumerate(winners) for winner in turns if winner]
    rate = 4 / 7
    assert whole.counts.win_rate_adjusted == pytest.approx(rate)
    left = np.array([np.mean([point for place, point in points if place != out]) for out in range(4)])
    half = t.ppf(0.975, 3) * np.sqrt(3 / 4 * np.square(left - left.mean()).sum())
    assert whole.interval is not None
    assert (whole.interval.low, whole.interval.high) == pytest.approx((max(0, rate - half), min(1, rate + half)))


def test_seeds_have_an_interval_from_three_up_and_each_its_line() -> None:
    winners: dict[int, Any] = {seed: [("a", "b"), ("a", "tie"), ("a", "a")] for seed in (1, 2)}
    two = judged(winners)
    assert two.over_seeds.interval is None
    assert two.over_seeds.reason == "n = 2: the spread over seeds needs 3 seeds or more"
    three = judged(winners | {3: [("tie", "b"), ("a", "tie"), ("a", "a")]})
    assert three.over_seeds.mean == pytest.approx((4.5 / 6 + 4.5 / 6 + 4 / 6) / 3)
    assert three.over_seeds.interval is not None
    assert [line.of for line in three.lines] == ["all", "category", "other", "seed 1", "seed 2", "seed 3"]
    assert [line.of for line in judged({1: winners[1]}).lines] == ["all", "category", "other"]


def test_a_judge_that_decides_nothing_is_one_sentence() -> None:
    with pytest.raises(UserError, match="the judge judge has decided none of 2 comparisons"):
        check_judged(judged({1: [(None, None)]}))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_text_in_markdown_and_whole_in_json(store: Any, text: str) -> None:
    found = judged({1: [("a", None), ("b", "tie"), ("a", "a")]}, category=text, error=text, judge=text, name=text)
    numbers, page, _ = write_judged(found, store)
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["lines"][1]["of"] == text
    assert content["a"]["name"] == content["judge"]["judge"] == text
    written = page.read_text(encoding="utf-8")
    (table,) = parsed_tables(written)
    assert {len(row) for row in table} == {8}
    assert [row[0] for row in table] == ["of", "all", one_line(text).strip(), "other"]
    assert all(letter == "\n" or letter.isprintable() for letter in written)
