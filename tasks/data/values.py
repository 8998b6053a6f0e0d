"""The one parser of what files hold: texts by their characters, numbers, and labels by name or number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# Of the numbers of 32 bits: (2 - 2**-23) * 2**127.
_LARGEST = 3.4028234663852886e38
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?", re.ASCII)
# Names of truth values, false first: of a class so called, a number is its truth and not its place.
_TRUTHS = (("false", "true"), ("no", "yes"), ("off", "on"))
# More names than these are not written out.
_MOST_NAMES = 10


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of classes of which only the number is known here: 0, 1, 2 ..."""
    return tuple(map(str, range(count)))


def shortest(number: float, single: bool = False) -> str:
    """Return the shortest decimal that reads back as ``number``, without a point where it is whole.

    A column of whole numbers is thereby written in the same way whether its file has the type of integers or not.

    Args:
        number: a finite number.
        single: whether it has 32 bits.
    """
    import numpy as np

    if number.is_integer() and abs(number) < 2**53 and not (number == 0 and math.copysign(1, number) < 0):
        return str(int(number))
    return str(np.float32(number)) if single else repr(number)


def check_columns(dataset: Dataset, columns: Sequence[str], where: str) -> None:
    """Check that a split has rows, and columns.

    Raises:
        UserError: it has not.
    """
    if not len(dataset):
        raise UserError(f"{where} is empty; give a file with examples")
    absent = [column for column in columns if column not in dataset.column_names]
    if absent:
        raise UserError(f"{where} has no column {', '.join(absent)}; it has {', '.join(dataset.column_names)}")


def texts_of(dataset: Dataset, column: str, where: str, missing: str | None = None) -> list[str]:
    """Return a column as texts; numbers of a file that has types are written by `shortest`.

    Args:
        dataset: a split as a source has it.
        column: its column.
        where: the split in words, for an error.
        missing: the text of a row that has no value, where it may have none.

    Raises:
        UserError: a row has neither a text nor a number.
    """
    single = _is_single(dataset, column)
    texts = []
    for row, value in enumerate(_values(dataset, column), start=1):
        text = missing if value is None else _text(value, single)
        if text is None:
            raise UserError(
                f"{where} has no text in column {column}, row {row} ({_described(value)}); fix or remove the row"
                + (", or save the column as texts" if value is not None else "")
            )
        texts.append(text)
    return texts


def text_lists_of(dataset: Dataset, column: str, where: str) -> list[list[str]]:
    """Return a column of texts, or of lists of texts, as lists.

    Raises:
        UserError: a row, or an element of its list, is neither a text nor a number.
    """
    single = _is_single(dataset, column)
    found = []
    for row, value in enumerate(_values(dataset, column), start=1):
        texts = [_text(one, single) for one in (value if isinstance(value, list) else [value])]
        if not texts or any(text is None for text in texts):
            raise UserError(
                f"{where} has no text in column {column}, row {row} ({_described(value)}); fix or remove the row"
            )
        found.append([text for text in texts if text is not None])
    return found


def numbers_of(dataset: Dataset, column: str, where: str) -> list[float]:
    """Return a column as numbers: those of the file, or decimals that it holds as texts.

    Raises:
        UserError: one is missing, is not a number, or is beyond those of 32 bits, as which models see them.
    """
    found = []
    for row, value in enumerate(_values(dataset, column), start=1):
        number = _number(value)
        if number is None or not abs(number) <= _LARGEST:
            hint = "; write the decimal point as a point" if isinstance(value, str) and "," in value else ""
            raise UserError(
                f"{where}, column {column}, has no number as its label in row {row} (it is {value!r}); fix or remove "
                f"the row{hint}"
            )
        found.append(number)
    return found


def class_ids(dataset: Dataset, column: str, labels: Sequence[str], where: str) -> list[int]:
    """Return the class ids of a column of labels: by the classes' names, or by their numbers from 0.

    Where the data has names for the numbers in its column (class folders, or a `ClassLabel`), the names count. Where
    the names of ``labels`` are numbers, numbers are names.

    Args:
        dataset: a split as a source has it.
        column: its column of labels.
        labels: the class names in the order of their ids; see `numbered`.
        where: the split in words, for an error.

    Raises:
        UserError: a label is missing or unknown, or the data has other classes.
    """
    names = getattr(dataset.features[column], "names", None)
    known = None if names is None else _ids_of_names(names, labels, f"{where}, column {column},")
    found = []
    for row, value in enumerate(_values(dataset, column, by_name=False), start=1):
        if known is None:
            label = _class_id(value, labels)
        else:
            label = known[value] if isinstance(value, int) and 0 <= value < len(known) else None
        if label is None:
            missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
            what = "no label" if missing else f"the unknown label {value!r}"
            raise UserError(f"{where}, column {column}, has {what} in row {row}; it may be {_allowed(labels)}")
        found.append(label)
    return found


