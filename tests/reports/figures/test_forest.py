"""The forest plot shows the differences of the leaderboard's own comparisons."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from parbench.reports.differences import differences_on, rows_by_rank
from parbench.reports.figures import Picture, Reason
from parbench.reports.figures.forest import forest, forests
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from tests.support.shares import CONSTANT, plant_shares

SHARES = {"lora": 0.25, "loca": 0.1, "vera": 0.3, "same": 0.25, "<b>": CONSTANT}


def board_of(planter: Any, baseline: str | None = None) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store), baseline)
    return board


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_differences_are_those_of_the_comparisons(planter: Any) -> None:
    means = plant_shares(planter, SHARES)
    board = board_of(planter)
    column = board.ranking.columns["glue/rte", "accuracy"]
    found = {one.row: one for one in differences_on(column, list(SHARES), "lora")}
    assert {row: one.verdict for row, one in found.items()} == {
        "lora": "baseline",
        "loca": "better",
        "vera": "worse",
        "same": "open",
        "<b>": "open",
    }
    assert found["<b>"].note == "did not learn"
    for row in ("loca", "vera", "same"):
        difference = means["glue/rte", row] - means["glue/rte", "lora"]
        assert found[row].value == pytest.approx(difference)
        low, high = found[row].interval or (0.0, 0.0)
        assert low < difference < high
    assert found["loca"].is_unbeaten
    assert not found["vera"].is_unbeaten


def test_rows_are_ordered_by_mean_rank_and_those_without_one_are_last(planter: Any) -> None:
    plant_shares(planter, SHARES, ("glue/rte", "glue/sst2"))
    order = rows_by_rank(sorted(SHARES), board_of(planter).ranking)
    assert order[0] == "loca"
    assert order[-2:] == ["vera", "<b>"]


@pytest.mark.parametrize("narrow", [False, True])
def test_every_task_has_a_panel_and_every_row_its_costs(planter: Any, narrow: bool) -> None:
    costs = {"lora": (10.0, 2.0**30, 1_000), "loca": (20.0, 2.0**30, 500)}
    plant_shares(planter, SHARES, ("glue/rte", "glue/sst2"), costs=costs)
    figure = forest(board_of(planter), narrow)
    assert not isinstance(figure, Reason)
    *panels, beside = figure.axes
    assert [axes.get_title(loc="left").split("\n")[0] for axes in panels] == ["glue/rte", "glue/sst2"]
    assert names(panels[0])[0] == "loca"
    texts = [text.get_text() for text in beside.texts]
    assert texts[:2] == ["step\ntime", "2.00x"]
    assert "0.50x" in texts
    assert any(text.get_text() == "did not learn" for text in panels[0].texts)
    edges = figure.bbox
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box is not None
        assert edges.x0 <= box.x0
        assert box.x1 <= edges.x1 + 1
        assert edges.y0 <= box.y0
        assert box.y1 <= edges.y1


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("learns", [False, True])
def test_long_names_stay_within_the_figure_and_apart(planter: Any, narrow: bool, learns: bool) -> None:
    baseline = "lora (learning_rate=0.001445, location_schedule=alternating)"
    shares = {baseline: 0.25 if learns else CONSTANT, "W" * 90: 0.1, "vera": 0.3}
    plant_shares(planter, shares, ("glue/rte", "glue/sst2", "glue/mrpc"))
    figure = forest(board_of(planter, baseline), narrow)
    assert not isinstance(figure, Reason)
    figure.draw_without_rendering()
    edges = figure.bbox.padded(1)
    drawn = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert all(edges.x0 <= box.x0 and box.x1 <= edges.x1 for box in drawn)
    assert all(edges.y0 <= box.y0 and box.y1 <= edges.y1 for box in drawn)
    legend, label = figure.legends[0].get_window_extent(), figure.texts[-1].get_window_extent()
    assert not legend.overlaps(label) or narrow
    for axes in figure.axes[:-1]:
        assert all(axes.bbox.x0 <= text.get_window_extent().x0 for text in axes.texts)
        notes = [text.get_window_extent() for text in axes.texts if "baseline" in text.get_text()]
        assert len(notes) == (0 if learns else 2)
        assert all(box.x1 <= axes.bbox.x1 for box in notes)


def test_a_baseline_that_did_not_learn_is_no_baseline(planter: Any) -> None:
    plant_shares(planter, {"lora": CONSTANT, "loca": 0.1, "vera": 0.2})
    figure = forest(board_of(planter))
    assert not isinstance(figure, Reason)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("baseline has no rank") == 2
    assert texts.count("did not learn") == 1


def test_one_method_is_compared_with_nothing(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2}, seeds=[1])
    assert isinstance(forest(board_of(planter)), Reason)


@pytest.mark.slow
def test_forty_methods_of_one_seed_are_drawn_the_same_each_time(planter: Any) -> None:
    for number in range(40):
        planter.run(0.5 + number / 100, method=f"method-{number:02}" + "x" * 40)
    first, second = (forests([board_of(planter)])[0] for _ in range(2))
    assert isinstance(first.wide, Picture)
    assert first == second
    assert first.name == "differences"
