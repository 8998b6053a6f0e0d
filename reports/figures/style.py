"""How figures look: sizes, colours, marks, and the page that leaderboards are drawn on one below the other."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import matplotlib.style
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.figures.text import FONT, FONT_SIZE, fit, fit_apart
from parbench.reports.tables import SMALL_LABEL, title

T = TypeVar("T")

COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0  # inches, of a two-column page
LINE_HEIGHT, SMALL_LINE_HEIGHT = 0.15, 0.1  # inches, of titles and legends, and of the caption
BOLD_PER_INCH, SMALL_PER_INCH = 16, 21  # characters of titles and of the caption
LEFT, ABOVE, BELOW = 0.5, 0.17, 0.22  # inches, of a panel's label and ticks, its title, and its ticks
MOST_LEGEND = 1.6  # inches of a method's name in a legend
MOST_HEIGHT = 16  # inches of a figure, legend and caption aside: longer figures are unreadable and slow to draw
DOTS_PER_INCH = 300
MOST_PIXELS = 60_000  # a side; what the renderer can do, rounded down

# 8 colours (the palette without yellow and pink, which are lost on paper) and 11 markers: 88 methods before a
# pair comes again, and no two of the first 11 share a marker.
COLOURS = [colour for i, colour in enumerate(seaborn.color_palette("colorblind", 10).as_hex()) if i not in (6, 8)]
MARKERS = "osD^vPX<>p*"

_STYLE: dict[str, Any] = {
    "font.family": FONT,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.9",
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.titley": 1.0,  # where it would be anyway, without looking for what may be in its way
    "axes.titlepad": 3,
    "svg.hashsalt": "parbench",
}


@dataclass(frozen=True)
class Reason:
    """Why there is no figure, in one sentence."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Look:
    """How a method is drawn, wherever it is drawn."""

    colour: str
    marker: str

    @property
    def mean(self) -> dict[str, Any]:
        """How its means are drawn; the dark edge is for print without colour."""
        edge = {"markeredgecolor": "0.15", "markeredgewidth": 0.5}
        return {"color": self.colour, "marker": self.marker, "markersize": 5, **edge}

    @property
    def run(self) -> dict[str, Any]:
        """How one run is drawn."""
        faint = {"markeredgewidth": 0, "alpha": 0.45, "linestyle": "none"}
        return {"color": self.colour, "marker": self.marker, "markersize": 3, **faint}


@dataclass(frozen=True)
class Section:
    """One leaderboard's part of a figure.

    Attributes:
        title: over it; may be of several lines.
        height: without the title, in inches.
        draw: draws it.
        small: whether it is of a miniature, which the caption says once.
        is_placed: whether ``draw`` says where everything is, see `panels`; else it is fitted together, which takes
            long.
    """

    title: str
    height: float
    draw: Callable[[SubFigure], None]
    is_placed: bool = False
    small: bool = False

    @property
    def full_height(self) -> float:
        """With the title, in inches."""
        return self.height + LINE_HEIGHT * (self.title.count("\n") + 1)


def looks_of(methods: Iterable[str]) -> dict[str, Look]:
    """Return a look for each method, by name; the same methods have the same looks in every figure."""
    return {
        method: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, method in enumerate(sorted(set(methods)))
    }


