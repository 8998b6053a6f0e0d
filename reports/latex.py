"""Leaderboards as LaTeX tables for a paper; they need ``\\usepackage{booktabs}`` and nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from parbench.reports.leaderboard import Leaderboard
from parbench.reports.render import one_line
from parbench.reports.tables import Table

PREAMBLE = "% In the preamble: \\usepackage{booktabs}. With pdfLaTeX before 2018 also \\usepackage[utf8]{inputenc}.\n"

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
    return PREAMBLE + "".join(f"\n{_table(number, board)}" for number, board in enumerate(boards, start=1))


def _table(number: int, board: Leaderboard) -> str:
    head, *rows = _lines(board.scores)
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape(_caption(board))}}}",
        f"\\label{{tab:leaderboard-{number}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(board.scores.head) - 1)}}}",
        "\\toprule",
        head,
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
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


def _caption(board: Leaderboard) -> str:
    counts = board.cells.loc[board.cells["n_ok"] > 0, "n_ok"]
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    label = [f"{board.label}."] if board.label else []
    sizes = [board.sizes] if board.sizes else []
    sentences = [f"{board.title}.", *label, f"{n} runs a cell.", *board.conditions, *sizes, *board.notes]
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
