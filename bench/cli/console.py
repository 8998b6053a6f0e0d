"""What the sub-commands share: where they print, and how they read lists and numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parbench.bench.util.errors import UserError

DEFAULT_STORE = Path("results")


def read_folder(given: str | Path) -> Path:
    """Read a path that is not empty, as that of an unset variable is: it would be the working folder.

    Raises:
        typer.BadParameter: it is empty, or in the home of somebody that there is not.
    """
    if not str(given):
        raise typer.BadParameter("is empty; name a folder, or leave it out")
    try:
        # A shell leaves --out=~/results as it is.
        return Path(given).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(f"{given}: {error}") from error


Out = Annotated[
    Path, typer.Option("--out", help="Folder of the records.", show_default=True, parser=read_folder, metavar="DIR")
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Read data from here, one folder a task.", parser=read_folder, metavar="DIR")
]


def open_console() -> Console:
    """Return where results are printed."""
    # A pipe or a file has no width of its own; rich's 80 columns would cut tables that nobody looks at in a terminal.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    # Identifiers have colons, and rich would draw a tram for the middle of "boolq:train:0".
    return Console(width=width, emoji=False)


def say(text: str, on: Console | None = None) -> None:
    """Print a sentence as it is: no markup, no wrapping in the middle of a path."""
    (on or open_console()).print(text, markup=False, highlight=False, soft_wrap=True)


def counted(number: int, what: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def read_names(text: str | None, option: str) -> tuple[str, ...] | None:
    """Read names with commas between them; commas in brackets belong to a name.

    Raises:
        UserError: there is no name.
    """
    if text is None:
        return None
    from parbench.methods.expression import split

    found = tuple(dict.fromkeys(name for name in split(text, ",") if name))
    if not found:
        raise UserError(f"{option} is empty; leave it out, or give what it names with commas in between")
    return found


def read_seeds(text: str | None, option: str = "--seeds") -> tuple[int, ...] | None:
    """Read whole numbers with commas between them.

    Raises:
        UserError: one is not, or is too large for a random generator.
    """
    found = read_names(text, option)
    if found is None:
        return None
    if not all(name.isdecimal() and int(name) < 2**32 for name in found):
        raise UserError(f'"{option} {text}" are not whole numbers from 0 to {2**32 - 1} with commas between them')
    return tuple(int(name) for name in found)


def read_positive(value: int | None, option: str) -> int | None:
    """Return a number of at least 1.

    Raises:
        UserError: it is smaller.
    """
    if value is not None and value < 1:
        raise UserError(f"{option} is {value}; give a number of at least 1")
    return value


def read_fractions(text: str | None, option: str = "--train-fraction") -> tuple[float, ...]:
    """Read shares with commas between them; none given is all of it.

    Raises:
        UserError: one is not above 0 and at most 1.
    """
    found = read_names(text, option)
    if found is None:
        return (1.0,)
    try:
        shares = tuple(dict.fromkeys(float(name) for name in found))
    except ValueError:
        shares = (0.0,)
    if not all(0 < share <= 1 for share in shares):
        raise UserError(f'"{option} {text}" are not shares above 0 and at most 1 with commas between them')
    return shares


def read_bytes(text: str | None, option: str) -> int | None:
    """Read a size such as ``8``, ``8GiB`` or ``500MiB`` (GiB if nothing is said) into bytes.

    Raises:
        UserError: it is none.
    """
    if text is None:
        return None
    units = {"gib": 2**30, "gb": 10**9, "mib": 2**20, "mb": 10**6, "g": 2**30, "m": 2**20, "": 2**30}
    number = text.strip().lower()
    unit = number.lstrip("0123456789.")
    try:
        size = float(number.removesuffix(unit)) * units[unit.strip()]
    except (KeyError, ValueError):
        size = 0.0
    if size <= 0:
        raise UserError(f'"{option} {text}" is not a size; give for example 8GiB')
    return int(size)
