"""Whether inputs fit their model: their length, what it cuts off, and the words that its tokenizer knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from parbench.bench.util.errors import UserError

# A tokenizer that fits a language leaves a rare symbol unknown, not a word in twenty.
MOST_UNKNOWN = 0.03
# A length that cuts one long text in ten leaves a task what it is; one that cuts most of them makes it another.
MOST_CUT = 0.1
# An answer that loses its end is learnt without one, and so is never ended: one in a hundred is too many.
MOST_UNENDED = 0.01
# So many texts show the share well enough, and tokenising them again takes a moment.
_TRIED = 1000


def check_length(max_length: int, limit: int | None, virtual_tokens: int, name: str) -> None:
    """Check that a model takes inputs of ``max_length`` tokens behind the virtual tokens of a method.

    Args:
        limit: the tokens that the model takes, or ``None`` where there is no limit.

    Raises:
        UserError: it does not.
    """
    if limit is None or max_length + virtual_tokens <= limit:
        return
    room = limit - virtual_tokens
    taken = f", of which the method's prompt takes {virtual_tokens}" if virtual_tokens else ""
    advice = f"use --set train.max_length={room}" if room > 0 else "use fewer virtual tokens"
    raise UserError(
        f"max_length {max_length} is more than {name} has room for: it takes {limit} tokens{taken}; {advice}"
    )


def unknown_tokens(ids: Iterable[Sequence[int]], tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """Return a warning where a tokenizer does not fit texts.

    More than `MOST_UNKNOWN` of their tokens are unknown, or of so many texts nothing is left.
    """
    unknown = tokenizer.unk_token_id
    # Tokenizers of bytes know every text; often their unknown token is their end of text, too.
    if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        unknown = None
    special = set(tokenizer.all_special_ids) - {unknown}
    words = [[token for token in text if token not in special] for text in ids]
    empty = sum(not text for text in words)
    if empty > MOST_UNKNOWN * len(words):
        return f"the tokenizer of {name} makes no token of {empty} of the {len(words)} training texts"
    tokens = Counter(token for text in words for token in text)
    share = tokens[unknown] / (tokens.total() or 1)
    if unknown is None or share <= MOST_UNKNOWN:
        return None
    return f"{share:.1%} of the training tokens are unknown to the tokenizer of {name}, which does not fit these texts"


def cut_texts(lengths: Sequence[int], whole: Callable[[Sequence[int]], Iterable[int]], max_length: int) -> str | None:
    """Return a warning where more than `MOST_CUT` of the training texts are longer than ``max_length``.

    Args:
        lengths: tokens of each prepared text, at most ``max_length``.
        whole: returns the tokens of the texts at some places, where one more is allowed; asked for some of those that
            have ``max_length`` tokens.
    """
    full = [place for place, length in enumerate(lengths) if length >= max_length]
    if len(full) <= MOST_CUT * len(lengths):
        return None
    tried = full[:: -(-len(full) // _TRIED)]
    longer = sum(length > max_length for length in whole(tried)) / len(tried)
    share = longer * len(full) / len(lengths)
    if share <= MOST_CUT:
        return None
    return f"{share:.0%} of the training texts have more than {max_length} tokens, train.max_length, and were cut"


def cut_prompts(lengths: Sequence[int], max_length: int) -> str | None:
    """Return a warning where more than `MOST_CUT` of the prompts that an encoder reads are longer than ``max_length``.

    Args:
        lengths: tokens of each whole prompt.
    """
    share = sum(length > max_length for length in lengths) / (len(lengths) or 1)
    if share <= MOST_CUT:
        return None
    return (
        f"{share:.0%} of the training prompts have more than {max_length} tokens, train.max_length, and lost their end"
    )


def cut_answers(labels: Iterable[Sequence[int]], end: int, max_length: int) -> str | None:
    """Return a warning where more than `MOST_UNENDED` of the answers trained on were cut.

    Args:
        labels: of each text, the answer last.
        end: the token behind each whole answer.
    """
    ended = [len(row) > 0 and row[-1] == end for row in labels]
    share = ended.count(False) / (len(ended) or 1)
    if share <= MOST_UNENDED:
        return None
    return (
        f"{share:.0%} of the training answers do not fit into {max_length} tokens, train.max_length, and lost their end"
    )
