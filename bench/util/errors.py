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
    """Return ``'; did you mean "lora"?'`` for a near miss, a first word or initials, else the list of known names."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    # Swapped letters are a common slip, which difflib counts as two.
    swapped = [name for name in lower if sorted(name) == sorted(word.lower())]
    short = [name for name in lower if "_" in name and "".join(part[:1] for part in name.split("_")) == word.lower()]
    begun = [name for name in lower if name.startswith(f"{word.lower()}_")]
    close = swapped[:1] or short[:1] or begun or difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    if close:
        offered = " or ".join(f'"{lower[name]}"' for name in close)
        return f"; did you mean {offered}?"
    return f"; there is: {', '.join(names)}" if names else "; there is none"
