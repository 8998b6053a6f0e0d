"""Reading of option values: lists, numbers, sizes and folders."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from parbench.bench.util.base_precision import PRECISIONS, BasePrecision
from parbench.bench.util.errors import UserError

# Of trials, repeated runs and processes: each is planned, which takes minutes and gigabytes for a slip of the finger.
MOST_PLANNED = 10_000


def read_folder(given: str | Path) -> Path:
    """Return a path that is not empty: the empty path of an unset shell variable would be the working folder.

    Raises:
        typer.BadParameter: the path is empty, or in the home folder of an unknown user.
    """
    if not str(given):
        raise typer.BadParameter("is empty; name a folder, or leave it out")
    try:
        # A shell does not expand --out=~/results.
        return Path(given).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(f"{given}: {error}") from error


def read_names(text: str | None, option: str) -> tuple[str, ...] | None:
    """Return comma-separated names without repetitions; commas in brackets belong to a name.

    Raises:
        UserError: there is no name.
    """
    if text is None:
        return None
    from parbench.methods.expression import split

    found = tuple(dict.fromkeys(name for name in split(text, ",") if name))
    if not found:
        raise UserError(f"{option} is empty; leave it out, or give comma-separated values")
    return found


def read_seeds(text: str | None, option: str = "--seeds") -> tuple[int, ...] | None:
    """Return comma-separated whole numbers, and those of ranges such as ``1-5``, each once.

    Raises:
        UserError: one is not a whole number, or is too large for a random generator; or there are too many.
    """
    found = read_names(text, option)
    if found is None:
        return None
    numbers: dict[int, None] = {}
    for name in found:
        first, dash, last = name.partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() and int(end) < 2**32 for end in ends) or int(ends[0]) > int(ends[1]):
            raise UserError(
                f'"{option} {text}" are not comma-separated whole numbers from 0 to {2**32 - 1}, or ranges such as 1-5'
            )
        if int(ends[1]) - int(ends[0]) >= MOST_PLANNED:
            raise UserError(f'"{option} {text}" are more than {MOST_PLANNED:,} numbers')
        numbers |= dict.fromkeys(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(numbers)


def read_positive(value: int | None, option: str, least: int = 1, most: int | None = None) -> int | None:
    """Return a number that is not below ``least``, and not above ``most`` where there is one.

    Raises:
        UserError: it is smaller or larger.
    """
    if value is not None and value < least:
        raise UserError(f"{option} is {value}; give a number of at least {least}")
    if value is not None and most is not None and value > most:
        raise UserError(f"{option} is {value}; give a number of at most {most}")
    return value


def read_fractions(text: str | None, option: str = "--train-fraction") -> tuple[float, ...]:
    """Return comma-separated shares; ``(1.0,)`` if none is given.

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
        raise UserError(f'"{option} {text}" are not comma-separated shares above 0 and at most 1')
    return shares


def read_precisions(text: str | None) -> tuple[BasePrecision, ...] | None:
    """Return comma-separated precisions of base weights.

    Raises:
        UserError: one is not known.
    """
    found = read_names(text, "--base-precision")
    for name in found or ():
        if name not in PRECISIONS:
            raise UserError(f'"--base-precision {text}": "{name}" is none of {", ".join(PRECISIONS)}')
    return cast("tuple[BasePrecision, ...] | None", found)


def read_sizes(text: str, option: str, most: int | None = None) -> tuple[int | float, ...]:
    """Return comma-separated sizes of LoRAs, each once: ranks, and shares of an update's energy between 0 and 1.

    Args:
        text: the value of the option.
        option: its name.
        most: of the sizes.

    Raises:
        UserError: one is neither.
    """
    found: list[int | float] = []
    for name in read_names(text, option) or ():
        try:
            number = int(name) if name.isdecimal() else float(name)
        except ValueError:
            number = 0
        if not (number >= 1 and isinstance(number, int)) and not 0 < number < 1:
            raise UserError(f'"{option} {text}": "{name}" is neither a rank nor a share of energy between 0 and 1')
        if number not in found:
            found.append(number)
    if most is not None and len(found) > most:
        raise UserError(f'"{option} {text}" has {len(found)} values; give {most}')
    return tuple(found)


def read_bytes(text: str | None, option: str) -> int | None:
    """Return a size such as ``8`` (GiB), ``8GiB`` or ``500MiB`` in bytes.

    Raises:
        UserError: the text is not a size.
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


def read_share(value: float, most: float, option: str) -> float:
    """Return a number from 0 to ``most``.

    Raises:
        UserError: it is another number.
    """
    if not 0.0 <= value <= most:
        raise UserError(f"{option} is {value:g}; give a share from 0 to {most:g}")
    return value
