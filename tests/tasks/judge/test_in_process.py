"""The judge in this process: a real, tiny model."""

import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from parbench.tasks.judge import (
    FailureKind,
    InProcessJudge,
    JudgeSettings,
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


@pytest.fixture
def ask(model, tokenizer):
    judge = InProcessJudge(model, tokenizer, "tiny", max_new_tokens=12)

    def call(messages=ASKED, **sampling):
        return judge.ask(messages, Sampling(**sampling), threading.Event())

    return call


def test_it_answers_what_the_model_generates(ask, model, tokenizer):
    reply = ask()
    prompt = conversation_prompt([ASKED[0]["content"]], (), tokenizer)
    ids = torch.tensor([prompt.token_ids(tokenizer)])
    with torch.inference_mode():
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
    written = generated[0, ids.shape[1] :].tolist()
    assert reply.text == tokenizer.decode(written, skip_special_tokens=True).strip()
    assert (reply.prompt_tokens, reply.completion_tokens) == (ids.shape[1], len(written))
    ended = written[-1] == tokenizer.eos_token_id
    assert (reply.finish_reason, reply.served_model) == ("stop" if ended else "length", "tiny")
    assert ask() == reply
    assert ask(max_tokens=5).completion_tokens <= 5


def test_an_answer_can_be_begun(model, tokenizer):
    judge = InProcessJudge(model, tokenizer, "tiny", max_new_tokens=3, begins="Rating: [[")
    reply = judge.ask(ASKED, Sampling(), threading.Event())
    assert reply.text.startswith("Rating: [[")
    assert reply.completion_tokens <= 3


def test_a_whole_judging_runs_through_it(model, tokenizer, questions, answers, tmp_path):
    judge = InProcessJudge(model, tokenizer, "tiny", max_new_tokens=12)
    judged = judge_answers(questions, answers, judge, JudgeSettings(concurrency=2), tmp_path)
    summary = summarise(judged)
    assert summary.judgments == len(list(tmp_path.rglob("*.json"))) == 6
    assert summary.failed == 0
    assert set(judged["served_models"].map(tuple)) == {("tiny",)}


def test_sampling_leaves_the_random_numbers_of_a_training_alone(ask):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    texts = {ask(temperature=1.5).text for _ in range(4)}
    assert torch.equal(torch.rand(3), expected)
    assert len(texts) > 1


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        (({"role": "user", "content": "rate " * 500},), "the model's context holds 400"),
        (({"role": "assistant", "content": "x"},), "must alternate"),
        ((), "must alternate"),
    ],
)
def test_a_prompt_that_does_not_fit_is_a_failure_of_its_own(ask, messages, what):
    failure = ask(messages)
    assert failure.kind is FailureKind.REJECTED
    assert what in failure.message


def test_an_empty_answer_is_a_failure(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.fill_(1)
        model.lm_head.weight[tokenizer.eos_token_id] = 1
    failure = InProcessJudge(model, tokenizer, "silent").ask(ASKED, Sampling(), threading.Event())
    assert failure.kind is FailureKind.EMPTY


def test_a_stopped_judge_is_asked_no_more(model, tokenizer):
    stop = threading.Event()
    stop.set()
    assert InProcessJudge(model, tokenizer, "tiny").ask(ASKED, Sampling(), stop).kind is FailureKind.STOPPED
