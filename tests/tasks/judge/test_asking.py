"""Many inquiries to a judge: endpoints that fail, interruption, crashes, and the number of requests at a time."""

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import (
    ClientSettings,
    JudgeClient,
    JudgeSettings,
    JudgeSpec,
    Retries,
    judge_answers,
    summarise,
)
from tests.support.judge_stub import Answer, chat, endpoint, failing


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*.json") if path.parent.name != "aside")


def test_a_judge_that_cannot_be_asked_ends_it_and_replies_are_kept(connect, questions, answers, tmp_path):
    good = chat("[[5]]")
    for script, what in (
        ([good, good, good, failing(401)], "401"),
        ([failing(404, "no such model")], "no such model"),
    ):
        with (
            endpoint(script) as stub,
            pytest.raises(UserError, match=rf"the judge judge cannot be asked: .*{what}.* 3 judgments are kept"),
        ):
            judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=1), tmp_path)
        assert len(files(tmp_path)) == 3


def flagged(*numbers):
    """Refuse some of the prompts, by their order, with a 403 that does not say why."""
    return lambda request, number: failing(403) if number in numbers else chat("[[5]]")


def test_a_403_is_of_its_prompt_if_another_one_is_answered(connect, questions, answers, tmp_path):
    settings = JudgeSettings(concurrency=1)
    for number, refused in enumerate([(0,), (5,), (0, 1, 2, 3, 4), (1, 2, 3, 4, 5)]):
        settings = JudgeSettings(concurrency=1, give_up_after=6)
        with endpoint(flagged(*refused)) as stub:
            judged = judge_answers(questions, answers, connect(stub), settings, tmp_path / str(number))
        assert [place for place, row in enumerate(judged["problems"]) if row == ["forbidden"]] == list(refused)
        assert summarise(judged).mean == 5
        # Nor does it matter at a rerun, when nothing else is left to be asked.
        with endpoint([failing(403)]) as stub:
            again = judge_answers(questions, answers, connect(stub), settings, tmp_path / str(number))
        pd.testing.assert_frame_equal(judged, again)


@pytest.mark.parametrize("answer", [failing(403, "blocked"), chat(None), Answer(body=b"<html>")])
def test_an_endpoint_that_never_answers_any_prompt_ends_it(connect, questions, answers, tmp_path, answer):
    with (
        endpoint([answer]) as stub,
        pytest.raises(UserError, match=r"cannot be asked: .*: 0 judgments are kept"),
    ):
        judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=1, give_up_after=4), tmp_path)


def test_few_prompts_that_are_all_forbidden_end_it(connect, questions, answers, tmp_path):
    with endpoint([failing(403, "blocked")]) as stub, pytest.raises(UserError, match="403: blocked"):
        judge_answers(questions.select([1]), answers, connect(stub), JudgeSettings(), tmp_path)


def test_an_endpoint_that_is_down_ends_it(connect, questions, answers, tmp_path):
    settings = JudgeSettings(concurrency=1, give_up_after=2)
    with (
        endpoint([chat("[[5]]"), Answer(drop="before"), chat("[[5]]"), Answer(drop="before")]) as stub,
        pytest.raises(UserError, match=r"connection, attempt 1\); fix it and run again: 2 judgments are kept"),
    ):
        judge_answers(questions, answers, connect(stub, retries=Retries(attempts=1)), settings, tmp_path)
    assert len(stub.requests) == 5


def test_no_more_at_once_than_allowed(connect, questions, answers, tmp_path):
    together = threading.Barrier(3, timeout=10)

    def script(request, number):
        together.wait()  # passed only if three come at once
        return chat("[[5]]")

    with endpoint(script) as stub:
        judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=3), tmp_path)
    assert stub.most_at_once == 3


def test_ctrl_c_keeps_what_is_under_way_and_asks_no_more(connect, questions, answers, tmp_path):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with endpoint([chat("[[5]]")]) as stub, pytest.raises(KeyboardInterrupt):
        judge_answers(questions, answers, connect(stub), JudgeSettings(concurrency=1), tmp_path, interrupt)
    # Whoever was being asked in that moment was waited for.
    assert 2 <= len(stub.requests) == len(files(tmp_path)) <= 6


def test_ctrl_c_ends_the_waits_between_attempts(questions, answers, tmp_path):
    failed = threading.Event()

    def script(request, number):
        if number == 0:
            failed.set()
            return failing(500)
        failed.wait(30)
        return chat("[[5]]")

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    patient = ClientSettings(retries=Retries(first_s=3600, longest_s=3600))
    with (
        endpoint(script) as stub,
        JudgeClient(JudgeSpec("judge", stub.url), patient) as judge,
        pytest.raises(KeyboardInterrupt),
    ):
        judge_answers(questions, answers, judge, JudgeSettings(concurrency=2), tmp_path, interrupt)
    assert len(files(tmp_path)) == len(stub.requests) - 1


CRASHING = """
import sys
from pathlib import Path
from parbench.tasks.judge import JudgeClient, JudgeSettings, JudgeSpec, from_folder, judge_answers
folder, url, cache = sys.argv[1:]
answers = {number: (f"first of {number}", f"second of {number}") for number in (1, 2, 3)}
judge = JudgeClient(JudgeSpec("judge", url))
judge_answers(from_folder(Path(folder)), answers, judge, JudgeSettings(repeats=5, concurrency=2), Path(cache))
"""


def test_after_a_crash_only_the_rest_is_asked(connect, questions, answers, folder, tmp_path):
    """Killed without warning in the middle of thirty judgments, by an endpoint that stops answering."""
    cache = tmp_path / "cache"
    reached = threading.Event()
    release = threading.Event()

    def script(request, number):
        if number >= 11:
            reached.set()
            release.wait(30)
        return chat("[[5]]")

    with endpoint(script) as stub:
        process = subprocess.Popen([sys.executable, "-c", CRASHING, str(folder), stub.url, str(cache)])
        try:
            assert reached.wait(60)
            while len(files(cache)) < 10:  # the eleventh may still be on its way to the disk
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            release.set()
    kept = len(files(cache))
    assert 10 <= kept <= 11
    with endpoint([chat("[[7]]")]) as stub:
        judged = judge_answers(questions, answers, connect(stub), JudgeSettings(repeats=5), cache)
    assert len(stub.requests) == 30 - kept
    ratings = [rating for row in judged["ratings"] for rating in row]
    assert (ratings.count(5), ratings.count(7)) == (kept, 30 - kept)
