"""The result in a terminal: conditions, verdict and one table of at most 100 columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderResult
from rich.constrain import Constrain
from rich.text import Text

from parbench.reports.columns import Standing
from parbench.reports.conditions import DAGGER, UNTUNED_NOTE
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.costs_table import count_range
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.render import first_columns, one_line, terminal_tables
from parbench.reports.rows import COLUMN, WITH_MODEL
from parbench.reports.tables import NOT_RUN, NOTHING, Table, unit_of

WIDTH = 100
BEST = "*"


@dataclass(frozen=True)
class BriefLeaderboard:
    """A leaderboard for `rich.console.Console.print`: what a reader needs first."""

    board: Leaderboard

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(max_width=min(WIDTH, options.max_width))
        for text, style in _texts(self.board):
            yield Constrain(Text(one_line(text), style=style), WIDTH)
        table = brief_table(self.board)
        shown = first_columns(table, console, options)
        yield from terminal_tables([shown], console, options)
        yield Constrain(Text(" ".join(_legend(shown, len(table.head) - len(shown.head))), style="dim"), WIDTH)


def _texts(board: Leaderboard) -> Iterator[tuple[str, str]]:
    """Yield what stands above the table, with its style."""
    yield board.title, "bold"
    if board.label:
        yield board.label, "bold yellow"
    if board.conditions:
        yield " ".join(board.conditions), "dim"
    yield from ((f"- {sentence}", "") for sentence in board.verdict)
    yield from ((f"Warning: {warning}", "yellow") for warning in board.warnings)
    if board.sizes:
        yield board.sizes, "yellow"


def brief_table(board: Leaderboard) -> Table:
    """Return methods against tasks, each score as short as it can be."""
    columns = [(str(column), str(metric), cells) for (column, metric), cells in board.cells.groupby(COLUMN)]
    heads = [_head(column, metric, cells) for column, metric, cells in columns]
    rows = []
    for name in (row[0] for row in board.scores.rows):
        own = board.cells[board.cells["row"] == name]
        texts = [name, count_range(own["ledger/reported"])]
        for column, metric, _ in columns:
            cell = own[(own["column"] == column) & (own["metric"] == metric)]
            ranked = board.ranking.columns.get((column, metric))
            texts.append(_score(cell, ranked.standings.get(name) if ranked else None))
        rows.append(tuple(texts))
    return Table(("method", "parameters", *heads), tuple(rows))


def _head(column: str, metric: str, cells: pd.DataFrame) -> str:
    """Return the head of a task's column, which the terminal breaks before each bracket."""
    model = str(cells["base_model"].iloc[0])
    task = column.removesuffix(f"{WITH_MODEL}{model}")
    unit = unit_of(cells).mark.removeprefix(", ")
    return "".join([task, f" ({model})" if task != column else "", f" ({metric})", f" ({unit})" if unit else ""])


def _score(cell: pd.DataFrame, standing: Standing | None) -> str:
    if cell.empty:
        return NOT_RUN
    if standing is None:
        return str(cell["failed"].iloc[0]) or NOTHING
    if not standing.learnt:
        return DID_NOT_LEARN
    found, unit = standing.estimate, unit_of(cell)
    text = unit.text(found.mean)
    if found.interval:
        text += f" ±{unit.text(max(found.mean - found.interval.low, found.interval.high - found.mean))}"
    return text + (BEST if standing.best else "") + (DAGGER if cell["untuned"].iloc[0] else "")


def _legend(table: Table, more: int) -> Iterator[str]:
    cells = [text for row in table.rows for text in row[2:]]
    if any("±" in text for text in cells):
        yield "±: the farther end of the 95 % interval."
    if any(BEST in text for text in cells):
        yield f"{BEST}: no method is shown to be better, and some method is worse."
    if any(text.endswith(DAGGER) for text in cells):
        yield UNTUNED_NOTE
    if more:
        yield f"Not shown, for want of width: {more} more {'column' if more == 1 else 'columns'}."
    yield "Everything: bench report --full, and the page."
