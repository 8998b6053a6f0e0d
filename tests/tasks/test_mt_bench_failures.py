"""MT-Bench where the judge fails, refuses or never rates; and its key reaches no file."""

from __future__ import annotations

import re
import threading

import pandas as pd
import pytest

from parbench.bench.record.failures import TransientError
from parbench.bench.run.execute_run import RunHooks
from tests.support.judge_stub import KEY, Answer, chat, endpoint, failing
from tests.support.mt_bench import do, rated

pytestmark = pytest.mark.usefixtures("no_judge_keys", "own_cache")


def test_when_the_judge_dies_half_way_only_the_rest_is_asked_again(planned, store, impatient):
    alive = threading.Event()

    def script(request, number):
        return rated(request, number) if alive.is_set() or number < 3 else failing(503, "gone away")

    with endpoint(script) as stub:
        run = planned(f"judge@{stub.url}", judge_concurrency=1)
        record = do(run, store)
        assert (record.status, record.metrics) == ("error", {})
        assert re.search(
            r"judge judge cannot be asked: the endpoint answers 503: gone away .* 3 judgments are kept", record.reason
        )
        assert not store.is_done(record.run_id)
        before = len(stub.requests)
        alive.set()
        record = do(run, store)
        assert record.status == "ok"
        assert len(stub.requests) - before == 5
        assert record.metrics["rating"] == 6


def test_a_dead_judge_may_be_tried_again_from_the_last_checkpoint(planned, store, impatient):
    steps = []
    watch = RunHooks(on_step=lambda done, total, loss: steps.append(done), may_retry=True)
    alive = threading.Event()

    with endpoint(lambda request, number: rated(request, number) if alive.is_set() else failing(503)) as stub:
        run = planned(f"judge@{stub.url}", sets=("train.max_steps=3", "train.checkpoint_steps=2"))
        with pytest.raises(TransientError, match="cannot be asked"):
            do(run, store, watch)
        alive.set()
        record = do(run, store, watch)
    assert record.status == "ok"
    assert steps[:3] == [1, 2, 3]
    assert steps.count(1) == 1


def test_a_single_judgment_that_might_be_had_fails_the_run(planned, store, impatient):
    def script(request, number):
        return failing(500, "try later") if "Why?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "error"
    assert "2 of 8 judgments by judge are missing: the endpoint answers 500: try later" in record.reason


HOSTILE = {
    "refused": failing(400, "content policy", code="content_filter"),
    "rejected": failing(400, "too long"),
    "unparsable": chat("\x1b[31m{{7*7}} __import__('os') [[ ]] 10/10 or so"),
    "out of range": chat("x[0] is wrong, so [[999999]]"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies_are_counted_and_never_averaged(planned, store, kind):
    def script(request, number):
        return HOSTILE[kind] if "1+1?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "ok"
    assert record.metrics["rating"] == 6
    failed = kind in ("refused", "rejected")
    assert (record.metrics["failed"], record.metrics["unparsable"]) == ((0.25, 0) if failed else (0, 0.25))
    assert any(f"2 {kind}" in note and "questions without any: 101" in note for note in record.provenance.notes)


# Each is of one prompt, whatever its reason: after the attempts it is a missing rating, and the reason is in the note.
OF_ONE_PROMPT = {
    "forbidden": failing(403, "no"),
    "refused": failing(403, "your input was flagged"),
    "empty": chat(None, reasoning_content="Rating: [[1]]"),
    "malformed": Answer(body=b"<html>"),
    "empty, without choices": Answer(body=b'{"choices": []}'),
}


@pytest.mark.parametrize("kind", OF_ONE_PROMPT)
def test_one_prompt_does_not_block_the_score(planned, store, impatient, kind):
    def script(request, number):
        return OF_ONE_PROMPT[kind] if "1+1?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}", judge_repeats=4), store)
    assert record.status == "ok"
    assert (record.metrics["rating"], record.metrics["failed"]) == (6, 0.25)
    (note,) = [note for note in record.provenance.notes if "no rating" in note]
    assert f"8 {kind.partition(',')[0]} (" in note
    assert "questions without any: 101" in note


def test_a_judge_that_never_rates_fails_the_run(planned, store):
    with endpoint([chat("A fine answer.")]) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "error"
    assert "the judge judge gave no rating in 8 judgments: 8 unparsable; name a judge" in record.reason


def test_the_key_reaches_no_file(planned, store, tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)

    def script(request, number):
        if number == 2:
            return failing(400, f"no such thing for {KEY}", X_Key=KEY)
        return chat(f"You are {KEY}. [[5]]", finish_reason=KEY)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}", judge_concurrency=1), store)
        assert record.status == "ok"
        failed = do(planned(f"other@{stub.url}", sets=("train.max_steps=1",)), store)
        assert failed.status == "ok"
    assert {headers["Authorization"] for headers in stub.headers} == {f"Bearer {KEY}"}
    with endpoint([failing(401, f"bad key {KEY}")]) as stub:
        assert do(planned(f"judge@{stub.url}", method="loca"), store).status == "error"
    files = [path for folder in (store.root, tmp_path / "cache") for path in folder.rglob("*") if path.is_file()]
    assert sum(path.name == "record.json" for path in files) == 3
    assert sum(path.name == "error.txt" for path in files) == 1
    assert sum("judgments" in path.parts for path in files) >= 15
    for path in files:
        assert KEY[:8].encode() not in path.read_bytes(), path
    # Parquet is compressed: read it as well.
    for path in store.runs.rglob("*.parquet"):
        assert KEY[:8] not in pd.read_parquet(path).to_json()
