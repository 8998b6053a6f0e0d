"""Leaderboards as Markdown and in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from parbench.reports.consistency import CONSISTENCY_NOTE
from parbench.reports.detectable import DETECTABLE_NOTE
from parbench.reports.extra_tables import OTHER_METRICS_NOTE, RETENTION_NOTE, SUBSETS_NOTE
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.render import escape, markdown_table, one_line, terminal_tables
from parbench.reports.tables import NOTHING

COST_NOTE = (
    "Parameters, time and memory (its peak while training) are the lowest to the highest over the tasks that "
    f"were run; {NOTHING} where nothing was counted or measured."
)


WINS_NOTE = (
    "Tasks on which the row's method is significantly better than the column's, not known to differ from it, and "
    "significantly worse; untested where either has too few runs or did not learn."
)


def markdown(board: Leaderboard, labelled: bool = True, figure: str | None = None) -> str:
    """Return a leaderboard as a section of a Markdown page.

    Args:
        board: the leaderboard.
        labelled: whether its label stands here; else it stands at the top of the page.
        figure: the path of its forest plot, if there is one.
    """
    protocol = escape(str(board.cells["protocol"].iloc[0]))
    parts = [f"## {escape(board.title)}\n"]
    if board.label and labelled:
        parts.append(f"**{escape(board.label)}**\n")
    parts += [f"{escape(' '.join(board.conditions))}\n"] if board.conditions else []
    parts += [f"{escape(sentence)}\n" for sentence in board.verdict]
    warnings = [f"- **Warning**: {escape(warning)}\n" for warning in board.warnings]
    parts.append(_bullets(board.facts) + "".join(warnings))
    parts += [f"![Differences to {escape(str(board.baseline))}]({figure})\n"] if figure else []
    parts += [f"**{escape(board.sizes)}**\n"] if board.sizes else []
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
    if board.over_tasks.rows:
        parts.append(f"### Over all tasks (protocol {protocol})\n")
        parts.append(markdown_table(board.over_tasks))
        parts.append(_bullets(board.over_tasks_notes))
    if len(board.wins.rows) > 1:
        parts.append(f"### Wins/ties/losses of each method against each other (protocol {protocol})\n")
        parts.append(markdown_table(board.wins))
        parts.append(_bullets([WINS_NOTE]))
    if board.detectable.rows:
        parts.append(f"### What each comparison could have seen (protocol {protocol})\n")
        parts.append(markdown_table(board.detectable))
        parts.append(_bullets([DETECTABLE_NOTE]))
    if board.consistency.rows:
        parts.append(f"### Predictions that differ between seeds (protocol {protocol})\n")
        parts.append(markdown_table(board.consistency))
        parts.append(_bullets([CONSISTENCY_NOTE]))
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
        for sentence in board.verdict:
            yield Text(f"• {one_line(sentence)}")
        for fact in board.facts:
            yield Text(one_line(fact), style="dim")
        for warning in board.warnings:
            yield Text(f"Warning: {one_line(warning)}", style="yellow")
        yield from terminal_tables((board.scores, board.costs), console, options)
        for note in (*board.notes, *board.noise_notes, COST_NOTE):
            yield Text(one_line(note), style="dim")
