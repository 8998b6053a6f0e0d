"""Formats a conversation as a prompt, with the tokenizer's chat template or one of FastChat's templates."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.tasks.judge.outcome import Message
from parbench.tasks.kinds.special_tokens import open_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The name that selects the tokenizer's own chat template.
TOKENIZER = "tokenizer"

# For base models without a chat template: the format of the most common instruction data.
DEFAULT_TEMPLATE = "alpaca"


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the model's next answer.

    Attributes:
        text: the text that the model continues.
        template: ``tokenizer``, or the name of FastChat's template.
        stops: texts that end an answer, besides the tokenizer's end of text.
        stop_token_ids: tokens that end an answer.
        add_special_tokens: whether the tokenizer adds special tokens; a chat template already contains them.
    """

    text: str
    template: str
    stops: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    add_special_tokens: bool = True

    def token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the text as token ids."""
        return list(tokenizer(self.text, add_special_tokens=self.add_special_tokens)["input_ids"])

    def open_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the token ids for the model to continue; see `parbench.tasks.kinds.special_tokens.open_ids`."""
        return open_ids(self.token_ids(tokenizer), tokenizer)

    def finish(self, generated: str) -> str:
        """Return a decoded answer up to the first of ``stops``, without white space at its ends."""
        ends = [place for stop in self.stops if (place := generated.find(stop)) >= 0]
        return generated[: min(ends, default=None)].strip()


def conversation_prompt(
    turns: Sequence[str],
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    template: str | None = None,
) -> Prompt:
    """Return the prompt for the next answer of a conversation.

    Args:
        turns: the user's messages so far; at least one.
        answers: the model's answers to all turns but the last.
        tokenizer: the model's tokenizer.
        template: ``tokenizer`` or the name of one of FastChat's templates; by default the tokenizer's chat template,
            or `DEFAULT_TEMPLATE` where it has none.

    Raises:
        UserError: the template is unknown or cannot express the conversation.
        ValueError: there is not exactly one answer to every turn but the last.
    """
    if not turns or len(answers) != len(turns) - 1:
        raise ValueError(f"{len(turns)} turns need {max(len(turns) - 1, 0)} earlier answers, not {len(answers)}")
    messages = [{"role": "user", "content": turns[0]}]
    for answer, turn in zip(answers, turns[1:], strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return messages_prompt(messages, tokenizer, template)


def messages_prompt(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, template: str | None = None
) -> Prompt:
    """Return the prompt for the next answer of a chat: an optional ``system`` message, then alternating ``user`` and
    ``assistant`` messages, ending with ``user``.

    Raises:
        UserError: the chat is in another order, or the template is unknown or cannot express it.
    """
    name = template or (TOKENIZER if tokenizer.chat_template else DEFAULT_TEMPLATE)
    roles = [message["role"] for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) % 2 == 0 or spoken != (["user", "assistant"] * len(spoken))[: len(spoken)]:
        raise UserError("a chat must alternate between user and assistant and end with the user")
    return _own_template(messages, tokenizer) if name == TOKENIZER else _fastchat(messages, name)


def template_names() -> list[str]:
    """Return the names of FastChat's templates."""
    return sorted(_conversations().conv_templates)


def _own_template(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Prompt:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer has no chat template; name one of FastChat's, such as {DEFAULT_TEMPLATE}")
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise UserError(f"the tokenizer's chat template cannot express this chat: {error}") from error
    return Prompt(str(text), TOKENIZER, add_special_tokens=False)


def _fastchat(messages: Sequence[Message], name: str) -> Prompt:
    known = _conversations().conv_templates
    if name not in known:
        raise UserError(f'there is no conversation template "{name}"{did_you_mean(name, [TOKENIZER, *known])}')
    conversation = known[name].copy()
    for message in messages:
        if message["role"] == "system":
            conversation.set_system_message(message["content"])
        else:
            role = conversation.roles[0 if message["role"] == "user" else 1]
            conversation.append_message(role, message["content"])
    conversation.append_message(conversation.roles[1], None)
    try:
        text = conversation.get_prompt()
    except (ValueError, TypeError) as error:  # a template for a model that is only available through an API
        raise UserError(
            f'FastChat\'s template "{name}" is for models behind an API, not for a local model; name another'
        ) from error
    stops: str | Iterable[str] = conversation.stop_str or ()
    return Prompt(
        text,
        name,
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
        stop_token_ids=tuple(conversation.stop_token_ids or ()),
    )


def _conversations() -> Any:
    try:
        return importlib.import_module("fastchat.conversation")
    except ImportError:
        raise UserError('FastChat\'s templates need fschat; install it: pip install "parbench[judge]"') from None
