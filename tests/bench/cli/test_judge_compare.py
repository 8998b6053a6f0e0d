"""`bench judge compare`: from the answers in the store, over HTTP, to the table."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from parbench.bench.store.layout import COMPARISONS
from parbench.reports.judged import JUDGMENTS, Judged, Line
from parbench.reports.pairing import pair_answers
from parbench.reports.statistics import Interval
from parbench.tasks.judge import PairSummary
from tests.support.compared import TASK, prefers, written
from tests.support.judge_stub import chat, endpoint, failing, text_of

pytestmark = pytest.mark.usefixtures("no_judge_keys")


def test_from_the_answers_of_the_store_to_the_table(compare, store, add_answers, questions_root):
    ids = {(method, seed): add_answers(method, seed) for method in ("lora", "loca") for seed in (1, 2)}
    with endpoint(prefers("loca", but=["More.", "2+2?"])) as stub:
        result = compare(stub)
        assert result.code == 0, result.err
        # Every turn of every question of every seed, in both orders.
        assert len(stub.requests) == 4 * 2 * 2 * 2
        asked = Counter(request["messages"][-1]["content"].partition("|")[0] for request in stub.requests)
        assert set(asked) == {"pair-v2", "pair-v2-multi-turn", "pair-math-v1", "pair-math-v1-multi-turn"}
        assert {(request["model"], request["temperature"]) for request in stub.requests} == {("gpt-4", 0.0)}
        texts = {request["messages"][-1]["content"] for request in stub.requests}
        assert "pair-math-v1|1+1?|loca of seed 2, turn 1|lora of seed 2, turn 1|right" in texts
        assert "pair-math-v1|1+1?|lora of seed 2, turn 1|loca of seed 2, turn 1|right" in texts
        assert not any("of seed 1" in text and "of seed 2" in text for text in texts)
        again = compare(stub)
        assert len(stub.requests) == 32
    assert again.out == result.out
    content, lines = written(store)
    assert content["a"] == {"name": "loca", "runs": {str(seed): ids["loca", seed] for seed in (1, 2)}}
    assert content["b"] == {"name": "lora", "runs": {str(seed): ids["lora", seed] for seed in (1, 2)}}
    assert set(lines) == {"all", "writing", "math", "seed 1", "seed 2"}
    # By hand: question 81 is won in both turns, 82 only in its first turn, 101 in both, 102 in none.
    counts = {of: tuple(line[name] for name in ("wins", "ties", "losses")) for of, line in lines.items()}
    assert counts == {
        "all": (10, 6, 0),
        "writing": (6, 2, 0),
        "math": (4, 4, 0),
        "seed 1": (5, 3, 0),
        "seed 2": (5, 3, 0),
    }
    assert lines["all"]["inconsistent"] == 6
    assert lines["all"]["win_rate_adjusted"] == pytest.approx(13 / 16)
    assert lines["all"]["win_rate"] == pytest.approx(10 / 16)
    assert content["judge"]["judge"] == "gpt-4"
    assert content["judge"]["temperature"] == 0
    assert content["judge"]["served_models"] == ["judge-0613"]
    assert set(content["judge"]["questions"]["hashes"]) == {"questions", "references", "prompts"}
    assert content["over_seeds"]["no_interval"].startswith("n = 2")
    assert content["label"].startswith("SMALL SUITE")
    for text in (
        "loca against lora on mt_bench, judged by gpt-4",
        "SMALL SUITE",
        "81.2",
        "Runs of the same seed are compared: 1, 2",
    ):
        assert text in result.out, text
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    assert len(rows) == 16
    assert (questions_root / "mt-bench").is_dir()
    kept = {path.stem for path in (store.root / COMPARISONS / JUDGMENTS).rglob("*.json")}
    assert len(kept) == 32


def test_the_interval_is_that_of_independent_software(compare, store, add_answers):
    """A t interval of the questions' means: least squares with clusters, where all have as many verdicts."""
    sm = pytest.importorskip("statsmodels.api")
    for method in ("lora", "loca"):
        add_answers(method, 1)
    with endpoint(prefers("loca", but=["More.", "2+2?"])) as stub:
        assert compare(stub).code == 0
    _, lines = written(store)
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    points = rows["winner"].map({"a": 1.0, "tie": 0.5, "b": 0.0}).to_numpy()
    groups = {"groups": rows["question_id"].to_numpy()}
    fit = sm.OLS(points, np.ones(len(points))).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
    low, high = fit.conf_int(0.05)[0]
    assert lines["all"]["low"] == pytest.approx(low)
    assert lines["all"]["high"] == pytest.approx(min(1.0, high))
    assert 0 < low < 13 / 16 < lines["all"]["high"]


