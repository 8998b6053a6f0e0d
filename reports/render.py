"""Tables and text as Markdown and in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from parbench.reports.tables import Table


def one_line(text: str) -> str:
    """Return text in which what cannot be printed (line breaks, terminal codes) is written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, in one line, in a table's cell too."""
    text = re.sub(r"([\\`*\[\]<>&|~$])", r"\\\1", one_line(text))
    # Inside a word an underscore means nothing, and names such as matthews_correlation should stay readable.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def markdown_table(table: Table, rule: str = "---:") -> str:
    """Return a Markdown table; ``rule`` aligns all but the first column, by default to the right."""
    rows = [
        [f"**{escape(text)}**" if (number, place) in table.bold else escape(text) for place, text in enumerate(row)]
        for number, row in enumerate(table.rows)
    ]
    head = [escape(text) for text in table.head]
    lines = [head, ["---", *[rule] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True)
class TerminalTables:
    """Tables for `rich.console.Console.print`: split between columns where wide, lists where the terminal is narrow."""

    tables: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from terminal_tables(self.tables, console, options)


def terminal_tables(tables: Sequence[Table], console: Console, options: ConsoleOptions) -> RenderResult:
    """Yield tables for a terminal, cut between columns where they are wide, or as lists where it is too narrow."""
    pieces = [_pieces(table, console, options) for table in tables]
    fits = all(pieces)
    for table, parts in zip(tables, pieces, strict=True):
        if table.caption:
            yield Text(one_line(table.caption), style="bold")
        yield from (parts or ()) if fits else _lines(table)


def first_columns(table: Table, console: Console, options: ConsoleOptions) -> Table:
    """Return the first columns of a table, as many as fit side by side; the whole table where not even three do."""
    pieces = _column_pieces(table, console, options)
    if not pieces or len(pieces[0]) < 2:
        return table
    kept = [0, *pieces[0]]
    rows = tuple(tuple(row[column] for column in kept) for row in table.rows)
    return Table(tuple(table.head[column] for column in kept), rows, caption=table.caption)


def _pieces(table: Table, console: Console, options: ConsoleOptions) -> list[RichTable] | None:
    """Return the table in few pieces that fit, each with the first column; ``None`` if there are none."""
    pieces = _column_pieces(table, console, options)
    return None if pieces is None else [_piece(table, piece) for piece in pieces]


def _column_pieces(table: Table, console: Console, options: ConsoleOptions) -> list[list[int]] | None:
    """Return the columns of each of few pieces that fit beside the first column; ``None`` if there are none."""
    pieces: list[list[int]] = []
    for column in range(1, len(table.head)):
        if pieces and _fits(table, [*pieces[-1], column], console, options):
            pieces[-1].append(column)
        elif _fits(table, [column], console, options):
            pieces.append([column])
        else:
            return None
    return pieces


def _fits(table: Table, columns: list[int], console: Console, options: ConsoleOptions) -> bool:
    unbounded = options.update(max_width=10_000)
    return Measurement.get(console, unbounded, _piece(table, columns)).maximum <= options.max_width


def _piece(table: Table, columns: list[int]) -> RichTable:
    piece = RichTable(box=SIMPLE_HEAD)
    piece.add_column(Text(one_line(table.head[0])), no_wrap=True)
    for column in columns:
        head = one_line(table.head[column]).replace(" (", "\n(")
        piece.add_column(Text(head), no_wrap=True, justify="right")
    for row in table.rows:
        piece.add_row(*(Text(one_line(row[column])) for column in (0, *columns)))
    return piece


def _lines(table: Table) -> Iterator[Text | Padding]:
    for name, *cells in table.rows:
        yield Text(f"\n{one_line(name)}", style="bold")
        for head, cell in zip(table.head[1:], cells, strict=True):
            # Not expanded: in a pipe, whose lines have no width, it would be filled with spaces.
            yield Padding(Text(f"{one_line(head)}: {one_line(cell)}"), (0, 0, 0, 2), expand=False)
