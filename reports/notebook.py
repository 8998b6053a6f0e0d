"""Leaderboards in a notebook: the verdict, the forest plot and the scores."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from markupsafe import escape

from parbench.reports.figures.forest import forests
from parbench.reports.figures.style import Picture
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.render import one_line
from parbench.reports.tables import Table


def boards_html(boards: Sequence[Leaderboard]) -> str:
    """Return leaderboards as HTML for the output of a notebook's cell; every text is escaped."""
    drawn = [forest.wide for forest in forests(boards)]
    pictures = [picture if isinstance(picture, Picture) else None for picture in drawn]
    every = [*pictures, *[None] * (len(boards) - len(pictures))]
    return "\n".join(part for board, picture in zip(boards, every, strict=True) for part in _parts(board, picture))


def _parts(board: Leaderboard, picture: Picture | None) -> Iterator[str]:
    yield f"<h4>{_text(board.title)}</h4>"
    if board.label:
        yield f"<p><strong>{_text(board.label)}</strong></p>"
    yield f"<p>{_text(' '.join(board.conditions))}</p>"
    yield f"<ul>{''.join(f'<li>{_text(sentence)}</li>' for sentence in board.verdict)}</ul>"
    yield from (f"<p><strong>Warning</strong>: {_text(warning)}</p>" for warning in board.warnings)
    if picture:
        uri = base64.b64encode(picture.svg).decode()
        alt = f"Differences to {_text(str(board.baseline))} on each task"
        yield f'<img src="data:image/svg+xml;base64,{uri}" alt="{alt}" style="max-width: 100%; background: #fff">'
    if board.sizes:
        yield f"<p><strong>{_text(board.sizes)}</strong></p>"
    yield _table(board.scores)
    yield f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in board.notes)}</ul>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(text)}</th>' for text in table.head)
    body = "".join(f"<tr>{''.join(_cells(row, number, table))}</tr>" for number, row in enumerate(table.rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Sequence[str], number: int, table: Table) -> Iterator[str]:
    yield f'<th scope="row">{_text(row[0])}</th>'
    for place, text in enumerate(row[1:], start=1):
        shown = _text(text)
        yield f"<td>{f'<strong>{shown}</strong>' if (number, place) in table.bold else shown}</td>"


def _text(text: str) -> str:
    return str(escape(one_line(text)))
