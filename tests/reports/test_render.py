"""Markdown and the terminal show what the table holds, whatever it holds."""

from __future__ import annotations

import io
import re
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console

from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.leaderboard_render import TerminalLeaderboard, markdown
from parbench.reports.render import escape, markdown_table, one_line
from parbench.reports.tables import SMALL_LABEL, Table
from parbench.tasks.averages import Average
from tests.support.markdown import HOSTILE, parsed_tables


def terminal(board: Any, width: int) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, force_terminal=False, color_system=None).print(TerminalLeaderboard(board))
    return buffer.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_markdown_reader_sees_the_name_and_no_markup(name: str) -> None:
    table = Table(("method", name), ((name, "1"), ("lora", name)))
    shown = one_line(name).strip()
    assert parsed_tables(markdown_table(table)) == [[["method", shown], [shown, "1"], ["lora", shown]]]


def test_ordinary_names_are_not_escaped() -> None:
    for name in ("glue/cola (matthews_correlation)", "e2e_nlg", "81.2 ± 0.4 (n=2, 1 diverged)", "—"):
        assert escape(name) == name


def test_one_line_escapes_what_cannot_be_printed() -> None:
    assert one_line("a\nb\x1b[2J\u202e") == "a\\nb\\x1b[2J\\u202e"


def test_a_hostile_leaderboard_keeps_its_tables(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "parbench.reports.averages.AVERAGES", {"glue": [Average(name, ("glue/cola",), fmean) for name in HOSTILE]}
    )
    for method in HOSTILE:
        planter.run(0.5, method=method, small=True, others=dict.fromkeys(HOSTILE, 0.5))
    (board,) = leaderboards(read_frame(planter.store))
    text = markdown(board)
    scores, others, over_tasks, wins, costs = parsed_tables(text)
    shown = [one_line(name).strip() for name in HOSTILE]
    # The one among them that ranks has its place in the scores.
    assert {head.removesuffix(" (as is)").strip() for head in others[0]} == {"method", *shown} - {
        "matthews_correlation"
    }
    assert {len(row) for row in others} == {len(HOSTILE)}
    # Of one task there is no plain average.
    assert over_tasks[0] == ["method", *(f"glue: {name}" for name in shown), "interquartile mean", "mean rank"]
    assert {len(row) for row in over_tasks} == {len(HOSTILE) + 3}
    assert {len(row) for row in wins} == {len(HOSTILE) + 1}
    assert [row[0] for row in scores[1:]] == [one_line(row[0]).strip() for row in board.scores.rows]
    assert {len(row) for row in scores} == {len(board.scores.head)}
    assert {len(row) for row in costs} == {len(board.costs.head)}
    assert SMALL_LABEL in text


def test_warnings_and_facts_are_in_the_page(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, seed=1, data_revision="data-2")
    (board,) = leaderboards(read_frame(planter.store))
    assert "- **Warning**: mixed revisions: data of glue/cola: data-1 (1 run), data-2 (1 run)." in markdown(board)
    assert "Warning: mixed revisions: data of glue/cola" in terminal(board, 120)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_no_terminal_is_too_narrow(planted: Any, width: int) -> None:
    (board,) = leaderboards(read_frame(planted.store))
    text = terminal(board, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    shown = re.sub(r"\s+", "", text)
    for table in (board.scores, board.costs):
        for cell in {cell for row in table.rows for cell in row}:
            assert re.sub(r"\s+", "", cell) in shown


@pytest.mark.parametrize("width", [80, 120, 200])
def test_cells_are_not_broken_where_a_table_fits(planted: Any, width: int) -> None:
    (board,) = leaderboards(read_frame(planted.store))
    text = terminal(board, width)
    for row in board.scores.rows:
        assert all(cell in text for cell in row)
    # The columns after the first may be in several pieces, but each row of a piece begins with the row's name.
    rows = [line for line in text.splitlines() if "diverged)" in line or "(n=3)" in line]
    assert all(line.split()[0] in ("lora", "vera") for line in rows)


def test_the_terminal_gets_no_codes_from_names(planter: Any) -> None:
    for method in HOSTILE:
        planter.run(0.5, method=method, small=True)
    (board,) = leaderboards(read_frame(planter.store))
    text = terminal(board, 250)
    assert "\x1b" not in text
    assert "[red]markup[/red] :smile:" in text
    assert SMALL_LABEL in text
