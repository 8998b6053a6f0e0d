"""Reads comma-separated values as text: every cell keeps its characters, nothing is parsed as a number or a date."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import Reads
from parbench.tasks.data.text_files import read_text, unreadable

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_table(path: Path, reads: Reads | None, separator: str = ",") -> pa.Table:
    """Return the columns that ``reads`` names as text; all of them if it is ``None`` or names one that is absent.

    Line breaks inside quotes are text; empty lines are skipped.

    Raises:
        UserError: the file cannot be read, or has a column twice.
    """
    import pyarrow as pa

    rows = _rows(path, read_text(path), separator)
    header = next(rows, None)
    if header is None:
        raise unreadable(path, "it is empty: it has no line with the names of the columns")
    _refuse_separators(path, header)
    kept = wanted_columns(header, reads, path)
    columns: dict[str, list[str]] = {header[place]: [] for place in kept}
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            _refuse_separators(path, header[:1])
            raise unreadable(path, f"row {number} has {len(row)} values, and the file has {len(header)} columns")
        for place in kept:
            columns[header[place]].append(row[place])
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def wanted_columns(names: Sequence[str], reads: Reads | None, path: Path) -> list[int]:
    """Return the places of the columns to read; of all where one is absent, so that an error can list them.

    Raises:
        UserError: one is there twice.
    """
    wanted = None if reads is None else reads.columns(names)
    listed = list(names)
    for name in listed if reads is None else wanted or ():
        if listed.count(name) > 1:
            raise UserError(f'"{path}" has the column "{name}" twice; keep one')
    return [listed.index(name) for name in (dict.fromkeys(listed) if wanted is None else wanted)]


def _rows(path: Path, text: str, separator: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    with _any_length():
        try:
            rows = [row for row in reader if row]
        except csv.Error as error:
            hint = "; a quote inside quotes is written twice" if '"' in str(error) else ""
            if "unexpected end" in str(error):
                hint = ": a quote is opened and not closed"
            raise unreadable(path, f"line {reader.line_num}: {error}{hint}") from error
    return iter(rows)


@contextmanager
def _any_length() -> Iterator[None]:
    """Read cells of any length: Python's reader stops at 128 KiB, which a document exceeds."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _refuse_separators(path: Path, header: Sequence[str]) -> None:
    found = next((name for mark, name in _SEPARATORS.items() if len(header) == 1 and mark in header[0]), None)
    if found:
        raise UserError(f'"{path}" separates its columns by {found}; save it with commas')
