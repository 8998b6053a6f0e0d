"""A planted key must be in the one header and nowhere else, whatever the endpoint does with it."""

import gc
import io
import json
import logging
import traceback
import warnings

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import JudgeSettings, Retries, Sampling, judge_answers, judge_identity
from tests.support.judge_stub import KEY, Answer, chat, endpoint, failing

ASKED = ({"role": "user", "content": "rate"},)
# What a message may hold of a key at the very most.
PIECES = [KEY[at : at + 8] for at in range(len(KEY) - 7)]


def clean(text: str) -> bool:
    return not any(piece in text for piece in PIECES)


@pytest.fixture
def logged(monkeypatch):
    """Everything that any library logs, including debug lines, as one text."""
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


ECHO_HEADER = {"X-Your-Key": f"Bearer {KEY}", "Set-Cookie": f"k={KEY}"}
ECHOES = {
    "unauthorised": failing(401, f"Incorrect API key provided: {KEY}."),
    "half of it": failing(400, f"Incorrect API key provided: {KEY[:12]}*****{KEY[-10:]}."),
    "cut through": failing(400, "x" * 290 + KEY + "y" * 100),
    "flat": Answer(400, json.dumps({"message": f"{KEY} is bad"}).encode()),
    "no json": Answer(500, f"<html>{KEY}</html>".encode()),
    "header": Answer(500, b"{}", ECHO_HEADER),
    "reason": Answer(500, b"{}", {}, reason=f"No {KEY}"),
    "refusal": chat(None, refusal=f"I refuse {KEY}"),
    "gateway": Answer(200, json.dumps({"error": {"message": f"upstream: {KEY}"}}).encode()),
    "broken header": Answer(200, b"{}", {"Bad\x00Header": KEY}),
    "redirect": Answer(302, b"", {"Location": f"http://127.0.0.1:9/{KEY}"}),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_no_failure_or_log_shows_it(connect, logged, echo):
    with endpoint([ECHOES[echo]]) as stub:
        client = connect(stub, retries=Retries(attempts=2))
        failure = client.ask(ASKED, Sampling())
        logged_so_far = logged.getvalue()
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert logged_so_far, "debug logging must have been on for this test to mean anything"
    for text in (failure.message, repr(failure), str(failure), logged_so_far, repr(client), repr(client._openai)):
        assert clean(text)


def test_no_judgment_frame_or_cache_shows_it(connect, logged, questions, answers, tmp_path):
    texts = [f"I was asked with {KEY}. Rating: [[6]]", f"{KEY.upper()} [[7]]", "[[8]]"]

    def script(request, number):
        if number == 5:
            return failing(400, f"rejected with {KEY}")
        return chat(texts[number % 3], finish_reason=KEY) if number % 2 else chat(texts[number % 3])

    with endpoint(script) as stub:
        client = connect(stub)
        judged = judge_answers(questions, answers, client, JudgeSettings(concurrency=1), tmp_path / "cache")
        identity = judge_identity(client.model, JudgeSettings(), questions)
    assert judged["rating"].tolist()[:5] == [6, 7, 8, 6, 7]
    assert judged["errors"][5] == ["the endpoint answers 400: rejected with [key]"]
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert clean(path.read_text().lower()), path
        assert clean(path.name)
    assert "[key]. Rating: [[6]]" in "".join(path.read_text() for path in files)
    assert clean(judged.to_json())
    assert clean(json.dumps(identity))
    assert clean(logged.getvalue())


def test_no_exception_or_its_traceback_shows_it(connect, logged, questions, answers, tmp_path):
    with endpoint([failing(403, f"Incorrect API key provided: {KEY}")]) as stub, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match="cannot be asked: the endpoint answers 403 ") as caught:
            judge_answers(questions, answers, connect(stub), JudgeSettings(), tmp_path / "cache")
    # The frames of this file hold the key themselves.
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    frames = [frame for frame in frames if frame.filename != __file__]
    assert frames
    assert clean(repr([(frame.line, frame.locals) for frame in frames]))
    assert not (tmp_path / "cache").exists()


def test_no_object_of_ours_shows_it(connect, logged):
    with endpoint([chat("[[5]]")]) as stub:
        client = connect(stub)
        client.ask(ASKED, Sampling())
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("parbench.tasks.judge"):
            assert clean(repr(thing)), type(thing)


def test_the_log_filter_goes_with_the_client(connect, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    logger = logging.getLogger("httpx2")
    before = list(logger.filters)
    with endpoint([chat("[[5]]")]) as stub, connect(stub):
        assert len(logger.filters) == len(before) + 1
    assert logger.filters == before
