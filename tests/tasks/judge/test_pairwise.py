"""Comparisons in both orders, and their counts against FastChat's own."""

import argparse
import json
from random import Random

import pandas as pd
import pytest

from parbench.tasks.judge import JudgeSettings, compare_answers, summarise_pairs
from tests.support.judge_stub import chat, endpoint, failing


@pytest.fixture
def others():
    return {number: (f"other first of {number}", f"other second of {number}") for number in (1, 2, 3)}


def prefers(side: str):
    """Answer for one of the contestants, wherever it stands."""

    def script(request, number):
        text = request["messages"][-1]["content"]
        other_first = text.index("|other first") < text.index("|first of")
        return chat("[[A]]" if (side == "b") == other_first else "[[B]]")

    return script


@pytest.mark.parametrize(("side", "rate"), [("a", 1.0), ("b", 0.0)])
def test_a_judge_with_an_opinion(connect, questions, answers, others, tmp_path, side, rate):
    with endpoint(prefers(side)) as stub:
        compared = compare_answers(questions, answers, others, connect(stub), JudgeSettings(), tmp_path)
    assert len(stub.requests) == 12
    assert compared["winner"].tolist() == [side] * 6
    assert compared["prompt"].tolist() == [
        *("pair-v2", "pair-v2-multi-turn", "pair-math-v1", "pair-math-v1-multi-turn", "pair-v2", "pair-v2-multi-turn"),
    ]
    summary = summarise_pairs(compared)
    assert summary.win_rate == summary.win_rate_adjusted == rate
    assert summary.inconsistent == summary.undecided == 0


def test_a_judge_that_always_takes_the_first_sees_only_ties(connect, questions, answers, others, tmp_path):
    with endpoint([chat("[[A]]")]) as stub:
        compared = compare_answers(questions, answers, others, connect(stub), JudgeSettings(), tmp_path)
    assert compared["as_given"].tolist() == ["a"] * 6
    assert compared["swapped"].tolist() == ["b"] * 6
    summary = summarise_pairs(compared)
    assert (summary.wins, summary.ties, summary.losses, summary.inconsistent) == (0, 6, 0, 6)
    assert (summary.win_rate, summary.win_rate_adjusted) == (0.0, 0.5)


def test_what_has_no_verdict_is_undecided(connect, questions, answers, others, tmp_path):
    script = [chat("neither"), chat("[[A]]"), failing(400), chat("[[A]]"), chat("[[C]]"), chat("[[C]]"), chat("[[B]]")]
    with endpoint(script) as stub:
        compared = compare_answers(questions, answers, others, connect(stub), JudgeSettings(concurrency=1), tmp_path)
    assert compared["winner"].tolist() == [None, None, "tie", "tie", "tie", "tie"]
    assert compared["consistent"].tolist() == [None, None, True, False, False, False]
    assert compared["problems"].tolist()[:3] == [["unparsable", ""], ["rejected", ""], ["", ""]]
    summary = summarise_pairs(compared)
    assert (summary.undecided, summary.unparsable, summary.failed, summary.ties) == (2, 1, 1, 4)
    compared.to_parquet(tmp_path / "compared.parquet")
    assert summarise_pairs(pd.read_parquet(tmp_path / "compared.parquet")) == summary
    empty = summarise_pairs(compared.iloc[:2])
    assert (empty.win_rate, empty.loss_rate, empty.win_rate_adjusted) == (None, None, None)


def test_the_last_verdict_counts_and_fastchats_is_beside_it(connect, questions, answers, others, tmp_path):
    with endpoint(
        [chat("They write [[A]]. Verdict: [[B]]"), chat("[[A]]"), chat("[[C]] or [[B]]"), chat("no")]
    ) as stub:
        settings = JudgeSettings(concurrency=1)
        compared = compare_answers(questions.select([1]), answers, others, connect(stub), settings, tmp_path)
    assert compared["as_given"].tolist() == ["b", "b"]
    assert compared["swapped"].tolist() == ["b", None]
    assert compared["fastchat"].tolist() == [["a", "b"], ["b", None]]
    assert summarise_pairs(compared).read_otherwise == 1


def test_the_counts_are_fastchats(connect, questions, answers, others, tmp_path, monkeypatch):
    """Sixty random comparisons through FastChat's table of pairwise results."""
    show = pytest.importorskip("fastchat.llm_judge.show_result")
    draw = Random(3)
    marks = [draw.choice(["[[A]]", "[[A]]", "[[B]]", "[[C]]", "?"]) for _ in range(120)]
    with endpoint(lambda request, number: chat(marks[number])) as stub:
        settings = JudgeSettings(repeats=10, concurrency=1)
        compared = compare_answers(questions, answers, others, connect(stub), settings, tmp_path / "cache")
    assert len(compared) == 60
    fastchat = {"a": "model_1", "b": "model_2", "tie": "tie", None: "error"}
    path = tmp_path / "pair.jsonl"
    rows = [
        {
            "model_1": "first",
            "model_2": "second",
            "g1_winner": fastchat[row.as_given],
            "g2_winner": fastchat[row.swapped],
        }
        for row in compared.itertuples()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed: list[pd.DataFrame] = []
    monkeypatch.setattr("builtins.print", lambda *things: printed.extend(t for t in things if hasattr(t, "columns")))
    show.display_result_pairwise(argparse.Namespace(input_file=str(path), model_list=None, baseline_model="second"))
    theirs = printed[-1].loc["first"]
    ours = summarise_pairs(compared)
    assert (ours.wins, ours.losses, ours.ties) == (theirs["win"], theirs["loss"], theirs["tie"])
    assert ours.win_rate == pytest.approx(theirs["win_rate"])
    assert ours.loss_rate == pytest.approx(theirs["loss_rate"])
    assert ours.win_rate_adjusted == pytest.approx(theirs["win_rate_adjusted"])
    assert min(ours.wins, ours.losses, ours.ties, ours.inconsistent, ours.undecided) > 0
