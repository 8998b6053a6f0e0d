"""Tables at every width: no digit is cut, no row is lost."""

import io
import re

import pytest
from rich.console import Console

from parbench.bench.cli.console import open_console
from parbench.bench.cli.grid import Grid

ROWS = [
    (f"method-{row}", *(str(10**column + row) for column in range(9)), f"a reason of words {row}") for row in range(3)
]
GRID = Grid(
    ("method", *(f"n{column}" for column in range(9)), "reason"),
    ROWS,
    title="Numbers",
    numbers=frozenset(f"n{column}" for column in range(9)),
    sentences=frozenset({"reason"}),
)


def printed(grid, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(grid)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [14, 20, 30, 40, 60, 80, 120, 1000])
def test_every_cell_is_there_whole_at_every_width(width):
    text = printed(GRID, width)
    assert "…" not in text
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    # Words may be wrapped between lines, numbers not: where nothing fits beside a name, each cell is a line.
    for row in ROWS:
        for number in row[1:-1]:
            assert re.search(rf"(?<!\d){number}(?!\d)", text), number


def test_a_wide_table_is_one_table_and_a_narrow_one_repeats_the_names():
    assert printed(GRID, 1000).count("method-0") == 1
    assert printed(GRID, 40).count("method-0") > 1
    assert printed(GRID, 1000).splitlines()[2].split() == [*ROWS[0][:-1], *ROWS[0][-1].split()]


def test_sentences_are_wrapped_between_words():
    words = "many words that do not fit into a line of forty letters"
    grid = Grid(("name", "what"), [("a", words)], sentences=frozenset({"what"}))
    lines = printed(grid, 40).splitlines()
    assert len(lines) > 2
    assert " ".join(" ".join(lines[1:]).split()[1:]) == words


def test_control_characters_and_markup_are_text():
    assert "[bold]x[/bold]" in printed(Grid(("name",), [("[bold]x[/bold]",)]), 80)


def test_a_pipe_has_the_full_width(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = Grid(("name", "value"), [("x" * 200, "1" * 200)])
    open_console().print(wide)
    assert f"{'x' * 200}  {'1' * 200}" in capsys.readouterr().out
