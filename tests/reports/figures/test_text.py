"""Names in figures are cut to the room there is, and stay different."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from parbench.reports.figures.style import figure_style
from parbench.reports.figures.text import fit_apart, fit_width, row_labels, width_of_text

SETTINGS = [
    "lora+qv_ratio(4) (learning_rate=0.001445, train.max_steps=200)",
    "lora+qv_ratio(8) (learning_rate=0.001445, train.max_steps=200)",
    "lora+qv_ratio(4) (learning_rate=0.000145, train.max_steps=200)",
]


@pytest.mark.parametrize("text", ["lora", "i" * 40, "W" * 40, "lora+qv_ratio(4) (learning_rate=0.001445)"])
def test_a_width_is_what_matplotlib_draws(text: str) -> None:
    with figure_style():
        figure = Figure(dpi=720)
        FigureCanvasAgg(figure)
        drawn = figure.text(0, 0, text).get_window_extent().width / 720
    assert width_of_text(text) == pytest.approx(drawn, rel=0.06, abs=0.02)  # hinting differs with the resolution


@pytest.mark.parametrize("head", [0.1, 0.5, 0.9])
def test_a_long_text_loses_its_middle(head: float) -> None:
    whole = "lora (learning_rate=0.001445, location_fraction=0.1)"
    shown = fit_width(whole, 1.0, head=head)
    first, last = shown.split("…")
    assert whole.startswith(first)
    assert whole.endswith(last)
    assert width_of_text(shown) <= 1.0 < width_of_text(whole[: len(shown) + 12])
    assert len(first) == pytest.approx(head * (len(first) + len(last)), abs=0.51)
    assert fit_width("lora", 1.0, head=head) == "lora"


@pytest.mark.parametrize("inches", [0.8, 1.2, 1.65])
@pytest.mark.parametrize("names", [SETTINGS, ["x" * 40 + c + "x" * 40 for c in "abc"], ["loca", "loca", "dora"]])
def test_different_names_stay_different(names: list[str], inches: float) -> None:
    shown = fit_apart(names, inches)
    assert len(set(shown)) == len(set(names))
    assert [shown[names.index(name)] for name in names] == shown
    assert all(width_of_text(text) <= inches for text in shown)


def test_the_setting_of_a_wide_row_is_a_second_line() -> None:
    labels = row_labels(["lora", "lora (r=4)", *SETTINGS], 1.6)
    assert labels[:2] == ["lora", "lora (r=4)"]
    assert [label.split("\n")[0] for label in labels[2:]] == [name.split(" ")[0] for name in SETTINGS]
    assert len(set(labels)) == 5
    assert all(width_of_text(line) <= 1.6 for label in labels for line in label.split("\n"))
