"""Errors of the operating system as sentences: a name too long, a folder that may not be read, a full disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parbench.bench.util.errors import UserError

# A longer name is cut in messages.
_MOST_CHARACTERS = 120


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of reading into a sentence.

    Raises:
        UserError: in place of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        what = f'"{_named(error, path)}" cannot be read ({_why(error)})'
        raise UserError(f"{what}; correct the name, or allow it") from error


@contextmanager
def writing(path: Path, instead: str = "another folder") -> Iterator[None]:
    """Turn an error of writing into a sentence.

    Args:
        instead: what the user may give instead.

    Raises:
        UserError: in place of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f'cannot write to "{_named(error, path)}": {_why(error)}; free or allow it, or give {instead}'
        ) from error


def _named(error: OSError, path: Path) -> str:
    name = str(error.filename or path)
    return name if error.errno != errno.ENAMETOOLONG else f"{name[:_MOST_CHARACTERS]}..."


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