def test_what_has_no_verdict_is_shown_and_is_not_a_tie(compare, store, add_answers):
    for method in ("lora", "loca"):
        add_answers(method, 1)

    def script(request, number):
        text = request["messages"][-1]["content"]
        if "pair-v2|Write.|lora" in text:
            return chat("Both are fine.")
        if "1+1?" in text:
            return failing(400, "content policy", code="content_filter")
        return prefers("lora")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    _, lines = written(store)
    everything = lines["all"]
    # Of eight comparisons: the first turn of question 81, and both turns of question 101.
    assert (everything["wins"], everything["ties"], everything["losses"], everything["undecided"]) == (0, 0, 5, 3)
    assert (everything["unparsable"], everything["failed"]) == (1, 4)
    assert everything["win_rate_adjusted"] == 0
    assert everything["no_interval"].startswith("all questions have the same result")
    assert "5 of 16 judgments have no verdict: " in result.out
    assert "4 refused" in result.out
    assert "1 unparsable" in result.out


def test_what_fastchat_reads_otherwise_is_shown(compare, store, add_answers):
    for method in ("lora", "loca"):
        add_answers(method, 1)

    def script(request, number):
        return chat(f"They claim [[A]]. {text_of(prefers('loca')(request, number))}")

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    assert written(store)[1]["all"]["wins"] == 8
    assert written(store)[1]["all"]["read_otherwise"] == 8
    assert "reads 8 of 16 judgments otherwise" in " ".join(result.out.split())


def test_runs_are_named_by_id_and_their_differences_are_reported(compare, store, add_answers):
    one = add_answers("dora", 1, word="loca")
    other = add_answers("dora", 1, word="lora", base_model="other", options={"judge": "gpt-4@https://example.org/v1"})
    add_answers("dora", 2, base_model="other")
    with endpoint(prefers("loca")) as stub:
        result = compare(stub, a=one[:10], b=other)
    assert result.code == 0, result.err
    assert "Not the same on both sides: base_model (tiny, other)." in result.out
    assert written(store)[1]["all"]["wins"] == 8


def test_with_three_seeds_there_is_an_interval_over_seeds(compare, store, add_answers, questions_root):
    for seed in (1, 2, 3):
        for method in ("lora", "loca"):
            add_answers(method, seed)

    def script(request, number):
        # One seed loses a question that the others win.
        text = request["messages"][-1]["content"]
        return prefers("lora" if "of seed 3" in text and "1+1?" in text else "loca", but=["More."])(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    content, lines = written(store)
    over = content["over_seeds"]
    assert over["no_interval"] is None
    assert over["mean"] == pytest.approx(lines["all"]["win_rate_adjusted"])
    assert over["low"] < lines["all"]["win_rate_adjusted"] < over["high"] <= 1
    assert "Over seeds and questions: " in result.out
    pairing = pair_answers(store, TASK, "loca", "lora", questions_root)
    assert pairing.seeds == (1, 2, 3)
    assert pairing.judgments == 48
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    judged = Judged(pairing, content["judge"], rows)
    # What was written is all that is needed to make it again.
    assert [line["of"] for line in content["lines"]] == [line.of for line in judged.lines]
    first = judged.lines[0]
    assert isinstance(first, Line)
    assert isinstance(first.counts, PairSummary)
    assert isinstance(first.interval, Interval)
    assert (first.counts.wins, first.interval.low) == (lines["all"]["wins"], lines["all"]["low"])
