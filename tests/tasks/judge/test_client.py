"""The client against a real server: what is sent, what is sent again, and the kind of each failure."""

import gzip
import json
import threading
from datetime import UTC, datetime

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import ClientSettings, Failure, FailureKind, JudgeClient, JudgeSpec, Reply, Retries, Sampling
from parbench.tasks.judge.completion import retry_after
from tests.support.judge_stub import KEY, Answer, chat, endpoint, failing

ASKED = ({"role": "system", "content": "be fair"}, {"role": "user", "content": "rate this: naïve ☃"})


def test_what_is_sent_is_what_fastchat_sends(connect, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    with endpoint([chat("Rating: [[7]]")]) as stub:
        reply = connect(stub).ask(ASKED, Sampling())
    assert reply == Reply("Rating: [[7]]", "stop", "judge-0613", 7, 3)
    assert stub.requests == [
        {"model": "judge", "messages": list(ASKED), "n": 1, "temperature": 0.0, "max_tokens": 2048}
    ]
    assert stub.paths == ["/v1/chat/completions"]
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_newer_models_get_their_own_fields_and_a_local_one_no_common_key(connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with endpoint([chat("[[7]]")]) as stub:
        connect(stub).ask(ASKED, Sampling(temperature=None, max_tokens=9, limit_name="max_completion_tokens"))
    assert stub.requests == [{"model": "judge", "messages": list(ASKED), "n": 1, "max_completion_tokens": 9}]
    assert "Authorization" not in stub.headers[0]


def test_a_local_endpoint_is_not_asked_through_a_proxy(connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with endpoint([chat("[[7]]")]) as stub:
        assert isinstance(connect(stub).ask(ASKED, Sampling()), Reply)


PASSING = {
    "reset": (Answer(drop="before"), FailureKind.CONNECTION),
    "cut": (Answer(body=b'{"choices"', drop="inside"), FailureKind.CONNECTION),
    "busy": (failing(429), FailureKind.RATE_LIMIT),
    "500": (failing(500), FailureKind.SERVER),
    "503": (Answer(503, b"<html>upstream</html>"), FailureKind.SERVER),
    "408": (failing(408), FailureKind.TIMEOUT),
    "gateway": (Answer(200, b'{"error": {"message": "upstream", "code": 502}}'), FailureKind.SERVER),
    "no json": (Answer(body=b"<html>hello</html>"), FailureKind.MALFORMED),
    "half json": (Answer(body=b'{"choices": [{"mess'), FailureKind.MALFORMED),
    "not text": (Answer(body=b"\xff\xfe\x00\xd8"), FailureKind.MALFORMED),
    "a list": (Answer(body=b"[1, 2]"), FailureKind.MALFORMED),
    "null": (Answer(body=b"null"), FailureKind.MALFORMED),
    "nothing": (Answer(body=b""), FailureKind.MALFORMED),
    "no message": (Answer(body=b'{"choices": [{}]}'), FailureKind.MALFORMED),
    "no message but a text": (Answer(body=b'{"choices": [{"text": "[[5]]"}]}'), FailureKind.MALFORMED),
    "a number": (chat(5), FailureKind.MALFORMED),
    "surrogate": (Answer(body=b'{"choices": [{"message": {"content": "\\ud800"}}]}'), FailureKind.MALFORMED),
    "deep": (Answer(body=b"[" * 100_000), FailureKind.MALFORMED),
    "no gzip": (Answer(body=b"not gzip", headers={"Content-Encoding": "gzip"}), FailureKind.MALFORMED),
    "empty": (chat(""), FailureKind.EMPTY),
    "blank": (chat(" \n "), FailureKind.EMPTY),
    "no content": (chat(None), FailureKind.EMPTY),
    "no choice": (Answer(body=b'{"choices": []}'), FailureKind.EMPTY),
    "reasoning": (chat(None, reasoning_content="Rating: [[10]]"), FailureKind.EMPTY),
    "thinking": (chat([{"type": "thinking", "thinking": [{"type": "text", "text": "[[9]]"}]}]), FailureKind.EMPTY),
}


@pytest.mark.parametrize("mishap", PASSING)
def test_what_may_pass_is_tried_again(connect, mishap):
    answer, kind = PASSING[mishap]
    with endpoint([answer, answer, chat("[[5]]")]) as stub:
        assert connect(stub).ask(ASKED, Sampling()).text == "[[5]]"
        assert len(stub.requests) == 3
    with endpoint([answer]) as stub:
        failure = connect(stub, retries=Retries(attempts=3)).ask(ASKED, Sampling())
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts, len(stub.requests)) == (kind, 3, 3)
    # An answer without a judgment may be better the next time, but a run does not wait for it.
    unusable = kind in (FailureKind.MALFORMED, FailureKind.EMPTY)
    assert (failure.kind.passing, failure.kind.unusable, failure.kind.fatal) == (not unusable, unusable, False)


READ = {
    "parts": chat([{"type": "thinking", "text": "[[9]]"}, *({"type": "text", "text": part} for part in ("[[", "5]]"))]),
    "usage": Answer(body=b'{"choices": [{"message": {"content": "[[5]]"}}], "usage": 3}'),
    "no usage": Answer(body=b'{"choices": [{"message": {"content": "[[5]]"}}], "usage": null}'),
}


@pytest.mark.parametrize("form", READ)
def test_other_forms_of_a_completion_are_read(connect, form):
    with endpoint([READ[form]]) as stub:
        assert connect(stub).ask(ASKED, Sampling()).text == "[[5]]"


LASTING = {
    "400": (failing(400, "context too long"), FailureKind.REJECTED, False),
    "422": (Answer(422, b'{"detail": "no such field"}'), FailureKind.REJECTED, False),
    "401": (failing(401), FailureKind.UNAUTHORISED, True),
    "403": (failing(403), FailureKind.FORBIDDEN, False),
    "403 of the key": (failing(403, "You have no permission to use this model"), FailureKind.UNAUTHORISED, True),
    "403 of the country": (failing(403, "no", "unsupported_country_region_territory"), FailureKind.UNAUTHORISED, True),
    "403 of the prompt": (failing(403, "Your input was flagged for violence"), FailureKind.REFUSED, False),
    "403 of a proxy": (Answer(403, b"<html>Forbidden</html>"), FailureKind.FORBIDDEN, False),
    "404": (failing(404, "the model `judge` does not exist"), FailureKind.NOT_FOUND, True),
    "redirect": (Answer(307, b"", {"Location": "http://127.0.0.1:9/v1"}), FailureKind.NOT_FOUND, True),
    "quota": (failing(429, "pay first", "insufficient_quota"), FailureKind.QUOTA, True),
    "402": (failing(402), FailureKind.QUOTA, True),
    "refusal": (chat(None, refusal="I cannot judge that"), FailureKind.REFUSED, False),
    "filter": (chat("", finish_reason="content_filter"), FailureKind.REFUSED, False),
    "filtered": (failing(400, "filtered", "content_filter"), FailureKind.REFUSED, False),
    "other filter": (chat(None, finish_reason="SAFETY"), FailureKind.REFUSED, False),
    "named filter": (chat(None, finish_reason="content_filter: PROHIBITED_CONTENT"), FailureKind.REFUSED, False),
    "thought": (chat("", finish_reason="length"), FailureKind.OUT_OF_TOKENS, False),
}


@pytest.mark.parametrize("mishap", LASTING)
def test_what_will_not_pass_is_not_tried_again(connect, mishap):
    answer, kind, fatal = LASTING[mishap]
    with endpoint([answer]) as stub:
        failure = connect(stub).ask(ASKED, Sampling())
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts, len(stub.requests)) == (kind, 1, 1)
    assert (failure.kind.fatal, failure.kind.passing) == (fatal, False)


def test_the_endpoints_own_message_is_shown():
    for mishap, words in {"400": "context too long", "422": "no such field", "403": "403: no"}.items():
        answer = LASTING[mishap][0]
        with (
            endpoint([answer]) as stub,
            JudgeClient(JudgeSpec("judge", stub.url)) as client,
        ):
            assert words in client.ask(ASKED, Sampling()).message


def test_waits_double_with_jitter_up_to_the_longest(connect, waits):
    with endpoint([failing(500)]) as stub:
        connect(stub, retries=Retries(attempts=7, first_s=1.0, longest_s=8.0)).ask(ASKED, Sampling())
    assert len(waits) == 6  # none after the last attempt
    for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == 6


def test_waits_are_random():
    failure = Failure(FailureKind.SERVER, "", attempts=3)
    assert len({Retries().wait_s(failure) for _ in range(100)}) > 90


def test_retry_after_is_obeyed(connect, waits):
    with endpoint([failing(429, retry_after="30"), failing(503, retry_after="40"), chat("[[5]]")]) as stub:
        assert connect(stub).ask(ASKED, Sampling()).text == "[[5]]"
    assert waits == [30.0, 40.0]


def test_retry_after_may_be_a_date():
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for text, seconds in {
        "Sat, 31 Jan 2026 12:01:30 GMT": 90.0,
        "Sat, 31 Jan 2026 11:00:00 GMT": 0.0,
        "7.5": 7.5,
        "-3": 0.0,
        "soon": None,
        "inf": None,
        "": None,
    }.items():
        assert retry_after({"retry-after": text}, now) == seconds


def test_an_endpoint_that_asks_for_too_long_a_wait_has_failed(connect, waits):
    with endpoint([failing(429, retry_after="86400")]) as stub:
        failure = connect(stub).ask(ASKED, Sampling())
    assert (failure.kind, failure.wait_s, failure.attempts) == (FailureKind.RATE_LIMIT, 86400.0, 1)
    assert waits == []


def test_openais_variables_are_for_openai(connect, monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with endpoint([chat("[[5]]")]) as stub:
        assert isinstance(connect(stub).ask(ASKED, Sampling()), Reply)
    assert "planted" not in repr(stub.headers)


def test_silence_and_dripping_are_time_outs():
    ready = threading.Event()
    settings = ClientSettings(silent_s=0.1, retries=Retries(attempts=1))
    with (
        endpoint(lambda request, number: (ready.wait(5), chat("[[5]]"))[1]) as stub,
        JudgeClient(JudgeSpec("judge", stub.url), settings) as client,
    ):
        assert client.ask(ASKED, Sampling()).kind is FailureKind.TIMEOUT
        ready.set()
    settings = ClientSettings(total_s=0.1, retries=Retries(attempts=1))
    with endpoint([Answer(drip=True)]) as stub, JudgeClient(JudgeSpec("judge", stub.url), settings) as client:
        assert client.ask(ASKED, Sampling()).kind is FailureKind.TIMEOUT


def test_an_answer_without_end_is_not_read_to_its_end(connect):
    bomb = Answer(body=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"})
    with endpoint([bomb]) as stub:
        failure = connect(stub, largest_answer=1_000_000, retries=Retries(attempts=1)).ask(ASKED, Sampling())
    assert failure.kind is FailureKind.MALFORMED
    assert "too long" in failure.message


def test_a_refused_connection_is_a_failure_with_a_reason(connect):
    with endpoint([chat("x")]) as stub:
        pass
    failure = connect(stub, retries=Retries(attempts=2)).ask(ASKED, Sampling())
    assert (failure.kind, failure.attempts) == (FailureKind.CONNECTION, 2)
    assert "refused" in failure.message.lower()


def test_a_stopped_client_asks_no_more(connect):
    stop = threading.Event()
    stop.set()
    with endpoint([chat("[[5]]")]) as stub:
        assert connect(stub).ask(ASKED, Sampling(), stop).kind is FailureKind.STOPPED
    assert stub.requests == []


def test_a_wait_ends_when_it_is_stopped():
    stop = threading.Event()

    def script(request, number):
        stop.set()
        return failing(500)

    settings = ClientSettings(retries=Retries(first_s=3600, longest_s=3600))
    with endpoint(script) as stub, JudgeClient(JudgeSpec("judge", stub.url), settings) as client:
        assert client.ask(ASKED, Sampling(), stop).kind is FailureKind.SERVER
    assert len(stub.requests) == 1


def test_settings_out_of_range_are_refused():
    for wrong in (
        lambda: ClientSettings(total_s=0),
        lambda: Retries(attempts=0),
        lambda: Retries(first_s=5, longest_s=1),
        lambda: Sampling(temperature=-1),
        lambda: Sampling(temperature=float("nan")),
        lambda: Sampling(max_tokens=0),
        lambda: Retries(unusable=0),
    ):
        with pytest.raises(UserError):
            wrong()


def test_the_body_is_plain_json(connect):
    with endpoint([chat("[[5]]")]) as stub:
        connect(stub).ask(ASKED, Sampling())
    assert stub.headers[0]["Content-Type"] == "application/json"
    assert json.loads(json.dumps(stub.requests[0])) == stub.requests[0]
