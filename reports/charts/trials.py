"""The expected best score against the number of trials of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from parbench.reports.charts.chart import MOST_VIEWS, PANEL_HEIGHT, SHOWN, Chart, Palette, View, data_of, title_of
from parbench.reports.figures.trials import Search
from parbench.reports.rows import WITH_MODEL
from parbench.reports.statistics import expected_best
from parbench.reports.tables import NOTHING, Table
from parbench.reports.words import grouped

CAPTION = (
    "Expected best score on the selection split of k trials out of those recorded; band: standard deviation of that "
    "best. A trial that failed counts as the worst score seen on the task."
)
_MOST_COLUMNS = 12  # of the table


def trials_chart(searches: Sequence[Search], palette: Palette, conditions: str) -> Chart | None:
    """Return the chart of all searches; ``None`` where no trial has a score.

    Args:
        searches: by task.
        palette: of the page, of the methods that were searched among others.
        conditions: for the caption.
    """
    curves = [(search, _curves(search)) for search in searches]
    known = [(search, found) for search, found in curves if found]
    if not known:
        return None
    return Chart(
        name="trials",
        kind="trials",
        title="Expected best score on the selection split against the number of trials",
        views=[_view(search, found, palette) for search, found in known[:MOST_VIEWS]],
        table=_table(known, palette),
        caption=f"{CAPTION} {conditions}".strip(),
    )


def _curves(search: Search) -> Mapping[str, pd.DataFrame]:
    """Return the curve of each method, in the metric's unit."""
    seen = [score for scores in search.trials.values() for score in scores if score is not None]
    if not seen:
        return {}
    return {name: search.unit.factor * expected_best(one, failed=min(seen)) for name, one in search.trials.items()}


def _view(search: Search, curves: Mapping[str, pd.DataFrame], palette: Palette) -> View:
    column, model = (str(search.runs[name].iloc[0]) for name in ("column", "base_model"))
    values = []
    for method, curve in curves.items():
        for k, (expected, spread) in zip(curve.index, curve.itertuples(index=False, name=None), strict=True):
            ends = {"best": float(expected), "low": float(expected - spread), "high": float(expected + spread)}
            lines = [
                ["method", palette.names[method]],
                ["task", column],
                ["trials", f"{k} of {len(curve)}"],
                ["expected best", f"{expected:.4g}, standard deviation {spread:.2g}"],
            ]
            values.append({"method": palette.names[method], "trials": int(k), **ends, "hover": lines})
    axis = {"title": None, "grid": True, "tickCount": 5}
    whole = {"title": "trials", "grid": True, "tickCount": 5, "format": "d", "tickMinStep": 1}
    x = {"field": "trials", "type": "quantitative", "axis": whole}
    y = {"field": "best", "type": "quantitative", "scale": {"zero": False}, "axis": axis}
    colour, shape = palette.colour(), palette.shape()
    band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    unit = " x100" if search.unit.factor == 100 else ""
    return {
        "title": title_of([column.removesuffix(f"{WITH_MODEL}{model}"), model, f"{search.metric}{unit}"]),
        "height": PANEL_HEIGHT,
        "data": data_of(values),
        "transform": [{"filter": SHOWN}],
        "layer": [
            {"mark": {"type": "area", "opacity": 0.12}, "encoding": band},
            {"mark": {"type": "line", "strokeWidth": 1.6}, "encoding": {"x": x, "y": y, "color": colour}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": {"field": "method"}},
            },
        ],
    }


def _table(known: Sequence[tuple[Search, Mapping[str, pd.DataFrame]]], palette: Palette) -> Table:
    lengths = sorted({k for _, curves in known for curve in curves.values() for k in curve.index})
    every = -(-len(lengths) // _MOST_COLUMNS)
    shown = [*lengths[:-1:every], lengths[-1]]
    rows = [
        (palette.names[method], str(search.runs["column"].iloc[0]), *_texts(curve, shown))
        for search, curves in known
        for method, curve in curves.items()
    ]
    kept = [row for same in grouped((row[:2], row) for row in rows).values() for row in same]
    return Table(("method", "task", *(f"{k} trial{'s' if k > 1 else ''}" for k in shown)), tuple(kept))


def _texts(curve: pd.DataFrame, shown: Sequence[int]) -> list[str]:
    return [f"{curve['expected'].loc[k]:.1f}" if k in curve.index else NOTHING for k in shown]
