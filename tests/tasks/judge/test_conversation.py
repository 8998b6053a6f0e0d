"""Prompts from conversations: FastChat's templates as FastChat itself uses them, and a tokenizer's own."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import DEFAULT_TEMPLATE, conversation_prompt, messages_prompt, template_names
from parbench.tasks.judge.conversation import TOKENIZER

fastchat = pytest.importorskip("fastchat.conversation")

TURNS, ANSWERS = ("What is 1+1?", "And +1?"), ("It is 2.",)
CHAT = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% endif %}"
)


@pytest.fixture
def chatty(tokenizer):
    tokenizer.chat_template = CHAT
    yield tokenizer
    tokenizer.chat_template = None


def local_templates() -> list[str]:
    """All templates that FastChat can write a prompt with; the others are of models behind an API."""
    found = []
    for name in template_names():
        try:
            fastchat.get_conv_template(name).get_prompt()
        except (ValueError, TypeError):
            continue
        found.append(name)
    return found


def test_every_template_is_filled_as_fastchat_fills_it(tokenizer):
    names = local_templates()
    assert len(names) > 50
    for name in names:
        # As `get_model_answers` of fastchat.llm_judge does, turn by turn.
        conversation = fastchat.get_conv_template(name)
        for place, turn in enumerate(TURNS):
            conversation.append_message(conversation.roles[0], turn)
            conversation.append_message(conversation.roles[1], None)
            prompt = conversation_prompt(TURNS[: place + 1], ANSWERS[:place], tokenizer, name)
            assert prompt.text == conversation.get_prompt(), name
            assert (prompt.template, prompt.add_special_tokens) == (name, True)
            stops = conversation.stop_str or ()
            assert prompt.stops == ((stops,) if isinstance(stops, str) else tuple(stops))
            assert prompt.stop_token_ids == tuple(conversation.stop_token_ids or ())
            if place < len(ANSWERS):
                conversation.update_last_message(ANSWERS[place])


def test_templates_are_not_changed_by_their_use(tokenizer):
    before = conversation_prompt(TURNS[:1], (), tokenizer, "vicuna_v1.1")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TURNS[0]}]
    assert messages_prompt(chat, tokenizer, "vicuna_v1.1").text.startswith("Be brief.")
    assert conversation_prompt(TURNS[:1], (), tokenizer, "vicuna_v1.1") == before


def test_a_base_model_gets_the_default_template_and_a_chat_model_its_own(tokenizer, chatty):
    assert conversation_prompt(TURNS, ANSWERS, chatty).text == (
        "<user>What is 1+1?</s><assistant>It is 2.</s><user>And +1?</s><assistant>"
    )
    assert conversation_prompt(TURNS, ANSWERS, chatty).template == TOKENIZER
    assert conversation_prompt(TURNS, ANSWERS, chatty, DEFAULT_TEMPLATE).template == DEFAULT_TEMPLATE
    chatty.chat_template = None
    prompt = conversation_prompt(TURNS, ANSWERS, tokenizer)
    assert prompt.template == DEFAULT_TEMPLATE == "alpaca"
    assert prompt.text.endswith("### Instruction: And +1?\n\n### Response:")


def test_special_tokens_are_added_once(chatty):
    own = conversation_prompt(TURNS[:1], (), chatty)
    assert own.token_ids(chatty) == chatty(own.text, add_special_tokens=False)["input_ids"]
    theirs = conversation_prompt(TURNS[:1], (), chatty, "alpaca")
    ids = theirs.token_ids(chatty)
    assert ids[0] == chatty.bos_token_id
    assert ids.count(chatty.bos_token_id) == 1


def test_an_answer_ends_at_its_first_stop(tokenizer):
    prompt = conversation_prompt(TURNS[:1], (), tokenizer, "one_shot")
    assert prompt.stops == ("###",)
    assert prompt.finish("  two \n### Human: more ### x") == "two"
    assert prompt.finish(" two ") == "two"
    assert conversation_prompt(TURNS[:1], (), tokenizer, "alpaca").finish(" 2 ### ") == "2 ###"


def test_what_cannot_be_expressed_is_refused(tokenizer, chatty):
    with pytest.raises(UserError, match=r'no conversation template "vicuna_v1\.l"; did you mean "vicuna_v1\.1"'):
        conversation_prompt(TURNS[:1], (), tokenizer, "vicuna_v1.l")
    with pytest.raises(UserError, match="no system role"):
        messages_prompt([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], chatty)
    with pytest.raises(UserError, match="is for models behind an API"):
        conversation_prompt(TURNS[:1], (), tokenizer, "chatgpt")
    with pytest.raises(ValueError, match="2 turns need 1 earlier answers, not 0"):
        conversation_prompt(TURNS, (), tokenizer)
    for roles in (["assistant"], ["user", "user"], ["user", "assistant"], ["system"], [], ["user", "system", "user"]):
        with pytest.raises(UserError, match="must alternate"):
            messages_prompt([{"role": role, "content": "x"} for role in roles], tokenizer)
    chatty.chat_template = None
    with pytest.raises(UserError, match="has no chat template; name one of FastChat's"):
        conversation_prompt(TURNS[:1], (), tokenizer, TOKENIZER)
