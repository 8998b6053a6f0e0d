"""How figures look: sizes, colours, marks, and the page that leaderboards are drawn on one below the other."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
import pandas as pd
import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D

from reports.render import one_line
from reports.tables import MINI_LABEL, title

COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0  # inches, of a two-column page
LINE_HEIGHT = 0.15  # inches
FONT_SIZE = 7  # points
FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
BOLD_PER_INCH, SMALL_PER_INCH = 16, 21  # characters of titles and of the caption
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


@dataclass(frozen=True)
class Section:
    """One leaderboard's part of a figure.

    Attributes:
        title: over it; may be of several lines.
        height: without the title, in inches.
        draw: draws it.
    """

    title: str
    height: float
    draw: Callable[[SubFigure], None]


def looks_of(methods: Iterable[str]) -> dict[str, Look]:
    """Return a look for each method, by name; the same methods have the same looks in every figure."""
    return {
        method: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, method in enumerate(sorted(set(methods)))
    }


def page(sections: Sequence[Section], looks: dict[str, Look], caption: str, width: float) -> Figure:
    """Draw sections one below the other, then the legend, if there are looks, and the caption."""
    # The space: matplotlib before 3.10 leaves labels that begin with an underscore out of a legend.
    labels = [fit(f" {method}" if method.startswith("_") else method, 28) for method in looks]
    across = max(1, min(len(labels), int(width / (0.055 * max(map(len, labels), default=0) + 0.35))))
    caption = textwrap.fill(caption, int(width * SMALL_PER_INCH))
    heights = [section.height + LINE_HEIGHT * (section.title.count("\n") + 1) for section in sections]
    heights.append(LINE_HEIGHT * (-(-len(labels) // across) + caption.count("\n") + 2))
    with _style():
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        *areas, foot = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for area, section in zip(areas, sections, strict=True):
            area.suptitle(section.title, fontsize=FONT_SIZE, fontweight="bold")
            section.draw(area)
        if looks:
            handles = [Line2D([], [], linestyle="none", **look.mean) for look in looks.values()]
            foot.legend(handles, labels, loc="upper center", ncols=across, frameon=False, handletextpad=0.2)
        foot.supxlabel(caption, fontsize=FONT_SIZE - 1, color="0.3")
        figure.draw_without_rendering()  # what is laid out when drawn, is laid out in this style
    return figure


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file of this kind ("png" or "svg"); the same figure gives the same bytes.

    Raises:
        KeyError: another kind.
    """
    undated = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    buffer = io.BytesIO()
    with _style():
        dots = min(DOTS_PER_INCH, MOST_PIXELS / figure.get_figheight())
        figure.savefig(buffer, format=kind, dpi=dots, metadata=undated)
    return buffer.getvalue()


def section_title(row: Any, width: float) -> str:
    """Return a leaderboard's title, with the label of a miniature, broken into lines; ``row`` is any of its rows."""
    lines = [fit(title(row), 200), *([MINI_LABEL] if row["small"] else [])]
    return "\n".join(textwrap.fill(line, int(width * BOLD_PER_INCH)) for line in lines)


def width_of(panels: int) -> float:
    """Return the width of a figure with so many panels side by side, in inches."""
    return COLUMN_WIDTH if panels == 1 else PAGE_WIDTH


def columns_of(panels: int) -> int:
    """Return how many panels stand side by side."""
    return 2 if panels == 4 else min(panels, 3)


def bars_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the ends of each cell's bar, ``low`` and ``high``: of its interval where the summary has intervals."""
    if has_intervals(cells):
        return cells[["low", "high"]].astype("float64")
    return pd.DataFrame({"low": cells["mean"] - cells["std"], "high": cells["mean"] + cells["std"]}).astype("float64")


def bars_in_words(cells: pd.DataFrame) -> str:
    """Return what the bars of `bars_of` are."""
    return "95 % interval of the mean" if has_intervals(cells) else "standard deviation over the seeds"


def has_intervals(cells: pd.DataFrame) -> bool:
    """Tell whether the summary has an interval for any cell."""
    return {"low", "high"} <= set(cells.columns) and bool(cells["low"].notna().any())


def fit(text: str, length: int) -> str:
    """Return text that the font has and that is not longer than this, its middle left out where it is."""
    text = _printable(text)
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-(length - length // 2 - 1) :]}"


def _printable(text: str) -> str:
    known = get_font(findfont(FONT)).get_charmap()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in one_line(text))


@contextmanager
def _style() -> Iterator[None]:
    """Draw in our style, whatever the user's is, and leave the user's as it was."""
    with matplotlib.style.context(["default", _STYLE]):
        yield
