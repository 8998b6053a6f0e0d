"""Leaderboards as Markdown and in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from parbench.reports.extra_tables import OTHER_METRICS_NOTE, RETENTION_NOTE, SUBSETS_NOTE
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.tables import NOTHING, Table

COST_NOTE = (
    "Parameters, time and memory (its peak while training) are the lowest to the highest over the tasks that "
    f"were run; {NOTHING} where nothing was counted or measured."
)
WINS_NOTE = (
    "Tasks on which the row's method is significantly better than the column's, not known to differ from it, and "
    "significantly worse; untested where either has too few runs."
)


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


def markdown(board: Leaderboard) -> str:
    """Return a leaderboard as a section of a Markdown page."""
    protocol = escape(str(board.cells["protocol"].iloc[0]))
    parts = [f"## {escape(board.title)}\n"]
    if board.label:
        parts.append(f"**{escape(board.label)}**\n")
    warnings = [f"- **Warning**: {escape(warning)}\n" for warning in board.warnings]
    parts.append(_bullets(board.facts) + "".join(warnings))
    parts.append(markdown_table(board.scores))
    parts.append(_bullets(board.notes))
    for table in board.subsets:
        parts.append(f"### Subsets of {escape(table.caption)} (protocol {protocol})\n")
        parts.append(markdown_table(table))
    if board.subsets:
        parts.append(_bullets([SUBSETS_NOTE]))
    for table in board.other_metrics:
        parts.append(f"### Other metrics of {escape(table.caption)} (protocol {protocol})\n")
        parts.append(markdown_table(table))
    if board.other_metrics:
        parts.append(_bullets([OTHER_METRICS_NOTE]))
    if board.noise.rows:
        parts.append(f"### Noise floor (protocol {protocol})\n")
        parts.append(markdown_table(board.noise))
        parts.append(_bullets(board.noise_notes))
    parts.append(f"### Over all tasks (protocol {protocol})\n")
    parts.append(markdown_table(board.over_tasks))
    parts.append(_bullets(board.over_tasks_notes))
    if len(board.wins.rows) > 1:
        parts.append(f"### Wins/ties/losses of each method against each other (protocol {protocol})\n")
        parts.append(markdown_table(board.wins))
        parts.append(_bullets([WINS_NOTE]))
    if board.retention.rows:
        parts.append(f"### What is forgotten of general text (protocol {protocol})\n")
        parts.append(markdown_table(board.retention))
        parts.append(_bullets([RETENTION_NOTE]))
    parts.append(f"### Parameters and cost (protocol {protocol})\n")
    parts.append(markdown_table(board.costs))
    parts.append(_bullets([COST_NOTE]))
    return "\n".join(parts)


def _bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {escape(sentence)}\n" for sentence in sentences)


@dataclass(frozen=True)
class TerminalLeaderboard:
    """A leaderboard for `rich.console.Console.print`; wide tables are cut between columns."""

    board: Leaderboard

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        board = self.board
        yield Text(one_line(board.title), style="bold")
        if board.label:
            yield Text(one_line(board.label), style="bold yellow")
        for fact in board.facts:
            yield Text(one_line(fact), style="dim")
        for warning in board.warnings:
            yield Text(f"Warning: {one_line(warning)}", style="yellow")
        yield from terminal_tables((board.scores, board.costs), console, options)
        for note in (*board.notes, *board.noise_notes, COST_NOTE):
            yield Text(one_line(note), style="dim")


def terminal_tables(tables: Sequence[Table], console: Console, options: ConsoleOptions) -> RenderResult:
    """Yield tables for a terminal, cut between columns where they are wide, or as lists where it is too narrow."""
    pieces = [_pieces(table, console, options) for table in tables]
    if all(pieces):
        yield from (piece for table in pieces for piece in table or ())
    else:
        yield from (line for table in tables for line in _lines(table))


def _pieces(table: Table, console: Console, options: ConsoleOptions) -> list[RichTable] | None:
    """Return the table in few pieces that fit, each with the first column; ``None`` if there are none."""
    pieces: list[list[int]] = []
    for column in range(1, len(table.head)):
        if pieces and _fits(table, [*pieces[-1], column], console, options):
            pieces[-1].append(column)
        elif _fits(table, [column], console, options):
            pieces.append([column])
        else:
            return None
    return [_piece(table, piece) for piece in pieces]


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
            yield Padding(Text(f"{one_line(head)}: {one_line(cell)}"), (0, 0, 0, 2))
