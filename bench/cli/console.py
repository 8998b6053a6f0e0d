"""Printing: where results go, and how sentences and counts are written."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def open_console() -> Console:
    """Return the console on which results are printed."""
    # A pipe or a file has no width of its own; rich's 80 columns would cut tables that nobody looks at in a terminal.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    # Identifiers contain colons, and rich would draw a tram for the middle of "boolq:train:0".
    return Console(width=width, emoji=False)


def say(text: str, on: Console | None = None) -> None:
    """Print a sentence unchanged: no markup, and no line break in the middle of a path."""
    (on or open_console()).print(text, markup=False, highlight=False, soft_wrap=True)


def counted(number: int, what: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
