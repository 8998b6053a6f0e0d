"""`bench judge compare` where it is interrupted, the judge fails, or what is named cannot be compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from parbench.bench.store.layout import COMPARISONS
from parbench.reports.judged import JUDGMENTS
from tests.support.compared import QUESTIONS, TASK, prefers, written
from tests.support.judge_stub import KEY, chat, endpoint, failing

pytestmark = pytest.mark.usefixtures("no_judge_keys")


# As at a terminal, also where the tests run in the background, where shells have SIGINT ignored.
LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from parbench.bench.cli import main; main()"
)


def test_an_interrupted_comparison_goes_on_where_it_was_cut(compare, store, add_answers, questions_root):
    for method in ("lora", "loca"):
        add_answers(method, 1)
    cut = threading.Event()

    def script(request, number):
        if number == 5:
            running["process"].send_signal(signal.SIGINT)
            cut.set()
        return prefers("loca")(request, number)

    running = {}
    with endpoint(script) as stub:
        names = ["judge", "compare", TASK, "loca", "lora", "--judge", f"gpt-4@{stub.url}", "--concurrency", "1"]
        command = [
            sys.executable,
            "-c",
            LISTENING,
            *names,
            "--data-root",
            str(questions_root),
            "--out",
            str(store.root),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}

        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running["process"] = subprocess.Popen(command, env=environment, **piped)
        _, message = running["process"].communicate(timeout=120)
        assert cut.is_set()
        assert running["process"].returncode == 130, message
        assert "the same command resumes" in message
        assert not list((store.root / COMPARISONS).glob("*.json"))
        before = len(stub.requests)
        assert 6 <= before < 16
        assert len(list((store.root / COMPARISONS / JUDGMENTS).rglob("*.json"))) == before
        again = compare(stub, "--concurrency", 1)
        assert again.code == 0, again.err
        assert len(stub.requests) == 16
    _, lines = written(store)
    assert lines["all"]["wins"] == 8
    assert "loca against lora" in again.out


def test_judgments_before_the_death_of_a_judge_are_kept(compare, store, add_answers, impatient, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    for method in ("lora", "loca"):
        add_answers(method, 1)
    alive = threading.Event()

    def script(request, number):
        fine = alive.is_set() or number < 3
        return prefers("loca")(request, number) if fine else failing(503, f"gone, {KEY}")

    with endpoint(script) as stub:
        result = compare(stub, "--concurrency", 1)
        assert result.code == 2
        assert "3 judgments are kept and will not be asked again" in result.err
        assert KEY not in result.err
        before = len(stub.requests)
        alive.set()
        assert compare(stub, "--concurrency", 1).code == 0
        assert len(stub.requests) - before == 13
    for path in (store.root / COMPARISONS).rglob("*.*"):
        assert KEY.encode() not in path.read_bytes()


def test_a_single_judgment_that_might_be_had_is_asked_for_again(compare, store, add_answers, impatient):
    for method in ("lora", "loca"):
        add_answers(method, 1)
    alive = threading.Event()

    def script(request, number):
        lost = "pair-v2|Write.|lora" in request["messages"][-1]["content"] and not alive.is_set()
        return failing(500, "try later") if lost else prefers("loca")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
        assert result.code == 2
        assert "1 of 16 judgments by gpt-4 are missing: the endpoint answers 500: try later" in result.err
        assert not list((store.root / COMPARISONS).glob("*.json"))
        alive.set()
        assert compare(stub).code == 0
    assert written(store)[1]["all"]["wins"] == 8


def test_a_flagged_comparison_does_not_block_the_others(compare, store, add_answers):
    for method in ("lora", "loca"):
        add_answers(method, 1)

    def script(request, number):
        flagged = "1+1?" in request["messages"][-1]["content"]
        return failing(403, "no") if flagged else prefers("loca")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    assert "4 forbidden (the endpoint answers 403: no)" in result.out
    assert written(store)[1]["all"]["wins"] == 6


def test_a_judge_without_verdicts_is_one_sentence(compare, store, add_answers):
    for method in ("lora", "loca"):
        add_answers(method, 1)
    with endpoint([chat("Rating: [[5]]")]) as stub:
        result = compare(stub)
    assert result.code == 2
    assert "has decided none of 8 comparisons: 16 of 16 judgments have no verdict: 16 unparsable" in result.err


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("loca", "loca", "are the same runs"),
        ("locca", "lora", 'there are no runs of "locca"; did you mean "loca"?'),
        ("vera", "lora", "have no seed in common"),
        ("dora", "lora", 'the runs of "dora" differ in base_model; name those to compare by their ids'),
        ("ia3", "lora", "have not answered the same questions"),
        ("boft", "lora", "the data and questions of mt_bench are not those of the runs"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(compare, add_answers, a, b, message):
    for method in ("lora", "loca"):
        add_answers(method, 1)
    add_answers("vera", 7)
    add_answers("dora", 1)
    add_answers("dora", 1, base_model="other")
    add_answers("ia3", 1, questions=QUESTIONS[:2], limit=2)
    add_answers("boft", 1, data_revision="sha256:" + "0" * 64)
    with endpoint([chat("[[A]]")]) as stub:
        result = compare(stub, a=a, b=b)
        assert stub.requests == []
    assert result.code == 2
    assert message in result.err


def test_another_task_or_no_judge_is_one_sentence(bench, store, add_answers, compare):
    add_answers("lora", 1)
    result = bench("judge", "compare", "glue/sst2", "a", "b", "--judge", "x@http://127.0.0.1:1/v1", "--out", store.root)
    assert result.code == 2
    assert '"glue/sst2" has no answers to be judged' in result.err
    result = bench("judge", "compare", TASK, "a", "b", "--judge", "local", "--out", store.root)
    assert result.code == 2
    assert "MODEL@URL" in result.err
    result = bench("judge", "compare", TASK, "a", "b", "--judge", "gpt-4@https://example.org/v1", "--out", store.root)
    assert result.code == 2
    assert "needs an API key" in result.err
    result = bench(
        "judge", "compare", "vicuna_bench", "a", "b", "--judge", "x@http://127.0.0.1:1/v1", "--out", store.root
    )
    assert result.code == 2
    assert "no run of vicuna_bench" in result.err
