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
    """Return ``'; did you mean "lora"?'``, or else the list of known names.

    Offered are near misses, names that begin with the word or end with it behind a slash, and those of these initials.
    """
    names = sorted(known)
    lower, part = {name.lower(): name for name in names}, word.lower()
    # Swapped letters are a common slip, which difflib counts as two.
    swapped = [name for name in lower if sorted(name) == sorted(part)]
    short = [name for name in lower if "_" in name and "".join(piece[:1] for piece in name.split("_")) == part]
    whole = [name for name in lower if name.startswith(f"{part}_") or name.endswith(f"/{part}")]
    close = swapped[:1] or short[:1] or whole or difflib.get_close_matches(part, lower, n=1, cutoff=0.6)
    if close:
        offered = " or ".join(f'"{lower[name]}"' for name in close)
        return f"; did you mean {offered}?"
    return f"; there is: {', '.join(names)}" if names else "; there is none"
