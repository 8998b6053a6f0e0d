"""The differences to the baseline with their intervals, and the costs beside them: the interactive forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.reports.charts.chart import (
    LEGEND,
    MOST_VIEWS,
    ROW_STEP,
    SHOWN,
    Chart,
    Palette,
    View,
    data_of,
    hover_lines,
    title_of,
)
from parbench.reports.cost_ratios import cost_ratios, memory_column
from parbench.reports.differences import Difference, differences_on, rows_by_rank
from parbench.reports.differences_table import differences_table
from parbench.reports.figures.forest import caption_of, panel_title
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.rows import COLUMN
from parbench.reports.tables import NOTHING, Table, unit_of
from parbench.reports.verdict import times
from parbench.tasks.metrics.units import Unit

_SHAPES = ["triangle-right", "circle", "triangle-left", "diamond"]
_COLOURS = [{"expr": name} for name in ("better", "soft", "worse", "ink")]


def differences_chart(
    number: int, board: Leaderboard, runs: Mapping[tuple[str, str, str], Sequence[str]], palette: Palette
) -> Chart | None:
    """Return the chart of a leaderboard; ``None`` where there are not two methods to compare.

    Args:
        number: of the leaderboard, from 1.
        board: the leaderboard.
        runs: the ids of the runs of a column, a metric and a row.
        palette: of the page.
    """
    baseline = board.baseline
    rows = list(dict.fromkeys(board.cells["row"].astype("str")))
    if baseline is None or len(rows) < 2:
        return None
    rows = rows_by_rank(rows, board.ranking)
    views = [_view(cells, board, rows, runs, palette) for _, cells in list(board.cells.groupby(COLUMN))[:MOST_VIEWS]]
    return Chart(
        name=f"chart-{number}-differences",
        kind="differences",
        title=f"Differences to {baseline} on each task, with 95 % intervals, and costs as multiples of {baseline}'s",
        views=views,
        table=_table(board, baseline),
        caption=caption_of(board),
        aside=_costs(board, baseline, rows, palette),
        label_letters=max(map(len, rows)),
    )


def _view(
    cells: pd.DataFrame,
    board: Leaderboard,
    rows: Sequence[str],
    runs: Mapping[tuple[str, str, str], Sequence[str]],
    palette: Palette,
) -> View:
    """Return one task: a line for each row."""
    column, metric = str(cells["column"].iloc[0]), str(cells["metric"].iloc[0])
    unit, ranked = unit_of(cells), board.ranking.columns.get((column, metric))
    own = {str(cell["row"]): cell for _, cell in cells.iterrows()}
    values = []
    for line in differences_on(ranked, rows, str(board.baseline)):
        cell = own.get(line.row)
        hover = []
        if cell is not None:
            standing = ranked.standings.get(line.row) if ranked else None
            ids = runs.get((column, metric, line.row), ())
            hover = hover_lines(cell, unit, standing, ids)
            hover.insert(2, [f"minus {board.baseline}", _difference_text(line, unit)])
        methods = board.cells.loc[board.cells["row"] == line.row, "method"]
        name = palette.names[str(methods.iloc[0])]
        values.append({"method": name, **_numbers(line, unit), "verdict": _verdict(line, board), "hover": hover})
    has_values = any(value["value"] is not None for value in values)
    return {
        "title": title_of(panel_title(column, metric, unit, str(cells["base_model"].iloc[0])).split("\n")),
        "height": {"step": ROW_STEP},
        "data": data_of(values),
        "transform": [{"filter": SHOWN}],
        "encoding": {"y": _rows_axis(rows, grid=has_values)},
        "layer": _layers(board, values),
    }


def _rows_axis(rows: Sequence[str], grid: bool) -> View:
    axis = {"title": None, "ticks": False, "domain": False, "grid": grid, "labelLimit": 170, "labelPadding": 6}
    return {"field": "row", "type": "nominal", "sort": list(rows), "axis": axis}


def _numbers(line: Difference, unit: Unit) -> dict[str, Any]:
    low, high = line.interval or (None, None)
    ends = {"value": line.value, "low": low, "high": high}
    scaled = {name: None if end is None else unit.factor * float(end) for name, end in ends.items()}
    return {**scaled, "row": line.row, "note": line.note, "ranks": line.ranks, "unbeaten": line.is_unbeaten}


def _verdicts(board: Leaderboard) -> list[str]:
    name = board.baseline
    return [f"better than {name}", f"not told apart from {name}", f"worse than {name}", f"{name}, the baseline"]


def _verdict(line: Difference, board: Leaderboard) -> str:
    return dict(zip(("better", "open", "worse", "baseline"), _verdicts(board), strict=True))[line.verdict]


def _layers(board: Leaderboard, values: Sequence[View]) -> list[View]:
    has_values, has_intervals = (any(one[name] is not None for one in values) for name in ("value", "low"))
    note = {
        "transform": [{"filter": "datum.value === null"}],
        "mark": {"type": "text", "align": "left", "dx": 6, "fontStyle": "italic", "color": {"expr": "soft"}},
        "encoding": {"x": {"value": 0}, "text": {"field": "note"}},
    }
    if not has_values:
        return [note]
    axis = {"title": None, "tickCount": 4, "grid": True}
    place = {"field": "value", "type": "quantitative", "scale": {"zero": True}, "axis": axis}
    names = _verdicts(board)
    verdict = {"field": "verdict", "type": "nominal", "legend": dict(LEGEND)}
    colour = {**verdict, "scale": {"domain": names, "range": _COLOURS}}
    shape = {**verdict, "scale": {"domain": names, "range": _SHAPES}}
    weight = {"expr": "datum.unbeaten ? 'bold' : 'normal'"}
    known = [{"filter": "datum.value !== null"}]
    bar = {
        "transform": [{"filter": "datum.low !== null"}],
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": {
            "x": {**place, "field": "low"},
            "x2": {"field": "high"},
            "color": colour,
        },
    }
    bars = [bar] if has_intervals else []  # or there is no scale
    return [
        {"mark": {"type": "rule", "color": {"expr": "soft"}}, "encoding": {"x": {"datum": 0}, "y": None}},
        *bars,
        {
            "transform": known,
            "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1},
            "encoding": {
                "x": place,
                "color": colour,
                "shape": shape,
                "tooltip": {"field": "row"},
            },
        },
        {
            "transform": known,
            "mark": {"type": "text", "align": "left", "dx": 7, "fontWeight": weight, "color": {"expr": "ink"}},
            "encoding": {"x": {"value": "width"}, "text": {"field": "ranks"}},
        },
        note,
    ]


def _costs(board: Leaderboard, baseline: str, rows: Sequence[str], palette: Palette) -> View:
    """Return the costs as numbers, in line with the rows of the views."""
    where = "device" if memory_column(board.cells) == "peak_device_bytes" else "process"
    heads = ["step time", f"{where} memory", "parameters"]
    values = [
        {"method": palette.names[method], "row": row, "measure": head, "text": text}
        for row, (method, texts) in _cost_texts(board, baseline).items()
        for head, text in zip(heads, texts, strict=True)
    ]
    # Heads of two lines grow downwards.
    axis = {"orient": "top", "title": None, "labelAngle": 0, "ticks": False, "domain": False, "labelPadding": 18}
    return {
        "height": {"step": ROW_STEP},
        "width": {"step": 68},
        "data": data_of(values),
        "transform": [{"filter": SHOWN}],
        "mark": {"type": "text", "color": {"expr": "ink"}},
        "encoding": {
            "y": _rows_axis(rows, grid=False),
            "x": {
                "field": "measure",
                "type": "nominal",
                "sort": heads,
                "axis": {**axis, "labelExpr": "split(datum.label, ' ')"},
            },
            "text": {"field": "text"},
        },
    }


def _cost_texts(board: Leaderboard, baseline: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return by row its method, and its step time, memory and parameters as multiples of the baseline's."""
    methods = {str(row): str(method) for row, method in zip(board.cells["row"], board.cells["method"], strict=True)}
    found = {}
    for row, ratio in cost_ratios(board.cells, baseline).items():
        texts = (NOTHING if one is None else times(one) for one in (ratio.time, ratio.memory, ratio.parameters))
        found[row] = (methods[row], tuple(texts))
    return found


def _difference_text(line: Difference, unit: Unit) -> str:
    if line.verdict == "baseline":
        return "it is the baseline"
    if line.value is None:
        return line.note
    ends = "" if line.interval is None else " [{}, {}]".format(*(unit.text(end, sign=True) for end in line.interval))
    return f"{unit.text(line.value, sign=True)}{ends}"


def _table(board: Leaderboard, baseline: str) -> Table:
    """Return the differences and the costs."""
    table, costs = differences_table(board), _cost_texts(board, baseline)
    heads = ("step time", "memory", "parameters")
    rows = tuple((*row, *(costs[row[0]][1] if row[0] in costs else (NOTHING,) * 3)) for row in table.rows)
    return Table((*table.head, *(f"{head} / {baseline}'s" for head in heads)), rows, table.bold)
