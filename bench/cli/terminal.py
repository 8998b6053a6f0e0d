"""What the command line needs of its arguments and of the terminal's encoding."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterable
from typing import TextIO

from parbench.bench.util.errors import UserError

# What is printed and not in ASCII, for terminals that lack it.
_PLAIN = {
    "\u2014": "-",  # em dash
    "\u2013": "-",  # en dash
    "\u2212": "-",  # minus
    "\u2026": "...",  # ellipsis
    "\u00b1": "+/-",  # plus-minus
    "\u00d7": "x",  # times
    "\u00b7": ".",  # middle dot
    "\u2264": "<=",  # at most
    "\u2265": ">=",  # at least
    "\u2248": "~",  # about
    "\u2192": "->",  # arrow
    "\u2022": "*",  # bullet
    "\u201c": '"',  # quotes
    "\u201d": '"',
    "\u2018": "'",
    "\u2019": "'",
    "\u00b5": "u",  # micro
    "\u0394": "delta ",  # delta
    "\u03c3": "sigma ",  # sigma
}
_ERRORS = "parbench-plain"


def print_anything() -> None:
    """Have standard output and error take every character: what their encoding lacks is written in another way.

    A stream that is closed, as of a daemon, takes everything and shows nothing.
    """
    codecs.register_error(_ERRORS, _plain)
    # Python has ``None`` for a stream that was closed before it started.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def cannot_print(error: OSError) -> bool:
    """Return whether an error is of a standard stream, such as a log on a full disk, and not of a file with a name."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EBADF)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def check_arguments(arguments: Iterable[str]) -> None:
    """Make sure that every name on the command line can be written into records, which are UTF-8.

    Raises:
        UserError: one is not text in UTF-8.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise UserError(f'"{shown}" is not text in UTF-8, as names in records are; rename it') from None


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or _escaped(letter) for letter in lacking), error.end


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode("ascii")
