"""What an interactive figure is made from, and what all of them share.

A view is a Vega-Lite view specification with its data. The page's script lays the views out for the width of the
window, and gives the parameters that the views name: the colours ``ink``, ``soft``, ``back``, ``better`` and
``worse``, the methods that are ``hidden``, and the name of the field that ``cost`` is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.reports.columns import Standing
from parbench.reports.conditions import DAGGER
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.figures.style import looks_of
from parbench.reports.tables import NOTHING, Table, with_interval
from parbench.tasks.metrics.units import Unit

View = dict[str, Any]

ROW_STEP, PANEL_HEIGHT = 20, 200  # pixels: of a method's line, of a panel of points
MOST_VIEWS = 24  # of a chart
MOST_LETTERS = 300  # of a setting
MOST_RUNS = 8  # named where a point is hovered

# The static figures that a chart of a kind stands for.
REPLACED: Mapping[str, Sequence[str]] = {
    "differences": (),
    "costs": ("score_vs_parameters", "score_vs_memory", "score_vs_step_time"),
    "trials": ("score_vs_trials",),
}

# Of matplotlib's markers; those that Vega does not name, as SVG paths in the square from -1 to 1.
_SHAPES = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "<": "triangle-left",
    ">": "triangle-right",
    "X": "M-1,-0.6L-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0Z",
    "p": "M0,-1L0.95,-0.31L0.59,0.81L-0.59,0.81L-0.95,-0.31Z",
    "*": "M0,-1L0.22,-0.31L0.95,-0.31L0.36,0.12L0.59,0.81L0,0.38L-0.59,0.81L-0.36,0.12L-0.95,-0.31L-0.22,-0.31Z",
}
SHOWN = "indexof(hidden, datum.method) < 0"
LEGEND: Mapping[str, Any] = {"orient": "bottom", "title": None, "symbolLimit": 0, "labelLimit": 220}


@dataclass(frozen=True)
class Chart:
    """An interactive figure.

    Attributes:
        name: its id in the page, such as ``chart-1-differences``.
        kind: one of `REPLACED`.
        title: what it shows, also for those who cannot see it.
        views: side by side, as many as fit.
        table: the same numbers.
        caption: how to read it.
        aside: a view that stands at the right of the first views, or below all where the window is narrow.
        choices: by name what the horizontal axis may be: the encoding of ``x``.
        label_letters: the length of the longest name at the left of a view, 0 where there are none.
    """

    name: str
    kind: str
    title: str
    views: Sequence[View]
    table: Table
    caption: str
    aside: View | None = None
    choices: Mapping[str, View] | None = None
    label_letters: int = 0

    def content(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        return {
            "views": list(self.views),
            "aside": self.aside,
            "choices": dict(self.choices) if self.choices else None,
            "letters": self.label_letters,
        }


@dataclass(frozen=True)
class Palette:
    """The names of the methods in all charts of a page, with their colours and shapes.

    Attributes:
        names: by method, how it is called.
    """

    names: Mapping[str, str]

    @classmethod
    def of(cls, runs: pd.DataFrame) -> Palette:
        """Return the palette of some runs: a method with one row is called as the row is."""
        names = {}
        for method, rows in runs.groupby("method")["row"]:
            distinct = list(rows.unique())
            names[str(method)] = str(distinct[0]) if len(distinct) == 1 else str(method)
        return cls(names)

    def colour(self) -> View:
        """Return the encoding of colour."""
        looks = looks_of(self.names)
        return self._encoding([looks[method].colour for method in self.names])

    def shape(self) -> View:
        """Return the encoding of shape."""
        looks = looks_of(self.names)
        return self._encoding([_SHAPES[looks[method].marker] for method in self.names])

    def _encoding(self, values: list[str]) -> View:
        scale = {"domain": list(self.names.values()), "range": values}
        return {"field": "method", "type": "nominal", "scale": scale, "legend": dict(LEGEND)}


def data_of(values: Sequence[Mapping[str, Any]]) -> View:
    """Return data as they are, of which no text is taken for a number or a date."""
    return {"values": list(values), "format": {"parse": None}}


def title_of(lines: Sequence[str]) -> View:
    """Return the title of a view."""
    return {"text": list(lines), "anchor": "start", "limit": 260}


def score_text(cell: Any, unit: Unit, standing: Standing | None) -> str:
    """Return the score of a cell with its interval and the number of its runs."""
    if standing is None:
        return str(cell["failed"]) or NOTHING
    ends = standing.estimate.interval
    text = with_interval(unit, standing.estimate.mean, *((ends.low, ends.high) if ends else (None, None)))
    remarks = [f"n = {cell['n_ok']}", *([] if standing.learnt else [DID_NOT_LEARN])]
    return f"{text}{DAGGER if cell['untuned'] else ''} ({', '.join(remarks)})"


def setting_text(setting: str) -> str:
    """Return a setting, which is JSON, as ``rank = 8, learning_rate = 0.001``."""
    pairs = (f"{name} = {value}" for name, value in json.loads(setting).items() if value not in (None, [], {}))
    text = ", ".join(pairs)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"


def hover_lines(cell: Any, unit: Unit, standing: Standing | None, runs: Sequence[str]) -> list[list[str]]:
    """Return what is shown of a row where its point is hovered, as names and texts."""
    more = [f"{len(runs) - MOST_RUNS} more"] if len(runs) > MOST_RUNS else []
    return [
        ["method", str(cell["row"])],
        ["task", str(cell["column"])],
        ["score", score_text(cell, unit, standing)],
        ["setting", setting_text(str(cell["setting"]))],
        ["runs", ", ".join([*runs[:MOST_RUNS], *more]) or NOTHING],
    ]
