"""How texts are cut into tokens for BLEU and ROUGE-L, in any script."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import regex

from parbench.bench.util.errors import UserError

# Names of sacrebleu's tokenizers. zh, ja-mecab and ko-mecab are of their language, flores200 is of 200 languages and is
# downloaded; char cuts into characters. 13a and intl cut at spaces and punctuation.
BleuTokens = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores200", "char"]

# unicode: words of any script. ascii: those of rouge_score, which drops all but a-z and 0-9.
RougeTokens = Literal["unicode", "ascii"]

# Scripts that are written without spaces between words.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
# A character of such a script with its marks, or a word of another one; else any character that is not a space.
_WORD = regex.compile(
    rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{N}}]\p{{M}}*)+", regex.VERSION1 | regex.UNICODE
)
_LETTER = regex.compile(r"\p{L}")
_UNSPACED_LETTER = regex.compile(rf"(?=\p{{L}})[{_UNSPACED}]")


@dataclass(frozen=True)
class TokenizerNames:
    """The tokens of the metrics that count words.

    Attributes:
        bleu: the name of a tokenizer of sacrebleu.
        rouge_l: ``unicode`` or ``ascii``; on English letters and digits they are the same.
    """

    bleu: BleuTokens = "13a"
    rouge_l: RougeTokens = "unicode"


class UnicodeTokenizer:
    """Words for ``rouge_score``: lower case; of scripts without spaces, each character is a token.

    On ASCII texts its tokens are those of ``rouge_score``. A text without letters and digits, of which ``rouge_score``
    leaves nothing, is cut into its characters.
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        text = unicodedata.normalize("NFC", text.lower())
        return _WORD.findall(text) or [character for character in text if not character.isspace()]


def unspaced_share(texts: list[str]) -> float:
    """Return the share of the letters of texts that are of a script without spaces between words."""
    whole = " ".join(texts)
    return len(_UNSPACED_LETTER.findall(whole)) / max(len(_LETTER.findall(whole)), 1)


@cache
def sacrebleu_metric(name: str, tokens: str) -> Any:
    """Return sacrebleu's metric ``bleu``, with a tokenizer, or ``chrf``.

    Raises:
        UserError: the tokenizer needs a package or a download that is not available.
    """
    import sacrebleu

    if name == "chrf":
        return sacrebleu.CHRF()
    try:
        # force: a text that ends in " ." is not the user's mistake here, it is what the model wrote.
        return sacrebleu.BLEU(force=True, tokenize=tokens)
    except (ImportError, RuntimeError, OSError) as error:
        language = tokens.partition("-")[0]
        extra = f'; install it with pip install "sacrebleu[{language}]"' if tokens.endswith("-mecab") else ""
        raise UserError(
            f"the tokens {tokens} of BLEU are not available: {str(error).strip().splitlines()[0]}{extra}, or take char"
        ) from error
