"""`bench judge`: a model served on this machine, and an endpoint that is asked once."""

import importlib
import re

import pytest
import torch

from parbench.tasks.judge import JudgeClient, JudgeSpec, Reply, Sampling
from parbench.tasks.judge.pace import Clock
from tests.support.judge_stub import chat, endpoint, failing
from tests.support.tiny_llama import tiny_llama, tiny_model_folder

# The package's attribute of this name is the sub-command, not the module.
command = importlib.import_module("parbench.bench.cli.judge")

KEY = "sk-planted-4f9c2e7718aa03bd"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("PARBENCH_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(bench, tmp_path, monkeypatch, capsys):
    """Serve a tiny model, ask it once, and end with Ctrl-C; return what was printed and the reply."""
    folder = tiny_model_folder(tmp_path / "tiny", tiny_llama())
    found = {}

    def call(*arguments):
        def wait():
            printed = capsys.readouterr().out
            found["spec"] = re.search(r"--judge (\S+)", printed)[1]
            with JudgeClient(JudgeSpec.parse(found["spec"])) as client:
                found["reply"] = client.ask(({"role": "user", "content": "rate"},), Sampling())
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "_wait", wait)
        found["result"] = bench("judge", "serve", "--model", folder, "--device", "cpu", "--out", tmp_path, *arguments)
        return found

    return call


def test_a_local_model_is_served_until_ctrl_c(served):
    found = served("--max-new-tokens", 5, "--begins", "Rating: [[")
    assert found["result"].code == 0
    assert "the judge has ended" in found["result"].out
    assert re.fullmatch(r"tiny-[0-9a-f]{12}@http://127\.0\.0\.1:\d+/v1", found["spec"])
    reply = found["reply"]
    assert isinstance(reply, Reply)
    assert reply.text.startswith("Rating: [[")
    assert reply.completion_tokens <= 5
    assert reply.served_model == found["spec"].partition("@")[0]


def test_what_changes_the_judgments_changes_the_name(served):
    first = served("--max-new-tokens", 5)["spec"].partition("@")[0]
    assert served("--max-new-tokens", 6)["spec"].partition("@")[0] != first
    assert served("--max-new-tokens", 5)["spec"].partition("@")[0] == first


def test_a_port_that_is_taken_is_one_sentence(served):
    with endpoint([chat("x")]) as stub:
        port = stub.url.rpartition(":")[2].removesuffix("/v1")
        result = served("--port", port)["result"]
    assert result.code == 2
    assert f"the port {port} cannot be used" in result.err
    result = served("--port", "70000")["result"]
    assert result.code == 2
    assert "the port 70000 cannot be used" in result.err


def test_a_template_that_is_none_is_one_sentence(served):
    result = served("--template", "vicunna_v1.1")["result"]
    assert result.code == 2
    assert 'there is no conversation template "vicunna_v1.1"; did you mean "vicuna_v1.1"?' in result.err


def test_an_encoder_judges_nothing(bench, tiny_model):
    result = bench("judge", "serve", "--model", tiny_model, "--device", "cpu")
    assert result.code == 2
    assert "is no causal language model: its tokenizer has no end of text" in result.err


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
    ("answer", "said"),
    [
        (chat("Nine out of ten."), "does not keep to the form [[rating]]"),
        (failing(401, f"bad key {KEY}"), "cannot be asked: the endpoint answers 401 (unauthorised)"),
        (failing(404, "no such model"), "cannot be asked: the endpoint answers 404: no such model (not_found)"),
        (failing(503, "busy"), "cannot be asked: the endpoint answers 503: busy (server)"),
    ],
)
def test_a_judge_that_cannot_be_used_is_one_sentence(bench, monkeypatch, answer, said):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds, stop: None)
    with endpoint([answer]) as stub:
        result = bench("judge", "check", f"gpt@{stub.url}")
    assert result.code == 2
    assert said in result.err
    assert KEY not in result.out + result.err


def test_a_name_without_an_address_is_one_sentence(bench):
    result = bench("judge", "check", "gpt-4")
    assert result.code == 2
    assert "MODEL@URL" in result.err


def test_help_needs_nothing_heavy(bench, monkeypatch):
    monkeypatch.setattr(torch, "tensor", None)
    for arguments in (["judge", "--help"], ["judge", "serve", "--help"], ["judge", "check", "--help"]):
        assert bench(*arguments).code == 0
