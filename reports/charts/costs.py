"""Score against cost: time of a step, memory or parameters, as the reader chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.reports.charts.chart import (
    MOST_VIEWS,
    PANEL_HEIGHT,
    SHOWN,
    Chart,
    Palette,
    View,
    data_of,
    hover_lines,
    score_text,
    setting_text,
    title_of,
)
from parbench.reports.cost_ratios import memory_column
from parbench.reports.figures.forest import panel_title
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.rows import COLUMN
from parbench.reports.tables import NOTHING, Table, unit_of

_COST = [{"calculate": "datum[cost]", "as": "at"}, {"filter": "isValid(datum.at)"}]
_POINT = {"type": "point", "filled": True}
_PARAMETERS = "adapter parameters, as reported"
_LOGARITHMIC_FROM = 20.0  # the largest as a multiple of the smallest


def costs_chart(number: int, board: Leaderboard, runs: pd.DataFrame, palette: Palette) -> Chart | None:
    """Return the chart of a leaderboard; ``None`` where no cost of a row with a score is known.

    Args:
        number: of the leaderboard, from 1.
        board: the leaderboard.
        runs: its runs that have a score and are to be drawn as points of their own.
        palette: of the page.
    """
    scored = board.cells[board.cells["n_ok"] > 0]
    measures = _measures(scored)
    choices = {name: _axis(scored[column] / unit, name) for name, (column, unit) in measures.items()}
    if not choices:
        return None
    views = [_view(cells, board, runs, measures, palette) for _, cells in list(scored.groupby(COLUMN))[:MOST_VIEWS]]
    return Chart(
        name=f"chart-{number}-costs",
        kind="costs",
        title=f"Score against cost: {board.title}",
        views=views,
        table=_table(scored, board, measures),
        caption=_caption(board, len(runs)),
        choices=choices,
    )


def _caption(board: Leaderboard, drawn: int) -> str:
    small = "small: one run; " if drawn else ""
    return (
        f"{small}large: mean over the seeds of a setting, with its 95 % interval where it is known; line: what no "
        f"other setting beats in both (Pareto front of the means). {board.title}. {' '.join(board.conditions)}"
    )


def _measures(scored: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return the costs that are known, by name: a column of the summary, and what it is divided by."""
    memory = memory_column(scored)
    where = "accelerator" if memory == "peak_device_bytes" else "process"
    every = {
        "time of a training step (s)": ("train_seconds_per_step", 1.0),
        f"peak {where} memory while training (GiB)": (memory, 2.0**30),
        _PARAMETERS: ("ledger/reported", 1.0),
    }
    return {name: measure for name, measure in every.items() if scored[measure[0]].notna().any()}


def _axis(costs: pd.Series[Any], title: str) -> View:
    if title != _PARAMETERS:  # a task's own range is small enough
        return {"title": title, "scale": {"type": "linear", "zero": False, "padding": 14}}
    known = costs.dropna().astype("float64")
    positive = known[known > 0]
    if positive.empty or positive.max() < _LOGARITHMIC_FROM * positive.min():
        return {"title": title, "scale": {"type": "linear", "zero": False, "padding": 14}}
    exponents = range(math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max())) + 1)
    # A method that trains nothing has a cost of 0, which a logarithm cannot show.
    has_zero = bool((known == 0).any())
    axis = {"values": [*([0.0] if has_zero else []), *(10.0**exponent for exponent in exponents)], "format": "~s"}
    return {"title": title, "scale": {"type": "symlog" if has_zero else "log", "padding": 14}, "axis": axis}


