"""Labels of files: by the names of classes or the texts of choices, in every way in which programs write them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.data.values import as_number, as_text, values_of, whole_number

if TYPE_CHECKING:
    from datasets import Dataset

# Names of truth values, false first: of a class so called, a number is its truth and not its place.
_TRUTHS = (("false", "true"), ("no", "yes"), ("off", "on"))
_WORDS = _TRUTHS[0]
# More names than these are not written out.
_MOST_NAMES = 10


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of classes of which only the number is known here: 0, 1, 2 ..."""
    return tuple(map(str, range(count)))


def shortened(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Return names with commas between them; of many only the first."""
    listed = list(names)
    return ", ".join(listed[:_MOST_NAMES]) + (
        f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    )


def composed(name: str) -> str:
    """Return a name with each accented letter as one character: macOS writes a letter and an accent, YAML files one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


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
    for row, value in enumerate(values_of(dataset, column, by_name=False), start=1):
        if known is None:
            label = class_id(value, labels)
        else:
            label = known[value] if isinstance(value, int) and 0 <= value < len(known) else None
        if label is None:
            missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
            what = "no label" if missing else f"the unknown label {value!r}"
            raise UserError(f"{where}, column {column}, has {what} in row {row}; it may be {_allowed(labels)}")
        found.append(label)
    return found


def in_one_order(splits: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return splits in which a number of a column with names for its numbers (`ClassLabel`) means the same class.

    Files that were written one by one may name their classes in different orders. Those of the first split count: a
    task that knows its classes by number only would take one class for another.

    Raises:
        UserError: a split names other classes than the first.
    """
    from datasets import ClassLabel

    found = dict(splits)
    firsts: dict[str, tuple[str, ClassLabel]] = {}
    for split, dataset in splits.items():
        named = {name: kind for name, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
        for column, kind in named.items():
            first, wanted = firsts.setdefault(column, (split, kind))
            if [*map(composed, kind.names)] == [*map(composed, wanted.names)]:
                continue
            if sorted(map(composed, kind.names)) != sorted(map(composed, wanted.names)):
                raise UserError(
                    f"the splits {first} and {split} name other classes in column {column}: {shortened(wanted.names)}, "
                    f"and {shortened(kind.names)}; write both with the same names"
                )
            found[split] = _renumbered(found[split], column, kind.names, wanted)
    return found


def _renumbered(dataset: Dataset, column: str, names: Sequence[str], wanted: Any) -> Dataset:
    """Return a split whose numbers in ``column`` mean the names of the class label ``wanted``."""
    from datasets import Dataset, Features, concatenate_datasets

    places = {composed(name): place for place, name in enumerate(wanted.names)}
    numbers = [
        places[composed(names[value])] if isinstance(value, int) and 0 <= value < len(names) else value
        for value in dataset[column][:]
    ]
    changed = Dataset.from_dict({column: numbers}, Features({column: wanted}))
    others = dataset.remove_columns(column)
    whole = concatenate_datasets([others, changed], axis=1) if others.column_names else changed
    return whole.select_columns(dataset.column_names)


def class_id(value: Any, labels: Sequence[str]) -> int | None:
    """Return the place of one label, or ``None`` if it is missing, unknown, or could mean two classes.

    See `class_ids`. A truth value, or the word for one, is the class of that name in any case, or of two classes called
    no and yes, off and on, or 0 and 1 the one that it means.
    """
    text = str(value).lower() if isinstance(value, bool) else as_text(value, False)
    if not text:
        return None
    if text in labels:
        return list(labels).index(text)
    labels, text = [composed(name) for name in labels], composed(text)
    if labels.count(text) == 1:
        return labels.index(text)
    folded = [name.casefold() for name in labels]
    if text.casefold() in _WORDS:
        return _truth(text.casefold(), folded)
    number = whole_number(text)
    if number is None:
        return None
    by_value = [place for place, name in enumerate(labels) if (same := as_number(name)) is not None and same == number]
    if by_value:
        return by_value[0] if len(by_value) == 1 else None
    if any(as_number(name) is not None for name in labels):
        return None
    if sorted(folded) in map(sorted, _TRUTHS):
        return number if number in (0, 1) and tuple(folded) in _TRUTHS else None
    return number if 0 <= number < len(labels) else None


def places_of(
    dataset: Dataset, column: str, choices: Sequence[Sequence[str]], names: Sequence[str], where: str
) -> list[int]:
    """Return which choice is right by a column that holds its text, its column's name, its letter, or its number.

    A text counts before a letter, and a letter before a number from 0; but a number of a file that has types is first
    of all a number. A truth value is the choice of that name in any case, or of two such as no and yes the one that it
    means.

    Args:
        dataset: a split as a source has it.
        column: its column with the right choice.
        choices: the texts of the choices of each row.
        names: the columns of the choices, where they are several.
        where: the split in words, for an error.

    Raises:
        UserError: a row names none of its choices; or some rows can only be numbers, and others are texts.
    """
    found, by_rule, by_other = [], 0, 0
    for row, (value, texts) in enumerate(zip(values_of(dataset, column), choices, strict=True), start=1):
        readings = _readings(value, list(texts), list(names))
        place = next((one for one in readings if one is not None), None)
        if place is None:
            raise UserError(
                f"{where}, column {column}, row {row} has the unknown label {value!r}; it may be the text of one "
                f"choice, a letter from A, or a number from 0 to {len(texts) - 1}"
            )
        if len(readings) == 2:
            first, second = readings
            by_rule = by_rule or (row if first is not None and first != second else 0)
            by_other = by_other or (row if first is None else 0)
        found.append(place)
    if by_rule and by_other:
        kinds = ("text", "number") if isinstance(values_of(dataset, column)[0], str) else ("number", "text")
        raise UserError(
            f"{where}, column {column}, row {by_rule} has a label that is the {kinds[0]} of a choice, and row "
            f"{by_other} has one that can only be the {kinds[1]} of another; write letters or texts"
        )
    return found


def _readings(value: Any, texts: list[str], names: list[str]) -> tuple[int | None, ...]:
    """Return which choice a label means; of a number which one by its text and which one by its place, or reversed.

    The reading that counts is the first; each is ``None`` where there is no such choice.
    """
    word = str(value).casefold()
    if isinstance(value, bool) or (word in _WORDS and value not in (*texts, *names)):
        return (_truth(word, [text.casefold() for text in texts]),)
    text, number = as_text(value, False), whole_number(value)
    by_text = texts.index(text) if text is not None and texts.count(text) == 1 else None
    by_place = number if number is not None and 0 <= number < len(texts) else None
    if not isinstance(value, str):
        return by_place, by_text
    if number is not None:
        return by_text, by_place
    if by_text is None and len(names) > 1 and value in names:
        return (names.index(value),)
    if by_text is None and len(value) == 1 and value.isalpha():
        letter = ord(value.upper()) - ord("A")
        return (letter if 0 <= letter < len(texts) else None,)
    return (by_text,)


def _truth(word: str, folded: Sequence[str]) -> int | None:
    """Return the place of a truth value among names or texts, if one is called so, or two of them as truth values."""
    if folded.count(word) == 1:
        return list(folded).index(word)
    pair = next((pair for pair in (*_TRUTHS, ("0", "1")) if sorted(pair) == sorted(folded)), None)
    return None if pair is None else list(folded).index(pair[_WORDS.index(word)])


def _ids_of_names(names: Sequence[str], labels: Sequence[str], where: str) -> list[int]:
    """Return the ids of the classes that the data names.

    Raises:
        UserError: they are others than ``labels``.
    """
    if set(names) == set(labels) and len(names) == len(labels):
        return [list(labels).index(name) for name in names]
    if sorted(map(composed, names)) == sorted(alike := [composed(label) for label in labels]):
        return [alike.index(composed(name)) for name in names]
    if len(names) != len(labels):
        raise UserError(
            f"{where} has {len(names)} classes ({shortened(names)}), and the task has {len(labels)} "
            f"({shortened(labels)}){_difference(names, labels)}; give the data of this task, or name its labels"
        )
    # On one side there are only places, which do not contradict the other's names.
    places = numbered(len(labels))
    if tuple(labels) == places or (tuple(names) == places and all(as_number(name) is None for name in labels)):
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
    named_by_numbers = any(as_number(name) is not None for name in labels)
    return shortened(labels) + ("" if named_by_numbers else f", or a number from 0 to {len(labels) - 1}")
