"""The local judge: the client against a real, tiny model."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from parbench.tasks.judge import (
    FailureKind,
    JudgeClient,
    JudgeSettings,
    LocalJudgeServer,
    Sampling,
    conversation_prompt,
    judge_answers,
    summarise,
)

ASKED = ({"role": "user", "content": "rate this answer"},)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=400,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


@pytest.fixture(scope="module")
def server(model, tokenizer):
    with LocalJudgeServer(model, tokenizer, "tiny", max_new_tokens=12) as running:
        yield running


@pytest.fixture
def client(server):
    with JudgeClient(server.spec) as asking:
        yield asking


def request(server, body: bytes | None, path: str = "/v1/chat/completions") -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(server.spec.url).netloc, timeout=30)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    try:
        return response.status, json.load(response)
    finally:
        connection.close()


def test_it_says_what_the_model_generates(server, client, model, tokenizer):
    reply = client.ask(ASKED, Sampling())
    prompt = conversation_prompt([ASKED[0]["content"]], (), tokenizer)
    ids = torch.tensor([prompt.token_ids(tokenizer)])
    with torch.inference_mode():
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
    written = generated[0, ids.shape[1] :].tolist()
    assert reply.text == tokenizer.decode(written, skip_special_tokens=True).strip()
    assert (reply.prompt_tokens, reply.completion_tokens) == (ids.shape[1], len(written))
    ended = written[-1] == tokenizer.eos_token_id
    assert (reply.finish_reason, reply.served_model) == ("stop" if ended else "length", "tiny")
    assert client.ask(ASKED, Sampling()) == reply


def test_it_is_reached_from_this_machine_only(server):
    host, port = server._server.server_address[:2]
    assert host == "127.0.0.1"
    assert port != 0
    assert server.spec.local
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others:
        if not address.startswith("127."):
            with socket.socket() as probe:
                probe.settimeout(2)
                assert probe.connect_ex((str(address), port)) != 0


def test_a_whole_judging_runs_through_it(client, questions, answers, tmp_path):
    judged = judge_answers(questions, answers, client, JudgeSettings(concurrency=2), tmp_path)
    summary = summarise(judged)
    assert summary.judgments == len(list(tmp_path.rglob("*.json"))) == 6
    assert summary.failed == 0
    assert set(judged["served_models"].map(tuple)) == {("tiny",)}


def test_sampling_leaves_the_dice_of_a_training_alone(client):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    texts = {client.ask(ASKED, Sampling(temperature=1.5)).text for _ in range(4)}
    assert torch.equal(torch.rand(3), expected)
    assert len(texts) > 1


def test_a_prompt_that_does_not_fit_is_a_failure_of_its_own(client):
    failure = client.ask(({"role": "user", "content": "rate " * 500},), Sampling())
    assert failure.kind is FailureKind.REJECTED
    assert "the model's context holds 400" in failure.message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": "other"}, 'no model "other"'),
        ({"n": 2}, "one answer"),
        ({"stream": True}, "one answer"),
        ({"messages": []}, "must alternate"),
        ({"messages": "hello"}, "are not texts"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "are not texts"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_it_does_not_understand_is_refused(server, change, what):
    body = {"model": "tiny", "messages": list(ASKED), "max_tokens": 2, "temperature": 0} | change
    status, content = request(server, json.dumps(body).encode())
    assert status == 400
    assert what in content["error"]["message"]


def test_other_requests_are_refused(server):
    assert request(server, b"{")[0] == 400
    assert request(server, b"[]")[0] == 400
    assert request(server, b"{}", "/v1/completions")[0] == 404
    assert request(server, None, "/")[0] == 404
    status, content = request(server, None, "/v1/models")
    assert (status, content["data"][0]["id"]) == (200, "tiny")


def test_after_the_block_it_is_gone(model, tokenizer):
    with LocalJudgeServer(model, tokenizer, "brief") as running:
        port = running._server.server_address[1]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with pytest.raises(RuntimeError, match="not running"):
        _ = running.spec
