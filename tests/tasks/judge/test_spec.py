import copy
import pickle
import string
from random import Random

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import ApiKey, JudgeSpec
from tests.support.judge_stub import KEY


@pytest.mark.parametrize(
    ("text", "model", "url"),
    [
        ("gpt-4@https://api.example/v1", "gpt-4", "https://api.example/v1"),
        ("gpt-4@https://api.example", "gpt-4", "https://api.example/v1"),
        ("gpt-4@https://api.example/", "gpt-4", "https://api.example/v1"),
        ("gpt-4@https://api.example/v1/chat/completions", "gpt-4", "https://api.example/v1"),
        ("org/m@2024@https://api.example/openai/v1/", "org/m@2024", "https://api.example/openai/v1"),
        ("m@http://127.0.0.1:8000", "m", "http://127.0.0.1:8000/v1"),
        ("m@http://localhost:8000/v1", "m", "http://localhost:8000/v1"),
        ("m@http://[::1]:8000/v1", "m", "http://[::1]:8000/v1"),
    ],
)
def test_a_judge_is_a_model_at_an_address(text, model, url):
    spec = JudgeSpec.parse(text)
    assert (spec.model, spec.url) == (model, url)
    assert JudgeSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("gpt-4", "MODEL@URL"),
        ("@https://api.example", "MODEL@URL"),
        ("gpt-4@ftp://api.example", "MODEL@URL"),
        ("gpt-4@https://", "https://HOST"),
        ("gpt-4@https://api.example:x/v1", "is not a URL"),
        ("gpt-4@http://api.example/v1", "plain http"),
        ("gpt-4@http://10.0.0.1/v1", "plain http"),
        ("gpt-4@http://127.0.0.1.example/v1", "plain http"),
        ("gpt-4@http://localhost.example/v1", "plain http"),
        (f"gpt-4@https://user:{KEY}@api.example/v1", "PARBENCH_JUDGE_KEY"),
        (f"gpt-4@https://{KEY}@api.example/v1", "PARBENCH_JUDGE_KEY"),
        (f"gpt-4@https://api.example/v1?key={KEY}", "PARBENCH_JUDGE_KEY"),
        (f"gpt-4@https://api.example/v1#{KEY}", "PARBENCH_JUDGE_KEY"),
    ],
)
def test_what_is_not_a_judge_is_refused_without_repeating_a_secret(text, what):
    with pytest.raises(UserError, match=what) as caught:
        JudgeSpec.parse(text)
    assert KEY not in str(caught.value)


def test_the_own_variable_comes_first():
    spec = JudgeSpec("m", "https://api.example/v1")
    both = {"PARBENCH_JUDGE_KEY": "own-own-own", "OPENAI_API_KEY": "common-common"}
    assert ApiKey.from_environment(spec, both).reveal() == "own-own-own"
    assert ApiKey.from_environment(spec, {"OPENAI_API_KEY": " common-common\n"}).reveal() == "common-common"
    with pytest.raises(UserError, match="needs an API key"):
        ApiKey.from_environment(spec, {"PARBENCH_JUDGE_KEY": " "})


def test_a_local_endpoint_needs_no_key_and_never_gets_the_common_one():
    spec = JudgeSpec("m", "http://127.0.0.1:1/v1")
    assert ApiKey.from_environment(spec, {"OPENAI_API_KEY": KEY}) is None
    assert ApiKey.from_environment(spec, {"PARBENCH_JUDGE_KEY": KEY}).reveal() == KEY


@pytest.mark.parametrize("secret", ["short", "with space inside", "new\nline-line", "schlüssel-lang"])
def test_what_can_be_no_key_is_refused_without_repeating_it(secret):
    with pytest.raises(UserError, match="holds no usable API key") as caught:
        ApiKey(secret, "PARBENCH_JUDGE_KEY")
    assert secret not in str(caught.value)


def test_a_key_is_never_written():
    key = ApiKey(KEY, "X")
    assert KEY not in f"{key!r} {key} {[key]}"
    assert not hasattr(key, "__dict__")
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never stored"):
            write(key)


def test_no_piece_of_a_key_survives_in_a_message():
    draw = Random(0)
    for _ in range(200):
        secret = "".join(draw.choices(string.ascii_letters + string.digits + "-_/+=", k=draw.randint(8, 60)))
        key = ApiKey(secret, "X")
        start = draw.randint(0, len(secret) - 8)
        piece = secret[start : start + draw.randint(8, 60)]
        for echoed in (secret, piece, secret.upper(), f"{piece}***{piece}"):
            shown = key.redact_pieces(f"Incorrect key: {echoed}.").lower()
            assert shown.startswith("incorrect key: ")
            assert not any(secret.lower()[at : at + 8] in shown for at in range(len(secret) - 7))
    assert ApiKey(KEY, "X").redact_pieces("nothing here") == "nothing here"
