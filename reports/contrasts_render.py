"""Contrasts as tables: in Markdown and in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from parbench.reports.contrasts import Contrasts
from parbench.reports.render import escape, markdown_table, one_line, terminal_tables
from parbench.reports.tables import Table


def markdown(contrasts: Contrasts) -> str:
    """Return a comparison as a Markdown page."""
    parts = [f"# {escape(contrasts.a)} against {escape(contrasts.b)}\n"]
    for board, label, table in _by_board(contrasts):
        parts.append(f"## {escape(board)}\n")
        if label:
            parts.append(f"**{escape(label)}**\n")
        parts.append(markdown_table(table))
    parts.append("".join(f"- {escape(note)}\n" for note in contrasts.notes))
    if contrasts.differences:
        parts.append("## What was not the same\n")
        parts.append(markdown_table(contrasts.specs, rule="---"))
    return "\n".join(parts)


@dataclass(frozen=True)
class TerminalContrasts:
    """A comparison for `rich.console.Console.print`."""

    contrasts: Contrasts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for board, label, table in _by_board(self.contrasts):
            yield Text(one_line(board), style="bold")
            if label:
                yield Text(one_line(label), style="bold yellow")
            yield from terminal_tables([table], console, options)
        for note in self.contrasts.notes:
            yield Text(one_line(note), style="dim")
        if self.contrasts.differences:
            yield from terminal_tables([self.contrasts.specs], console, options)


def _by_board(contrasts: Contrasts) -> Iterator[tuple[str, str | None, Table]]:
    for board, label in dict.fromkeys((contrast.board, contrast.label) for contrast in contrasts.contrasts):
        own = tuple(one for one in contrasts.contrasts if (one.board, one.label) == (board, label))
        yield board, label, replace(contrasts, contrasts=own).scores
