"""`bench judge check`: an endpoint that is asked once."""

import re

import pytest
import torch

from tests.support.judge_stub import KEY, chat, endpoint, failing


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("PARBENCH_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_check_shows_rating_time_and_model(bench):
    with endpoint([chat("Right. Rating: [[9]]")]) as stub:
        result = bench("judge", "check", f"gpt@{stub.url}", "--limit-name", "max_completion_tokens", "--no-temperature")
    assert result.code == 0, result.err
    assert "rating: 9.0" in result.out
    assert re.search(r"seconds: \d+\.\d", result.out)
    assert "served model: 'judge-0613'" in result.out
    (request,) = stub.requests
    assert "temperature" not in request
    assert request["max_completion_tokens"] == 2048
    assert request["messages"][0]["content"].endswith("A week has seven days.")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (chat("Nine out of ten!"), "does not keep to the form [[rating]]"),
        (failing(401, f"bad key {KEY}"), "cannot be asked: the endpoint answers 401 (unauthorised)"),
        (failing(404, "no such model"), "cannot be asked: the endpoint answers 404: no such model (not_found)"),
        (failing(503, "busy"), "cannot be asked: the endpoint answers 503: busy (server)"),
    ],
)
def test_a_judge_that_cannot_be_used_is_one_sentence(bench, impatient, monkeypatch, answer, message):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    with endpoint([answer]) as stub:
        result = bench("judge", "check", f"gpt@{stub.url}")
    assert result.code == 2
    assert message in result.err
    assert KEY not in result.out + result.err


def test_a_name_without_an_address_is_one_sentence(bench):
    result = bench("judge", "check", "gpt-4")
    assert result.code == 2
    assert "MODEL@URL" in result.err


def test_help_needs_nothing_heavy(bench, monkeypatch):
    monkeypatch.setattr(torch, "tensor", None)
    for arguments in (["judge", "--help"], ["judge", "compare", "--help"], ["judge", "check", "--help"]):
        assert bench(*arguments).code == 0
