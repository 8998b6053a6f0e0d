"""Printing: where results go, and how sentences and counts are written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NoReturn

import typer
from rich.console import Console

_UNBOUNDED = 100_000


def open_console() -> Console:
    """Return the console on which results are printed."""
    # A pipe or a log file has no width of its own: nothing is wrapped or split for rich's default of 80 columns.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNBOUNDED
    # Identifiers contain colons, and rich would draw a tram for the middle of "boolq:train:0".
    return Console(width=width, emoji=False)


def say(text: str, on: Console | None = None) -> None:
    """Print a sentence unchanged: no markup, and no line break in the middle of a path."""
    (on or open_console()).print(text, markup=False, highlight=False, soft_wrap=True)


def announce(text: str) -> None:
    """Print what a command is doing, before it has anything to show; to standard error, so that results stay alone."""
    Console(stderr=True, emoji=False).print(f"bench: {text}", markup=False, highlight=False, soft_wrap=True)


def end_incomplete(what: str, entries: Iterable[object]) -> NoReturn:
    """Say what a result, which is there otherwise, had to leave out, and end with exit code 1.

    Args:
        what: what was done with the entries, such as ``left out of the report``.
        entries: each in words.

    Raises:
        typer.Exit: always.
    """
    announce(f"{what}: {'; '.join(map(str, entries))}")
    raise typer.Exit(1)


def announce_loading() -> bool:
    """Announce the import of the large libraries, which takes seconds, unless it is done; return whether it is due."""
    if due := "transformers" not in sys.modules:
        announce("loading torch and transformers")
    return due


def counted(number: int, what: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