def page(
    sections: Sequence[Section], looks: dict[str, Look], caption: str, width: float, conditions: str = ""
) -> Figure:
    """Draw sections one below the other, then the legend, if there are looks, and the caption.

    Those beyond `MOST_HEIGHT` are not drawn, but for the first, and the caption says so.

    Args:
        sections: of the leaderboards.
        looks: of the legend.
        caption: how to read the figure.
        width: in inches.
        conditions: trials and hardware, which end the caption.
    """
    drawn = _fitting(sections)
    if small := [section.small for section in drawn if section.small]:
        caption += f"; {SMALL_LABEL}{'' if len(small) == len(drawn) else ' (where so marked)'}"
    if len(drawn) < len(sections):
        caption += f"; not drawn, to save space: the last {len(sections) - len(drawn)} of {len(sections)} parts"
    caption = f"{caption}. {conditions}" if conditions else caption
    # The space: matplotlib before 3.10 leaves labels that begin with an underscore out of a legend.
    named = [f" {method}" if method.startswith("_") else method for method in looks]
    labels = fit_apart(named, MOST_LEGEND)
    across = max(1, min(len(labels), int(width / (0.055 * max(map(len, labels), default=0) + 0.35))))
    caption = textwrap.fill(caption, int(width * SMALL_PER_INCH))
    heights = [section.full_height for section in drawn]
    lines = caption.count("\n") + 1
    heights.append(LINE_HEIGHT * (-(-len(labels) // across) + 1) + SMALL_LINE_HEIGHT * lines)
    is_placed = all(section.is_placed for section in drawn)
    with figure_style():
        figure = Figure(figsize=(width, sum(heights)), layout=None if is_placed else "constrained")
        FigureCanvasAgg(figure)
        *areas, foot = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for area, section in zip(areas, drawn, strict=True):
            place = {"y": 1 - 0.03 / _inches(area)[1], "va": "top"} if is_placed else {}
            area.suptitle(section.title, fontsize=FONT_SIZE, fontweight="bold", **place)
            section.draw(area)
        if looks:
            handles = [Line2D([], [], linestyle="none", **look.mean) for look in looks.values()]
            foot.legend(handles, labels, loc="upper center", ncols=across, frameon=False, handletextpad=0.2)
        foot.supxlabel(caption, fontsize=FONT_SIZE - 1, color="0.3")
        if not is_placed:
            figure.draw_without_rendering()  # what is laid out when drawn, is laid out in this style
            figure.set_layout_engine("none")  # and is not laid out again for every file
    return figure


def panels(area: SubFigure, count: int, label: str) -> list[Axes]:
    """Return so many panels side by side and below each other, each with room for its title, ticks and labels.

    Args:
        area: of a section that is placed.
        count: of panels.
        label: of all horizontal axes.
    """
    across = columns_of(count)
    width, height = _inches(area)
    down = -(-count // across)
    title = LINE_HEIGHT * (area.get_suptitle().count("\n") + 1)
    left, right, top, bottom = LEFT, 0.1, title + ABOVE, BELOW + LINE_HEIGHT + 0.04
    inner = (
        (width - left - right - (across - 1) * LEFT) / across,
        (height - top - bottom - (down - 1) * (ABOVE + BELOW)) / down,
    )
    sides = {"left": left / width, "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height}
    spaces = {"wspace": LEFT / inner[0], "hspace": (ABOVE + BELOW) / inner[1]}
    grid = area.subplots(down, across, squeeze=False, gridspec_kw=sides | spaces).ravel()
    for axes in grid[count:]:
        axes.remove()
    area.supxlabel(label, fontsize=FONT_SIZE, y=0.07 / height, va="bottom")
    return list(grid[:count])


def _fitting(sections: Sequence[Section]) -> Sequence[Section]:
    """Return the first sections that together are not higher than a figure may be; one at least."""
    below = accumulate(section.full_height for section in sections)
    return sections[: max(1, sum(height <= MOST_HEIGHT for height in below))]


def _inches(area: SubFigure) -> tuple[float, float]:
    return area.bbox.width / area.figure.dpi, area.bbox.height / area.figure.dpi


@dataclass(frozen=True)
class Picture:
    """A figure as files.

    Attributes:
        png: for a screen.
        svg: for a page, of any size.
        width: in inches.
    """

    png: bytes
    svg: bytes
    width: float


def pictured(figures: Mapping[str, Figure | Reason]) -> dict[str, Picture | Reason]:
    """Return figures as files."""
    return {
        name: figure if isinstance(figure, Reason) else drawn_or_reason(partial(_picture, figure))
        for name, figure in figures.items()
    }


def drawn_or_reason(draw: Callable[[], T]) -> T | Reason:
    """Return what is drawn, or in its place why it could not be."""
    found = attempt(draw)
    return Reason(f"It was {found.reason}.") if isinstance(found, NotComputed) else found


def _picture(figure: Figure) -> Picture:
    return Picture(to_bytes(figure, "png"), to_bytes(figure, "svg"), figure.get_figwidth())


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file of this kind ("png" or "svg"); the same figure gives the same bytes.

    Raises:
        KeyError: another kind.
    """
    undated = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    buffer = io.BytesIO()
    with figure_style():
        dots = min(DOTS_PER_INCH, MOST_PIXELS / figure.get_figheight())
        figure.savefig(buffer, format=kind, dpi=dots, metadata=undated)
    return buffer.getvalue()


def section_title(rows: pd.DataFrame, width: float) -> str:
    """Return a leaderboard's title, broken into lines."""
    return titled(title(rows), is_small(rows), width)


def titled(text: str, small: bool, width: float) -> str:
    """Return a title, with a word where it is of a miniature, broken into lines."""
    return textwrap.fill(fit(text, 200) + (" (small suite)" if small else ""), int(width * BOLD_PER_INCH))


def is_small(rows: pd.DataFrame) -> bool:
    """Return whether a leaderboard is of a miniature."""
    return bool(rows["small"].iloc[0])


def width_of(panels: int) -> float:
    """Return the width of a figure with so many panels side by side, in inches."""
    return COLUMN_WIDTH if panels == 1 else PAGE_WIDTH


def columns_of(panels: int) -> int:
    """Return how many panels stand side by side."""
    return 2 if panels == 4 else min(panels, 3)


def rows_of(panels: int) -> int:
    """Return how many rows of panels there are."""
    return -(-panels // columns_of(panels))


def bars_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the ends of each cell's bar, ``low`` and ``high``: of its interval where the summary has intervals."""
    if has_intervals(cells):
        return cells[["low", "high"]].astype("float64")
    return pd.DataFrame({"low": cells["mean"] - cells["std"], "high": cells["mean"] + cells["std"]}).astype("float64")


def bars_in_words(cells: pd.DataFrame) -> str:
    """Return what the bars of `bars_of` are."""
    return "95 % interval of the mean, where known" if has_intervals(cells) else "standard deviation over the seeds"


def has_intervals(cells: pd.DataFrame) -> bool:
    """Return whether the summary has an interval for any cell."""
    return {"low", "high"} <= set(cells.columns) and bool(cells["low"].notna().any())


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in our style, whatever the user's is, and leave the user's as it was."""
    with matplotlib.style.context(["default", _STYLE]):
        yield
