"""The one parser of what files hold: texts by their characters, and numbers; see `parbench.tasks.data.labels`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# Of the numbers of 32 bits: (2 - 2**-23) * 2**127.
_LARGEST = 3.4028234663852886e38
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?", re.ASCII)


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
    for row, value in enumerate(values_of(dataset, column), start=1):
        text = missing if value is None else as_text(value, single)
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
    for row, value in enumerate(values_of(dataset, column), start=1):
        texts = [as_text(one, single) for one in (value if isinstance(value, list) else [value])]
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
    for row, value in enumerate(values_of(dataset, column), start=1):
        number = as_number(value)
        if number is None or not abs(number) <= _LARGEST:
            hint = "; write the decimal point as a point, and thousands without" if _has_comma(value) else ""
            raise UserError(
                f"{where}, column {column}, has no number as its label in row {row} (it is {value!r}); fix or remove "
                f"the row{hint}"
            )
        found.append(number)
    return found


def values_of(dataset: Dataset, column: str, by_name: bool = True) -> list[Any]:
    """Return the values of a column; by their names where the data has names for numbers."""
    names = getattr(dataset.features[column], "names", None) if by_name else None
    values: list[Any] = dataset[column][:]
    if names is None:
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else None for value in values]


def as_text(value: Any, single: bool) -> str | None:
    """Return a text as it is, a number by its shortest decimal (``single``: of 32 bits), and ``None`` for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return str(value)
    return shortest(value, single) if isinstance(value, float) and math.isfinite(value) else None


def as_number(value: Any) -> float | None:
    """Return a number, or a decimal that a text is; ``None`` for all else."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return float(value) if is_number else None


def whole_number(value: Any) -> int | None:
    """Return a number without a fraction, or ``None``."""
    text = None if isinstance(value, bool) else as_text(value, False)
    found = None if text is None else _WHOLE.fullmatch(text.strip())
    return None if found is None else int(found[1])


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


def _is_single(dataset: Dataset, column: str) -> bool:
    kind: Any = dataset.features[column]
    while hasattr(kind, "feature"):
        kind = kind.feature
    return getattr(kind, "dtype", "") in ("float16", "float32")


def _has_comma(value: Any) -> bool:
    return isinstance(value, str) and "," in value


def _described(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "it is missing"
    return f"it is a {type(value).__name__}, neither a text nor a number"
