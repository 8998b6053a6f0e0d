"""The exceptions for wrong input of the user and for a model that has diverged."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input of the user cannot be used: one sentence that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class DivergedError(RuntimeError):
    """The loss or the outputs are no longer finite."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "lora"?'`` for a near miss, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there is: {', '.join(names)}" if names else "; there is none"