def _view(
    cells: pd.DataFrame,
    board: Leaderboard,
    runs: pd.DataFrame,
    measures: Mapping[str, tuple[str, float]],
    palette: Palette,
) -> View:
    column, metric = str(cells["column"].iloc[0]), str(cells["metric"].iloc[0])
    unit, ranked = unit_of(cells), board.ranking.columns.get((column, metric))
    own = runs[(runs["column"] == column) & (runs["metric"] == metric)]
    means, points = [], []
    for _, cell in cells.iterrows():
        standing = ranked.standings.get(str(cell["row"])) if ranked else None
        costs = {name: _number(cell[source], divisor) for name, (source, divisor) in measures.items()}
        texts = [[name, f"{cost:.4g}"] for name, cost in costs.items() if cost is not None]
        part = own[own["row"] == cell["row"]]
        ends = standing.estimate.interval if standing else None
        shared = {"method": palette.names[str(cell["method"])], **costs}
        hover = hover_lines(cell, unit, standing, [str(run) for run in part["run_id"]])
        scores = {"score": cell["mean"], "low": ends.low if ends else None, "high": ends.high if ends else None}
        means.append({**shared, **_scaled(scores, unit.factor), "hover": [*hover, *texts]})
        points += _points(part, cell, unit, shared)
    return {
        "title": title_of(panel_title(column, metric, unit, str(cells["base_model"].iloc[0])).split("\n")),
        "height": PANEL_HEIGHT,
        "layer": _layers(means, points, palette),
    }


def _points(runs: pd.DataFrame, cell: Any, unit: Any, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of a row, at its cost."""
    found = []
    for seed, score, run in zip(runs["seed"], runs["score"], runs["run_id"], strict=True):
        lines = [
            ["method", str(cell["row"])],
            ["task", str(cell["column"])],
            ["score of this run", unit.text(float(score))],
            ["seed", str(seed)],
            ["setting", setting_text(str(cell["setting"]))],
            ["run", str(run)],
        ]
        found.append({**shared, "score": unit.factor * float(score), "run": str(run), "hover": lines})
    return found


def _number(value: Any, divisor: float) -> float | None:
    return None if pd.isna(value) else float(value) / divisor


def _scaled(values: Mapping[str, Any], factor: float) -> dict[str, float | None]:
    return {name: None if pd.isna(value) else factor * float(value) for name, value in values.items()}


def _layers(means: Sequence[View], points: Sequence[View], palette: Palette) -> list[View]:
    axis = {"title": None, "grid": True, "tickCount": 5}
    x = {"field": "at", "type": "quantitative", "axis": {**axis, "tickCount": 4}}
    y = {"field": "score", "type": "quantitative", "scale": {"zero": False}, "axis": axis}
    colour, shape = palette.colour(), palette.shape()
    order = [{"field": "at"}, {"field": "score", "order": "descending"}]
    steps = [
        {"window": [{"op": "max", "field": "score", "as": "best"}], "frame": [None, 0], "sort": order},
        {"window": [{"op": "lag", "field": "best", "as": "before"}], "sort": order},
        {"filter": "datum.before === null || datum.score > datum.before"},
    ]
    shown = [{"filter": SHOWN}, *_COST]
    front = {"type": "line", "interpolate": "step-after", "strokeWidth": 1, "color": {"expr": "soft"}, "point": False}
    bar = {
        "data": data_of(means),
        "transform": [*shown, {"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour},
    }
    bars = [bar] if any(one["low"] is not None for one in means) else []  # or there is no scale
    return [
        {"data": data_of(means), "transform": [*shown, *steps], "mark": front, "encoding": {"x": x, "y": y}},
        *bars,
        {
            "data": data_of(means),
            "transform": shown,
            "mark": {**_POINT, "size": 95, "opacity": 1, "stroke": {"expr": "ink"}, "strokeWidth": 0.6},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": {"field": "method"}},
        },
        # Above the means, so that each can be pointed at.
        {
            "data": data_of(points),
            "transform": shown,
            "mark": {**_POINT, "size": 36, "opacity": 1, "stroke": {"expr": "back"}, "strokeWidth": 0.5},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": {"field": "run"}},
        },
    ]


def _table(scored: pd.DataFrame, board: Leaderboard, measures: Mapping[str, tuple[str, float]]) -> Table:
    rows = []
    for _, cell in scored.iterrows():
        ranked = board.ranking.columns.get((str(cell["column"]), str(cell["metric"])))
        standing = ranked.standings.get(str(cell["row"])) if ranked else None
        costs = (_number(cell[source], divisor) for source, divisor in measures.values())
        texts = (NOTHING if cost is None else f"{cost:,.4g}" for cost in costs)
        unit = unit_of(scored[scored["column"] == cell["column"]])
        rows.append((str(cell["row"]), str(cell["column"]), score_text(cell, unit, standing), *texts))
    return Table(("method", "task", "score", *measures), tuple(rows))
