"""Reads JSON and JSON lines into columns, with numbers as they are written.

A column of one kind gets that type: texts, integers, truth values, lists or objects of such. Numbers with a point get
one only where writing them again gives the same characters; otherwise, and where kinds are mixed, a column is text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.surrogates import lone_surrogate
from parbench.tasks.data.csv_rows import wanted_columns
from parbench.tasks.data.source import Reads
from parbench.tasks.data.text_files import read_text, unreadable
from parbench.tasks.data.values import shortest

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


class Number(str):
    """A number by the characters that it is written with."""

    __slots__ = ()


def json_table(path: Path, reads: Reads | None) -> pa.Table:
    """Return the columns that ``reads`` names; all of them if it is ``None`` or names one that is absent.

    Raises:
        UserError: the file is not a list of objects, or one object per line.
    """
    import pyarrow as pa

    text = read_text(path)
    is_list = not path.name.endswith((".jsonl", ".jsonl.gz")) and text.lstrip().startswith("[")
    rows = _of_list(path, text) if is_list else list(_of_lines(path, text))
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    texts = () if reads is None else reads.texts
    kept = [names[place] for place in wanted_columns(names, reads, path)]
    try:
        columns = {
            name: _text_column(path, name, values) if name in texts else _array(values)
            for name in kept
            for values in ([row.get(name) for row in rows],)
        }
        return pa.table(columns)
    except UnicodeEncodeError as error:
        raise _halved(path, rows, kept) from error
    except pa.ArrowException as error:
        raise unreadable(path, str(error).splitlines()[0]) from error


def _halved(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> UserError:
    """Return the error of a text that ends or begins within a character."""
    for name in columns:
        if half := lone_surrogate(name):
            return UserError(f'"{path}" has half a character ({half}) in the name of a column; write a whole one')
        for number, row in enumerate(rows, start=1):
            if half := lone_surrogate(row.get(name)):
                return UserError(
                    f'"{path}" has half a character ({half}) in row {number}, column {name}; write the whole character '
                    "or remove it"
                )
    return unreadable(path, "a text is not Unicode")


def _of_list(path: Path, text: str) -> list[Row]:
    try:
        rows = _parse(text)
    except RecursionError as error:
        raise UserError(f'"{path}" is nested too deeply for rows of examples; replace the file') from error
    except ValueError as error:
        raise UserError(f'"{path}" cannot be read as JSON ({error}); replace the file') from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f'"{path}" is a list of something else than objects; give one object per row')
    return rows


def _of_lines(path: Path, text: str) -> Iterator[Row]:
    # Not `splitlines`, which also splits at characters that JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _parse(line)
        except RecursionError as error:
            raise unreadable(path, f"line {number} is nested too deeply for a row") from error
        except json.JSONDecodeError as error:
            what = f"line {number}, column {error.colno}: {error.msg}"
            if not line.lstrip().startswith("{"):
                what = f"line {number} does not begin with an object, {{...}}; give one per line"
            raise unreadable(path, what) from error
        except ValueError as error:
            raise unreadable(path, f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise unreadable(path, f"line {number} does not begin with an object, {{...}}; give one per line")
        yield row


def _parse(text: str) -> Any:
    return json.loads(
        text, parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_without_repeats
    )


def _constant(name: str) -> Number | None:
    # Python writes a missing number so.
    return None if name == "NaN" else Number(name)


def _without_repeats(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'an object has "{next(name for name in names if names.count(name) > 1)}" twice')
    return found


def _text_column(path: Path, name: str, values: Sequence[Any]) -> pa.Array:
    """Return a column that a task uses as text: of texts, or of lists of texts."""
    written = [_as_text(value) for value in values]
    kinds: dict[str, int] = {}
    for row, value in enumerate(written, start=1):
        if value is not None:
            kinds.setdefault(_kind(value), row)
    if len(kinds) > 1:
        several = " and ".join(f"a {kind} in row {row}" for kind, row in kinds.items())
        raise UserError(f'"{path}" has {several} of column {name}; write every row in one way')
    return _array(written)


def _as_text(value: Any) -> Any:
    """Return numbers and truth values, and those in lists, by their characters."""
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, Number) else value


def _array(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    return _BY_KIND[kind](values)


def _kind(value: Any) -> str:
    if isinstance(value, Number):
        return "number"
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


def _texts(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    # Of a column of mixed kinds, lists and objects are written as JSON.
    written = [
        str(value) if isinstance(value, str) else None if value is None else json.dumps(value, ensure_ascii=False)
        for value in values
    ]
    return pa.array(written, pa.string())


def _truths(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.bool_())


def _numbers(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    present = [value for value in values if value is not None]
    if all(value.lstrip("-").isdecimal() and len(value) <= 20 and value != "-0" for value in present):
        whole = [None if value is None else int(value) for value in values]
        smallest, largest = min(map(int, present)), max(map(int, present))
        if smallest >= -(2**63) and largest < 2**63:
            return pa.array(whole, pa.int64())
        if smallest >= 0 and largest < 2**64:
            return pa.array(whole, pa.uint64())
    elif all(shortest(float(value)) == value for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return _texts([None if value is None else str(value) for value in values])


def _lists(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    ends, end = [], 0
    for value in values:
        ends.append(None if value is None else end)
        end += len(value or ())
    inner = _array(list(chain.from_iterable(value or () for value in values)))
    return pa.ListArray.from_arrays(pa.array([*ends, end], pa.int32()), inner)


def _objects(values: Sequence[Mapping[str, Any] | None]) -> pa.Array:
    import pyarrow as pa

    names = list(dict.fromkeys(chain.from_iterable(value or () for value in values)))
    if not names:
        return _texts(values)
    inner = [_array([None if value is None else value.get(name) for value in values]) for name in names]
    return pa.StructArray.from_arrays(inner, names, mask=pa.array([value is None for value in values]))


_BY_KIND: dict[str, Callable[[Sequence[Any]], pa.Array]] = {
    "text": _texts,
    "truth value": _truths,
    "number": _numbers,
    "list": _lists,
    "object": _objects,
    "mixed": _texts,
}
