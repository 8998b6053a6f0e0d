"""Forest plot: each method's paired difference to a baseline on each task, and its cost beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from parbench.reports.cost_ratios import cost_ratios, memory_column
from parbench.reports.differences import Difference, differences_on, rows_by_rank
from parbench.reports.figures.style import (
    COLUMN_WIDTH,
    PAGE_WIDTH,
    SMALL_LINE_HEIGHT,
    SMALL_PER_INCH,
    Picture,
    Reason,
    columns_of,
    drawn_or_reason,
    figure_style,
    pictured,
)
from parbench.reports.figures.text import FONT_SIZE, fit, fit_width, row_labels, width_of_text
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.rows import COLUMN, WITH_MODEL
from parbench.reports.tables import NOTHING, unit_of
from parbench.reports.verdict import times
from parbench.tasks.metrics.units import Unit

ROW, SECOND_LINE = 0.17, 0.09  # inches: a row, and what it has more where a name takes two lines
HEAD, FOOT = 0.45, 0.3  # inches: a panel's title, its axis
COSTS, RANKS = 1.5, 0.3  # inches: costs at the right, the ranks right of a panel
LEAST_NAMES, MOST_NAMES, BESIDE = 0.6, 1.8, 0.16  # inches: of the column of names, and between it and a panel
LEAST_PANEL = 1.0  # inches: fewer stand side by side where long names leave less
GAP = 0.12  # inches between panels
LEGEND, MARKER = 0.17, 0.3  # inches: a line of it, and what an entry has around its text
MOST_TASKS = 24  # so that a figure stays readable
MOST_LETTERS = 600  # of the conditions
MOST_FORESTS = 12

# Better and worse differ in marker and in colour, so that print without colour shows them.
_LOOKS: dict[str, dict[str, Any]] = {
    "better": {"marker": ">", "color": "#0b62a4", "markerfacecolor": "#0b62a4"},
    "worse": {"marker": "<", "color": "#b35806", "markerfacecolor": "#b35806"},
    "open": {"marker": "o", "color": "0.35", "markerfacecolor": "white"},
    "baseline": {"marker": "D", "color": "0.1", "markerfacecolor": "0.1"},
}
_NOTE: dict[str, Any] = {"ha": "center", "va": "center", "color": "0.35", "style": "italic"}
_LEGEND = {"baseline": "baseline: ", "better": "better", "open": "not told apart from it", "worse": "worse"}
CAPTION = (
    "Mean minus that of {baseline}, paired by example and seed, with its 95 % interval. Triangles: better or worse "
    "than {baseline} after Holm's correction for all pairs of methods on the task; circles: not told apart from it. At "
    "the right of a panel: the ranks that a method may have, bold where no method is shown to be better. Rows: by mean "
    "rank. Costs: multiples of {baseline}'s, geometric means over the tasks."
)


@dataclass(frozen=True)
class _Panel:
    """A task: its title, unit and differences."""

    title: str
    unit: Unit
    lines: Sequence[Difference]


@dataclass(frozen=True)
class _Costs:
    """The heads of the costs, and by row a text for each of them."""

    heads: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Foot:
    """What stands below the panels: the legend, the label of a small suite, and the conditions in lines."""

    baseline: str
    label: str
    lines: tuple[str, ...]
    narrow: bool

    @property
    def width(self) -> float:
        """Of the figure, in inches."""
        return COLUMN_WIDTH if self.narrow else PAGE_WIDTH

    @property
    def height_of_lines(self) -> float:
        """In inches."""
        return SMALL_LINE_HEIGHT * len(self.lines) + (0.06 if self.lines else 0.0)

    @property
    def height(self) -> float:
        """With the legend, in inches."""
        return LEGEND * (len(_LEGEND) if self.narrow else 1) + self.height_of_lines


@dataclass(frozen=True)
class _Rows:
    """The rows by name, and their labels at the left."""

    names: Sequence[str]
    labels: Sequence[str]

    @property
    def width(self) -> float:
        """Of the column of labels, in inches: as much as they need, within limits."""
        needed = max(width_of_text(line) for label in self.labels for line in label.split("\n"))
        return max(LEAST_NAMES, needed + BESIDE)

    @property
    def height(self) -> float:
        """Of all rows, in inches."""
        return len(self.names) * (ROW + (SECOND_LINE if any("\n" in label for label in self.labels) else 0.0))


@dataclass(frozen=True)
class Forest:
    """The forest plot of a leaderboard.

    Attributes:
        name: of its file; the narrow one is called after it.
        wide: for a page.
        narrow: for a column or a phone.
        caption: how to read it.
    """

    name: str
    wide: Picture | Reason
    narrow: Picture | Reason
    caption: str


def forests(boards: Sequence[Leaderboard]) -> list[Forest]:
    """Draw the forest plots of leaderboards; of many, those of the first `MOST_FORESTS`."""
    return [_forest(number, board) for number, board in enumerate(boards[:MOST_FORESTS], start=1)]


def _forest(number: int, board: Leaderboard) -> Forest:
    drawn = {kind: drawn_or_reason(partial(forest, board, kind == "narrow")) for kind in ("wide", "narrow")}
    pictures = pictured(drawn)
    name = "differences" if number == 1 else f"differences_{number}"
    return Forest(name, pictures["wide"], pictures["narrow"], caption_of(board))


def caption_of(board: Leaderboard) -> str:
    """Return how to read the plot, and its budget, trials and hardware."""
    return " ".join([CAPTION.format(baseline=board.baseline), f"{board.title}.", *board.conditions])


def forest(board: Leaderboard, narrow: bool = False) -> Figure | Reason:
    """Draw the differences to the baseline on each task, and the costs as multiples of the baseline's.

    Args:
        board: the leaderboard, with its baseline.
        narrow: one panel below the other, for a column of a paper or a phone; else up to three side by side.
    """
    baseline, ranking = board.baseline, board.ranking
    rows = list(dict.fromkeys(board.cells["row"].astype("str")))
    if baseline is None or len(rows) < 2:
        return Reason("There are not two methods to compare.")
    rows = rows_by_rank(rows, ranking)
    panels = [
        _Panel(
            panel_title(str(name), str(metric), unit, str(cells["base_model"].iloc[0])),
            unit,
            differences_on(ranking.columns.get((str(name), str(metric))), rows, baseline),
        )
        for (name, metric), cells in board.cells.groupby(COLUMN)
        for unit in [unit_of(cells)]
    ]
    with figure_style():
        shown = _Rows(rows, row_labels(rows, MOST_NAMES - BESIDE))
        return _laid_out(panels[:MOST_TASKS], _costs_of(board, baseline), shown, _foot_of(board, baseline, narrow))


def _foot_of(board: Leaderboard, baseline: str, narrow: bool) -> _Foot:
    words = " ".join([f"{board.title}.", *board.conditions])
    width = COLUMN_WIDTH if narrow else PAGE_WIDTH
    lines = textwrap.wrap(fit(words, MOST_LETTERS), int(width * SMALL_PER_INCH))
    return _Foot(baseline, board.label.partition(":")[0] if board.label else "", tuple(lines), narrow)


def panel_title(column: str, metric: str, unit: Unit, base_model: str) -> str:
    """Return the title of a task in lines: the task, its base model, its metric and unit."""
    task = column.removesuffix(f"{WITH_MODEL}{base_model}")
    return f"{task}\n{base_model}\n{metric}, {'points' if unit.factor == 100 else 'as is'}"


def _costs_of(board: Leaderboard, baseline: str) -> _Costs:
    where = "device" if memory_column(board.cells) == "peak_device_bytes" else "process"
    texts = {
        row: tuple(NOTHING if value is None else times(value) for value in (ratio.time, ratio.memory, ratio.parameters))
        for row, ratio in cost_ratios(board.cells, baseline).items()
    }
    return _Costs(("step\ntime", f"{where}\nmemory", "param-\neters"), texts)


def _laid_out(panels: Sequence[_Panel], costs: _Costs, rows: _Rows, foot: _Foot) -> Figure:
    """Place everything in inches, from the top."""
    narrow, width = foot.narrow, foot.width
    names, high = rows.width, rows.height
    across, inner = _widths(width - names - (0.0 if narrow else COSTS), 1 if narrow else columns_of(len(panels)))
    lines = [panels[start : start + across] for start in range(0, len(panels), across)]
    height = HEAD + high + FOOT
    total = height * len(lines) + (HEAD + high + 0.1 if narrow else 0.0) + foot.height
    figure = Figure(figsize=(width, total))
    FigureCanvasAgg(figure)

    def axes_at(left: float, top: float, wide: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + HEAD + high) / total, wide / width, high / total))

    for number, line in enumerate(lines):
        for place, panel in enumerate(line):
            axes = axes_at(names + place * (inner + RANKS + GAP), number * height, inner)
            _draw_panel(axes, panel, rows.labels if place == 0 else None, inner)
    if narrow:
        _draw_costs(axes_at(names, len(lines) * height, width - names), costs, rows, named=True)
    else:
        _draw_costs(axes_at(width - COSTS, 0.0, COSTS), costs, rows, named=False)
    _draw_foot(figure, foot, total)
    return figure


def _widths(room: float, most: int) -> tuple[int, float]:
    """Return how many panels stand side by side, and how wide each is, in inches."""
    each = {across: room / across - RANKS - GAP for across in range(most, 0, -1)}
    return next(((across, width) for across, width in each.items() if width >= LEAST_PANEL), (1, each[1]))


def _draw_panel(axes: Axes, panel: _Panel, labels: Sequence[str] | None, width: float) -> None:
    """Draw a task, so many inches wide; ``labels`` at its left, if it is the first of its line."""
    _prepare(axes, len(panel.lines), labels)
    axes.set_title("\n".join(fit_width(text, width + RANKS) for text in panel.title.split("\n")), loc="left")
    factor = panel.unit.factor
    axes.axvline(0.0, color="0.5", linewidth=0.7, zorder=1)
    for place, line in enumerate(panel.lines):
        if line.value is None:
            axes.text(0.5, place, fit_width(line.note, width), transform=axes.get_yaxis_transform(), **_NOTE)
            continue
        look = _LOOKS[line.verdict]
        if line.interval:
            ends = [factor * end for end in line.interval]
            axes.plot(ends, [place, place], color=look["color"], linewidth=1.1, solid_capstyle="butt", zorder=2)
        axes.plot([factor * line.value], [place], markersize=4.5, markeredgewidth=0.9, zorder=3, **look)
        weight = "bold" if line.is_unbeaten else "normal"
        axes.text(1.03, place, line.ranks, transform=axes.get_yaxis_transform(), va="center", fontweight=weight)
    if all(line.value is None for line in panel.lines):
        axes.set_xticks([])
        return
    _symmetric(axes)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))
    axes.tick_params(axis="x", length=2)


def _prepare(axes: Axes, count: int, labels: Sequence[str] | None) -> None:
    axes.set_ylim(count - 0.5, -0.5)
    axes.grid(visible=False)
    for place in range(0, count, 2):
        axes.axhspan(place - 0.5, place + 0.5, color="0.955", linewidth=0, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(count) if labels else [])
    if labels:
        axes.set_yticklabels(labels, fontsize=FONT_SIZE, linespacing=1.0)
    axes.tick_params(axis="y", length=0)


def _symmetric(axes: Axes) -> None:
    """Show the baseline and as much on either side of it as there is, and no less than a tenth of the whole."""
    low, high = axes.get_xlim()
    margin = 0.1 * max(high, -low)
    axes.set_xlim(min(low, -margin), max(high, margin))


def _draw_costs(axes: Axes, costs: _Costs, rows: _Rows, named: bool) -> None:
    """Draw costs as numbers, in line with the rows of the panels."""
    _prepare(axes, len(rows.names), rows.labels if named else None)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    for column, head in enumerate(costs.heads):
        right = (column + 1) / len(costs.heads) - 0.03
        axes.text(right, 1 + 0.04 / rows.height, head, transform=axes.transAxes, ha="right", va="bottom")
        for place, row in enumerate(rows.names):
            values = costs.texts.get(row, ())
            axes.text(right, place, values[column] if values else NOTHING, ha="right", va="center")


def _draw_foot(figure: Figure, foot: _Foot, total: float) -> None:
    """Draw the legend, and below it what the file must say where it is shown alone."""
    below = foot.height_of_lines / total
    if foot.lines:
        at: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": FONT_SIZE - 1, "color": "0.3"}
        figure.text(0.005, 0.03 / total, "\n".join(foot.lines), **at)
    figure.text(0.995, below + 0.03 / total, foot.label, ha="right", va="bottom", color="0.35")
    handles = [Line2D([], [], linestyle="none", markersize=4.5, **_LOOKS[verdict]) for verdict in _LEGEND]
    figure.legend(
        handles,
        _legend_of(foot),
        loc="lower left",
        bbox_to_anchor=(0.0, below),
        ncols=1 if foot.narrow else len(handles),
        frameon=False,
        handletextpad=0.2,
        columnspacing=1.0,
        borderaxespad=0.1,
    )


def _legend_of(foot: _Foot) -> list[str]:
    """Return the legend's texts; the baseline's name gets the room that the others leave it."""
    beside = [_LEGEND["baseline"]] if foot.narrow else list(_LEGEND.values())
    taken = sum(width_of_text(text) + MARKER for text in beside) + width_of_text(foot.label) + MARKER
    name = fit_width(foot.baseline, foot.width - taken)
    return [text + (name if verdict == "baseline" else "") for verdict, text in _LEGEND.items()]
