"""Leaderboards as LaTeX tables for a paper; they need ``\\usepackage{booktabs,graphicx}`` and nothing else."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from parbench.reports.differences_table import differences_note, differences_table
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.leaderboard_render import COST_NOTE
from parbench.reports.render import one_line
from parbench.reports.settings_table import SETTINGS_NOTE
from parbench.reports.tables import Table

PREAMBLE = "% In the preamble: \\usepackage{booktabs,graphicx}.\n"

# Values that differ between tasks are as long as a line.
SETTINGS_COLUMNS = "llp{0.4\\linewidth}lr"
LETTERS_OF_CELL = 30  # in a line of such a column
# A table wider than the text is made smaller.
FITTED = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{"
# Of a page: its lines of a table, fewer by those of a caption, each of so many letters.
LINES_OF_PAGE, LEAST_LINES, LETTERS_OF_LINE = 44, 8, 80

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "\\textquotedblright{}",
    "'": "{'}",  # two of either would be a double quote
    "`": "{`}",
    "[": "{[}",  # or it is the argument of a preceding \\
    "]": "{]}",
    "±": "$\\pm$",
    "—": "---",
    "†": "$\\dagger$",
    "-": "{-}",  # two of them would be a dash
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING CARON}": "v ",
    "\N{COMBINING CEDILLA}": "c ",
}


def escape(text: str) -> str:
    """Return text that every LaTeX prints unchanged; characters that its fonts may lack become their code point."""
    return "".join(_letter(character) for character in one_line(text))


def latex(boards: Iterable[Leaderboard]) -> str:
    """Return one ``table`` per leaderboard; protocol, budget, n and the label of small suites are in its caption."""
    return _file(
        part
        for number, board in enumerate(boards, start=1)
        for part in _tables(board, board.scores, board.notes, f"leaderboard-{number}")
    )


def latex_differences(boards: Iterable[Leaderboard]) -> str:
    """Return one ``table`` per leaderboard: the difference of each method to the baseline on each task."""
    return _file(
        part
        for number, board in enumerate(boards, start=1)
        if board.baseline is not None
        for part in _tables(board, differences_table(board), [differences_note(board)], f"differences-{number}")
    )


def latex_costs(boards: Iterable[Leaderboard]) -> str:
    """Return one ``table`` per leaderboard: parameters, time and memory."""
    return _file(
        part
        for number, board in enumerate(boards, start=1)
        for part in _tables(board, board.costs, [COST_NOTE], f"costs-{number}")
    )


def latex_settings(boards: Iterable[Leaderboard]) -> str:
    """Return one ``table`` per leaderboard: hyper-parameters, with what was tried and in how many trials."""
    return _file(
        part
        for number, board in enumerate(boards, start=1)
        for part in _tables(board, board.settings, [SETTINGS_NOTE], f"settings-{number}", SETTINGS_COLUMNS)
    )


def _file(tables: Iterable[str]) -> str:
    return PREAMBLE + "".join(f"\n{table}" for table in tables)


def _tables(
    board: Leaderboard, table: Table, notes: Sequence[str], label: str, columns: str | None = None
) -> Iterator[str]:
    """Yield a table, in several parts where it would be longer than a page; the notes are below the first of them."""
    head, *rows = _lines(table)
    caption = _caption(board, notes)
    room = max(LEAST_LINES, LINES_OF_PAGE - math.ceil(len(caption) / LETTERS_OF_LINE))
    heights = [_height(row) if columns else 1 for row in table.rows]
    parts: list[list[str]] = [[]]
    used = 0
    for row, height in zip(rows, heights, strict=True):
        if parts[-1] and used + height > room:
            parts.append([])
            used = 0
        parts[-1].append(row)
        used += height
    layout = columns or "l" + "r" * (len(table.head) - 1)
    for number, part in enumerate(parts, start=1):
        place = f" Part {number} of {len(parts)}." if len(parts) > 1 else ""
        words = caption if number == 1 else _caption(board, [])
        yield _table(head, part, words + place, label if number == 1 else f"{label}-{number}", layout)


def _height(row: Sequence[str]) -> int:
    """Return how many lines a row takes where a column breaks its text."""
    return max(1, *(math.ceil(len(text) / LETTERS_OF_CELL) for text in row))


def _table(head: str, rows: Sequence[str], caption: str, label: str, columns: str) -> str:
    lines = [
        "\\begin{table}",
        "\\centering",
        "\\small",
        f"\\caption{{{escape(caption)}}}",
        f"\\label{{tab:{label}}}",
        f"{FITTED}\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        head,
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _lines(table: Table) -> list[str]:
    cells = [[escape(text) for text in table.head]]
    for number, row in enumerate(table.rows):
        cells.append([_cell(text, (number, place) in table.bold) for place, text in enumerate(row)])
    return [f"{' & '.join(line)} \\\\" for line in cells]


def _cell(text: str, bold: bool) -> str:
    # A number's minus is as long as its plus, and no hyphen.
    minus, text = ("$-$", text[1:]) if re.match(r"-\d", text) else ("", text)
    # Unequal distances to the ends of an interval stand below and above the line, as is usual.
    ends = re.search(r" -([\d.]+)/\+([\d.]+)", text)
    if ends:
        below, above = ends.groups()
        written = f"{minus}{escape(text[: ends.start()])} $_{{-{below}}}^{{+{above}}}${escape(text[ends.end() :])}"
    else:
        written = minus + escape(text)
    return f"\\textbf{{{written}}}" if bold else written


def _caption(board: Leaderboard, notes: Iterable[str]) -> str:
    counts = board.cells.loc[board.cells["n_ok"] > 0, "n_ok"]
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    label = [f"{board.label}."] if board.label else []
    sizes = [board.sizes] if board.sizes else []
    sentences = [f"{board.title}.", *label, f"{n} runs a cell.", *board.conditions, *sizes, *notes]
    return " ".join(sentences)


def _letter(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    decomposed = unicodedata.normalize("NFD", character)
    letter, marks = decomposed[0], decomposed[1:]
    if letter.isascii() and letter.isalpha() and marks in _ACCENTS:
        base = {"i": "\\i", "j": "\\j"}.get(letter, letter)
        return f"\\{_ACCENTS[marks]}{{{base}}}"
    return f"U+{ord(character):04X}"
