"""Single-answer grading from end to end, over HTTP, with its cache, its repeats and its summary."""

import argparse
import json
import math
from statistics import stdev

import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import (
    JudgeSettings,
    Sampling,
    judge_answers,
    judge_identity,
    summarise,
)
from tests.support.judge_stub import chat, endpoint, failing


def content(request) -> str:
    return request["messages"][-1]["content"]


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*.json") if path.parent.name != "aside")


def test_every_turn_of_every_question_is_rated(connect, questions, answers, tmp_path):
    done = []
    ratings = {"write|first of 1": "3", "why?|first of 3": "4.5"}
    with endpoint(lambda request, number: chat(f"[[{ratings.get(content(request), '8')}]]")) as stub:
        judged = judge_answers(
            questions, answers, connect(stub), JudgeSettings(), tmp_path, lambda *counts: done.append(counts)
        )
    assert list(judged.columns) == [
        *("question_id", "category", "turn", "prompt", "rating", "spread", "ratings", "fastchat_scores", "problems"),
        *("errors", "served_models", "text_sha256"),
    ]
    assert list(zip(judged["question_id"], judged["turn"], strict=True)) == [(n, t) for n in (1, 2, 3) for t in (1, 2)]
    assert judged["rating"].tolist() == [3, 8, 8, 8, 4.5, 8]
    assert judged["spread"].isna().all()
    assert judged["prompt"].tolist() == [
        *("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn"),
        *("single-v1", "single-v1-multi-turn"),
    ]
    assert set(judged["served_models"].map(tuple)) == {("judge-0613",)}
    assert done == [(count, 6) for count in range(7)]
    asked = {content(request): request["messages"][0]["content"] for request in stub.requests}
    assert asked["1+1?|first of 2|+1?|second of 2|two|three"] == "judge by single-math-v1-multi-turn"
    summary = summarise(judged)
    assert summary.mean == pytest.approx((3 + 8 + 8 + 8 + 4.5 + 8) / 6)
    assert summary.by_turn == {1: pytest.approx((3 + 8 + 4.5) / 3), 2: 8.0}
    assert summary.by_category == {"writing": 5.5, "math": 8.0, "stem": 6.25}
    assert summary.complete


def test_repeats_are_all_kept_with_mean_and_spread(connect, questions, answers, tmp_path):
    marks = ["5", "7", "9"]
    seen: dict[str, int] = {}

    def script(request, number):
        seen[content(request)] = seen.get(content(request), 0) + 1
        return chat(f"[[{marks[seen[content(request)] - 1]}]]")

    with endpoint(script) as stub:
        judged = judge_answers(questions, answers, connect(stub), JudgeSettings(repeats=3, concurrency=1), tmp_path)
    assert len(stub.requests) == 18
    assert len(files(tmp_path)) == 18
    assert judged["ratings"].tolist() == [[5, 7, 9]] * 6
    assert judged["rating"].tolist() == [7.0] * 6
    assert judged["spread"].tolist() == [2.0] * 6
    summary = summarise(judged)
    assert summary.by_repeat == (5, 7, 9)
    assert summary.spread == stdev([5, 7, 9])
    assert (summary.judgments, summary.mean) == (18, 7.0)


def test_what_has_no_rating_is_counted_and_never_averaged(connect, questions, answers, tmp_path):
    texts = {
        "write|first of 1": chat("I like it."),
        "write|first of 1|again|second of 1": chat("x[0] is fine: [[0]]"),
        "1+1?|first of 2|two": failing(400, "too long"),
        "why?|first of 3": chat("[[6]]"),
    }
    with endpoint(lambda request, number: texts.get(content(request), chat("[[10]]"))) as stub:
        judged = judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path)
    assert judged["problems"].tolist() == [["unparsable"], ["out_of_range"], ["rejected"], [""], [""], [""]]
    assert judged["errors"].tolist()[1:4] == [[""], ["the endpoint answers 400: too long"], [""]]
    assert judged["fastchat_scores"].tolist() == [[-1], [0], [None], [10], [6], [10]]
    assert [math.isnan(rating) for rating in judged["rating"]] == [True, True, True, False, False, False]
    summary = summarise(judged)
    assert summary.mean == pytest.approx(26 / 3)
    assert summary.fastchat_mean == pytest.approx(26 / 4)
    assert (summary.unparsable, summary.out_of_range, summary.failed, summary.unrated) == (1, 1, 1, 3)
    assert not summary.complete
    judged.to_parquet(tmp_path / "judged.parquet")
    assert summarise(pd.read_parquet(tmp_path / "judged.parquet")) == summary
    # The failure alone is asked again.
    with endpoint([chat("[[2]]")]) as stub:
        again = judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path)
    assert [content(request) for request in stub.requests] == ["1+1?|first of 2|two"]
    assert again["rating"][2] == 2
    assert again["problems"].tolist()[:2] == [["unparsable"], ["out_of_range"]]