def places_of(
    dataset: Dataset, column: str, choices: Sequence[Sequence[str]], names: Sequence[str], where: str
) -> list[int]:
    """Return which choice is right by a column that holds its text, its column's name, its letter, or its number.

    A text counts before a letter, and a letter before a number from 0. An integer of a file that has types is a number.

    Args:
        dataset: a split as a source has it.
        column: its column with the right choice.
        choices: the texts of the choices of each row.
        names: the columns of the choices, where they are several.
        where: the split in words, for an error.

    Raises:
        UserError: a row names none of its choices; or some rows can only be numbers, and others are numbers and texts
            of different choices.
    """
    found, unclear, only_number = [], 0, 0
    for row, (value, texts) in enumerate(zip(_values(dataset, column), choices, strict=True), start=1):
        place = _place(value, texts, names)
        number = _whole(value)
        if place is None or not 0 <= place < len(texts):
            raise UserError(
                f"{where}, column {column}, row {row} has the unknown label {value!r}; it may be the text of one "
                f"choice, a letter from A, or a number from 0 to {len(texts) - 1}"
            )
        if isinstance(value, str) and number is not None:
            by_text = texts.count(value) == 1
            unclear = unclear or (row if by_text and place != number else 0)
            only_number = only_number or (0 if by_text else row)
        found.append(place)
    if unclear and only_number:
        raise UserError(
            f"{where}, column {column}, row {unclear} has a label that is the text of one choice and the number of "
            f"another, and row {only_number} has one that can only be a number; write letters or texts"
        )
    return found


def _place(value: Any, texts: Sequence[str], names: Sequence[str]) -> int | None:
    """Return which choice a label means, not yet checked against their number."""
    if not isinstance(value, str):
        return _whole(value)
    if list(texts).count(value) == 1:
        return list(texts).index(value)
    if len(names) > 1 and value in names:
        return list(names).index(value)
    if len(value) == 1 and value.isalpha():
        return ord(value.upper()) - ord("A")
    return _whole(value)


def _whole(value: Any) -> int | None:
    """Return a number without a fraction, or ``None``."""
    text = None if isinstance(value, bool) else _text(value, False)
    found = None if text is None else _WHOLE.fullmatch(text.strip())
    return None if found is None else int(found[1])


def _values(dataset: Dataset, column: str, by_name: bool = True) -> list[Any]:
    """Return the values of a column; by their names where the data has names for numbers."""
    names = getattr(dataset.features[column], "names", None) if by_name else None
    values: list[Any] = dataset[column][:]
    if names is None:
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else None for value in values]


def _is_single(dataset: Dataset, column: str) -> bool:
    kind: Any = dataset.features[column]
    while hasattr(kind, "feature"):
        kind = kind.feature
    return getattr(kind, "dtype", "") in ("float16", "float32")


def _text(value: Any, single: bool) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return str(value)
    return shortest(value, single) if isinstance(value, float) and math.isfinite(value) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return float(value) if is_number else None


def _described(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "it is missing"
    return f"it is a {type(value).__name__}, neither a text nor a number"


def _class_id(value: Any, labels: Sequence[str]) -> int | None:
    """Return the place of one label, or ``None`` if it is missing, unknown, or could mean two classes."""
    folded = [name.casefold() for name in labels]
    text = str(value).lower() if isinstance(value, bool) else _text(value, False)
    if not text:
        return None
    if text in labels:
        return list(labels).index(text)
    if text.casefold() in ("true", "false"):
        if folded.count(text.casefold()) == 1:
            return folded.index(text.casefold())
        return _truth(text.casefold() == "true", folded)
    number = _whole(text)
    if number is None:
        return None
    by_value = [place for place, name in enumerate(labels) if (same := _number(name)) is not None and same == number]
    if by_value:
        return by_value[0] if len(by_value) == 1 else None
    if any(_number(name) is not None for name in labels):
        return None
    if sorted(folded) in map(sorted, _TRUTHS):
        return number if number in (0, 1) and tuple(folded) in _TRUTHS else None
    return number if 0 <= number < len(labels) else None


def _truth(value: bool, folded: Sequence[str]) -> int | None:
    """Return the class of a truth value, if the two classes are called like truth values."""
    pair = next((pair for pair in (*_TRUTHS, ("0", "1")) if sorted(pair) == sorted(folded)), None)
    return None if pair is None else list(folded).index(pair[value])


def _ids_of_names(names: Sequence[str], labels: Sequence[str], where: str) -> list[int]:
    """Return the ids of the classes that the data names.

    Raises:
        UserError: they are others than ``labels``.
    """
    if set(names) == set(labels) and len(names) == len(labels):
        return [list(labels).index(name) for name in names]
    if len(names) != len(labels):
        raise UserError(
            f"{where} has {len(names)} classes ({shortened(names)}), and the task has {len(labels)} "
            f"({shortened(labels)}){_difference(names, labels)}; give the data of this task, or name its labels"
        )
    # On one side there are only places, which do not contradict the other's names.
    places = numbered(len(labels))
    if tuple(labels) == places or (tuple(names) == places and all(_number(name) is None for name in labels)):
        return list(range(len(labels)))
    raise UserError(
        f"{where} has the classes {shortened(names)}; they must be {shortened(labels)}{_difference(names, labels)}"
    )


def _difference(names: Sequence[str], labels: Sequence[str]) -> str:
    """Return in words which class only one side has."""
    if numbered(len(labels)) == tuple(labels):
        return ""
    only_data = [name for name in names if name not in labels]
    only_task = [name for name in labels if name not in names]
    parts = [f'"{only_data[0]}" is only in the data'] if only_data else []
    parts += [f'"{only_task[0]}" is only in the task'] if only_task else []
    return f": {' and '.join(parts)}" if parts else ""


def _allowed(labels: Sequence[str]) -> str:
    if tuple(labels) == numbered(len(labels)):
        return f"0 to {len(labels) - 1}"
    numbers = "" if any(_number(name) is not None for name in labels) else f", or a number from 0 to {len(labels) - 1}"
    return shortened(labels) + numbers


def shortened(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Return names with commas between them; of many only the first."""
    listed = list(names)
    return ", ".join(listed[:_MOST_NAMES]) + (
        f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    )
