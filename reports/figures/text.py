"""The font of figures, and text that fits into the room there is."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.font_manager import findfont, get_font

from parbench.reports.render import one_line

FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
FONT_SIZE = 7  # points
FINE = 720  # dots per inch, so that widths are not rounded to those of a screen


def fit(text: str, length: int) -> str:
    """Return text that the font has and that is not longer than this, its middle left out where it is."""
    text = _printable(text)
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-(length - length // 2 - 1) :]}"


def fit_width(text: str, inches: float, size: float = FONT_SIZE, head: float = 0.5) -> str:
    """Return text that the font has and that is not wider than this, its middle left out where it is.

    Args:
        text: to show.
        inches: the room there is.
        size: of the font, in points.
        head: share of what is kept that is before the middle.
    """
    shown = longest = _printable(text)
    kept = len(longest)
    while width_of_text(shown, size) > inches and kept > 3:
        kept -= 1
        before = max(1, round(head * kept))
        shown = f"{longest[:before]}…{longest[before - kept :] if kept > before else ''}"
    return shown


def fit_apart(texts: Sequence[str], inches: float, size: float = FONT_SIZE) -> list[str]:
    """Return texts as `fit_width` does, so that different texts stay different.

    What is left out of all of them is moved until they differ; where that does not help, numbers tell them apart.
    """
    different = list(dict.fromkeys(texts))
    for head in (0.5, 0.7, 0.3, 0.9, 0.1):
        shown = {text: fit_width(text, inches, size, head) for text in different}
        if len(set(shown.values())) == len(different):
            return [shown[text] for text in texts]
    ends = {text: f" [{number}]" for number, text in enumerate(different, start=1)}
    return [fit_width(text, inches - width_of_text(ends[text], size), size) + ends[text] for text in texts]


def row_labels(names: Sequence[str], inches: float) -> list[str]:
    """Return names of rows that stay different; where one is too wide, its setting is a line of its own.

    Args:
        names: such as ``lora (learning_rate=0.005)``.
        inches: the room there is.
    """
    broken = [" (" in name and width_of_text(_printable(name)) > inches for name in names]
    parts = [
        name.partition(" (") if is_broken else (name, "", "") for name, is_broken in zip(names, broken, strict=True)
    ]
    firsts = fit_apart([first for first, _, _ in parts], inches)
    seconds = fit_apart([f"({rest}" if rest else "" for _, _, rest in parts], inches)
    return ["\n".join(filter(None, lines)) for lines in zip(firsts, seconds, strict=True)]


def width_of_text(text: str, size: float = FONT_SIZE) -> float:
    """Return how wide a line of text is drawn, in inches; ``size`` is in points."""
    font = get_font(findfont(FONT))
    font.set_size(size, FINE)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / FINE  # of 64ths of a dot


def _printable(text: str) -> str:
    known = get_font(findfont(FONT)).get_charmap()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in one_line(text))