def test_the_mean_is_what_fastchat_prints(connect, questions, answers, tmp_path, capsys):
    show = pytest.importorskip("fastchat.llm_judge.show_result")
    marks = ["[[7]]", "none", "[[10]]", "x[0]", "[[8.5]]", "[[1]]"]
    with endpoint(lambda request, number: chat(marks[number])) as stub:
        judged = judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=1), tmp_path)
    path = tmp_path / "single.jsonl"
    with path.open("w") as file:
        for row in judged.itertuples():
            file.write(json.dumps({"model": "m", "score": row.fastchat_scores[0], "turn": row.turn}) + "\n")
    printed = argparse.Namespace(input_file=str(path), model_list=None, bench_name="mt_bench")
    show.display_result_single(printed)
    average = capsys.readouterr().out.split("## Average ##")[1].split()[-1]
    assert float(average) == pytest.approx(summarise(judged).fastchat_mean)


def test_without_ratings_there_is_no_mean(connect, questions, answers, tmp_path):
    with endpoint([chat("no")]) as stub:
        summary = summarise(judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path))
    assert (summary.mean, summary.fastchat_mean, summary.spread) == (None, None, None)
    assert (summary.by_turn, summary.by_category, summary.by_repeat) == ({}, {}, (None,))


def test_fastchats_reading_is_kept_and_compared(connect, questions, answers, tmp_path):
    marks = ["<think>[[10]]</think>[[2]]", "[[7]]", "no", "x[1] is wrong, 3/10", "[[4]] or [[11]]", "[[8]]"]
    with endpoint(lambda request, number: chat(marks[number])) as stub:
        judged = judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=1), tmp_path)
    assert judged["ratings"].tolist() == [[2], [7], [None], [3], [None], [8]]
    assert judged["fastchat_scores"].tolist() == [[10], [7], [-1], [1], [4], [8]]
    summary = summarise(judged)
    assert summary.read_otherwise == 3
    assert (summary.mean, summary.fastchat_mean) == (5.0, 6.0)
    judged.to_parquet(tmp_path / "judged.parquet")
    assert summarise(pd.read_parquet(tmp_path / "judged.parquet")) == summary


def test_a_second_time_nothing_is_asked(connect, questions, answers, tmp_path):
    with endpoint([chat("[[5]]")]) as stub:
        first = judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path)
        asked = len(stub.requests)
        # Another endpoint is no other judge.
        second = judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=2), tmp_path)
        assert len(stub.requests) == asked == 6
        pd.testing.assert_frame_equal(first, second)
    with endpoint([chat("[[9]]")]) as elsewhere:
        third = judge_answers(questions, answers, connect(elsewhere), JudgeSettings(), tmp_path)
    pd.testing.assert_frame_equal(first, third)
    assert elsewhere.requests == []


def test_what_changes_a_judgment_is_asked_again(connect, questions, answers, tmp_path):
    with endpoint([chat("[[5]]")]) as stub:
        settings = JudgeSettings()
        judge_answers(questions, answers, connect(stub), settings, tmp_path)
        for judge, changed, changed_answers, fresh in (
            ("other", settings, answers, 6),
            ("judge", JudgeSettings(sampling=Sampling(temperature=1)), answers, 6),
            ("judge", JudgeSettings(sampling=Sampling(max_tokens=5)), answers, 6),
            ("judge", JudgeSettings(repeats=2), answers, 6),
            ("judge", settings, {**answers, 1: ("changed", "second of 1")}, 2),
            ("judge", settings, {**answers, 1: ("first of 1", "changed")}, 1),
            ("judge", JudgeSettings(sampling=Sampling(temperature=0)), answers, 0),
        ):
            before = len(stub.requests)
            judge_answers(questions, changed_answers, connect(stub, judge), changed, tmp_path)
            assert len(stub.requests) - before == fresh


def test_the_identity_holds_all_that_counts_and_no_more(questions):
    def identity(settings):
        return judge_identity("judge", settings, questions)

    base = identity(JudgeSettings())
    assert json.loads(json.dumps(base)) == base
    assert {name: base[name] for name in ("judge", "repeats", "temperature", "max_tokens")} == {
        "judge": "judge",
        "repeats": 1,
        "temperature": 0.0,
        "max_tokens": 2048,
    }
    assert set(base["questions"]["hashes"]) == {"questions", "references", "prompts"}
    assert identity(JudgeSettings(concurrency=9, give_up_after=1)) == base
    for other in (JudgeSettings(repeats=2), JudgeSettings(sampling=Sampling(limit_name="max_completion_tokens"))):
        assert identity(other) != base


def test_a_damaged_judgment_is_moved_aside_and_asked_again(connect, questions, answers, tmp_path):
    with endpoint([chat("[[5]]")]) as stub:
        judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path)
    kept = files(tmp_path)
    whole = kept[0].read_text()
    damages = (
        whole[:-20],
        whole.replace("[[5]]", "[[9]]"),
        whole.replace('"repeat": 0', '"repeat": 1'),
        "[]",
        kept[1].read_text(),
        "\udcff",
    )
    for number, damage in enumerate(damages, start=1):
        kept[0].write_bytes(damage.encode(errors="surrogateescape"))
        with endpoint([chat("[[5]]")]) as stub, pytest.warns(UserWarning, match="is damaged; it was moved to"):
            judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path)
        assert len(stub.requests) == 1
        assert kept[0].read_text() == whole
        assert len(list((tmp_path / "aside").iterdir())) == number


def test_a_cache_that_cannot_be_written_is_a_sentence(connect, questions, answers, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        endpoint([chat("[[5]]")]) as stub,
        pytest.raises(UserError, match=r"the judgment .* cannot be read|cannot keep judgments in"),
    ):
        judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path / "file")
