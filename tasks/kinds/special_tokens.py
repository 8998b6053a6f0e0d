"""Special tokens of a prompt: kept when it is shortened, and never there twice."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def open_ids(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a prompt that is to be continued.

    One beginning of text is left where the tokenizer has put its own before that of the text or its chat template, and
    the end of text that some tokenizers put behind every text is dropped.
    """
    found = list(ids)
    first = beginning(found, tokenizer)
    while first and len(found) > first and found[first] == tokenizer.bos_token_id:
        found.pop(first)
    if len(found) > first and found[-1] == tokenizer.eos_token_id:
        found.pop()
    return found


def continuing_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a text that stands behind another, without special tokens.

    Some tokenizers put a blank before all that they are given, also where it begins with one (the ``Prepend`` of older
    Llama files): behind another text it would be there twice.
    """
    given = text.removeprefix(" ") if text.startswith(" ") and _doubles_blanks(tokenizer) else text
    return list(tokenizer(given, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=1)
def _doubles_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    word, blank, both = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("a", " a", "a a"))
    return blank != word and both == [*word, *word]


def closed_ids(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a response with one end of text behind it, whether or not the text has its own."""
    found = list(ids)
    while found and found[-1] == tokenizer.eos_token_id:
        found.pop()
    return [*found, int(tokenizer.eos_token_id)]


def beginning(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens at the start of ``ids`` begin every text of the tokenizer, such as one ``<s>``."""
    bare = list(tokenizer("")["input_ids"])
    own = bare[:-1] if bare[-1:] == [tokenizer.eos_token_id] and len(bare) > 1 else bare
    if own and list(ids[: len(own)]) == own:
        return len(own)
    return int(len(ids) > 0 and ids[0] == tokenizer.bos_token_id)


def shortened(ids: Sequence[int], most: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return at most ``most`` of a prompt's ids: what begins every text, and the end of the rest."""
    if len(ids) <= most:
        return list(ids)
    kept = min(beginning(ids, tokenizer), max(most, 0))
    return [*ids[:kept], *ids[len(ids) - (most - kept) :]] if most > kept else list(ids[:kept])
