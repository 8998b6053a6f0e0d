"""The judge in this process: a real, tiny model."""

import copy
import threading

import pytest
import torch
from tokenizers.processors import TemplateProcessing
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
from parbench.tasks.prefix_cache import BLOCK, MOST, PrefixCache

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


INSTRUCTIONS = "Please act as an impartial judge and rate the answer. "
# The second continues the first, the third and the last are of another kind, the fourth is too short to share.
PROMPTS = (
    f"{INSTRUCTIONS}It says: yes, and that for a long while.",
    f"{INSTRUCTIONS}It says: yes, and that for a long while, with reasons that take some more room.",
    "You are asked which of two answers is better, and you are not to be swayed by their length. The first: a",
    "short",
    f"{INSTRUCTIONS}It does not say anything.",
    "You are asked which of two answers is better, and you are not to be swayed by their length. The second: a",
)


def texts(model, tokenizer, prompts, shared=True):
    judge = InProcessJudge(model, tokenizer, "tiny", template="raw", max_new_tokens=12)
    if not shared:
        judge._prefixes = None
    asked = {prompt: ({"role": "user", "content": prompt},) for prompt in prompts}
    return {prompt: judge.ask(messages, Sampling(), threading.Event()) for prompt, messages in asked.items()}


def test_instructions_that_prompts_begin_with_are_read_once(model, tokenizer):
    model = copy.deepcopy(model).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    read = []
    counting = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    expected = texts(model, tokenizer, PROMPTS, shared=False)
    alone = sum(read)
    read.clear()
    assert texts(model, tokenizer, PROMPTS) == expected
    assert alone - sum(read) >= 5 * BLOCK
    counting.remove()
    assert texts(model, tokenizer, reversed(PROMPTS)) == expected
    assert len({reply.text for reply in expected.values()}) > 3


def test_what_is_computed_for_a_prompt_does_not_depend_on_those_before_it(model, tokenizer):
    ids = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    with torch.inference_mode():
        after_others = PrefixCache(model)
        for one in ids:
            found, fresh = after_others.begin(one), PrefixCache(model).begin(one)
            assert found.get_seq_length() == fresh.get_seq_length() == (len(one) - 1) // BLOCK * BLOCK
            for layer, other in zip(found.layers, fresh.layers, strict=True):
                assert torch.equal(layer.keys, other.keys)
                assert torch.equal(layer.values, other.values)
        assert len(after_others._kept) == 2
        for number in range(MOST + 2):
            after_others.begin([number] * (BLOCK + 1))
        assert len(after_others._kept) == MOST


def test_an_end_of_text_that_the_tokenizer_appends_is_not_read(model, tokenizer, ask):
    closing = copy.deepcopy(tokenizer)
    closing.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    judge = InProcessJudge(model, closing, "tiny", max_new_tokens=12)
    assert judge.ask(ASKED, Sampling(), threading.Event()) == ask()


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
