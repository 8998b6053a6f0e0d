"""Tables for terminals of any width: they are split between columns where they are wide, and cells are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# Below this a column of sentences is not wrapped but moved into a further part of the table.
_NARROWEST_SENTENCES = 24
_UNBOUNDED = 100_000


@dataclass(frozen=True)
class Grid:
    """Text in rows and columns, to be printed by `rich.console.Console.print`.

    A table that is too wide is printed in parts, each with the columns that name the rows; where not even one column
    fits beside those, each row becomes a list of ``title: cell`` lines.

    Attributes:
        titles: of the columns.
        rows: one text per column.
        title: of the whole table.
        names: number of columns, from the left, that name a row.
        sentences: titles of columns whose cells may be wrapped between words.
        numbers: titles of columns that are aligned to the right.
    """

    titles: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    title: str = ""
    names: int = 1
    sentences: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        parts = self._parts(console, options)
        if parts is None:
            yield from self._lines()
            return
        for columns in parts:
            yield self._table(columns)

    def _parts(self, console: Console, options: ConsoleOptions) -> list[list[int]] | None:
        """Return the columns of each part, or ``None`` if a column does not fit beside the names."""
        names = list(range(self.names))
        parts: list[list[int]] = []
        for column in range(self.names, len(self.titles)):
            if parts and self._fits([*parts[-1], column], console, options):
                parts[-1].append(column)
            elif self._fits([*names, column], console, options):
                parts.append([*names, column])
            else:
                return None
        if not parts:
            return [names] if self._fits(names, console, options) else None
        return parts

    def _fits(self, columns: list[int], console: Console, options: ConsoleOptions) -> bool:
        narrow = self._table(columns, width=_NARROWEST_SENTENCES)
        return Measurement.get(console, options.update(max_width=_UNBOUNDED), narrow).maximum <= options.max_width

    def _table(self, columns: list[int], width: int | None = None) -> Table:
        """Return some of the columns; those of sentences at most ``width`` wide, if it is given."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            title = self.titles[column]
            is_wrapped = title in self.sentences
            table.add_column(
                Text(title),
                no_wrap=not is_wrapped,
                max_width=width if is_wrapped else None,
                justify="right" if title in self.numbers else "left",
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(row[column]) for column in columns))
        return table

    def _lines(self) -> RenderResult:
        for row in self.rows:
            yield Text(" ".join(row[: self.names]), style="bold", overflow="fold")
            for title, cell in zip(self.titles[self.names :], row[self.names :], strict=True):
                yield Padding(Text(f"{title}: {cell}", overflow="fold"), (0, 0, 0, 2))
