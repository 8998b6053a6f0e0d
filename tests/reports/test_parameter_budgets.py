"""Scores by parameter budget: one table per task, of the methods with two budgets or more."""

from __future__ import annotations

import math
from typing import Any

import pytest

from parbench.reports.figures import Reason, all_figures, score_vs_budget
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.parameter_budgets import budget_tables
from parbench.reports.report import write_report
from parbench.reports.tidy_frames import cells_frame


def plant_at(planter: Any, method: str, budgets: tuple[int, ...], scores: tuple[float, ...]) -> None:
    for limit, score in zip(budgets, scores, strict=True):
        budget = {"asked": f"{limit // 1000}k", "parameters": limit, "mode": "uniform"}
        for seed in range(3):
            where = {"task": "glue/rte", "task_code": "rte", "method": method, "method_code": method, "budget": budget}
            planter.run(score + 0.01 * seed, "accuracy", seed=seed, **where)


@pytest.mark.usefixtures("_no_figures")
def test_methods_stand_against_budgets(planter: Any) -> None:
    plant_at(planter, "lora", (100_000, 24_000), (0.80, 0.70))
    plant_at(planter, "loca", (24_000, 100_000), (0.75, 0.78))
    plant_at(planter, "vera", (24_000,), (0.6,))  # has one budget
    frame = read_frame(planter.store)
    (table,) = budget_tables(cells_frame(frame.runs, leaderboards(frame)))
    assert table.table.head == ("method", "at most 24,000", "at most 100,000")
    assert [[cell.partition(" ")[0] for cell in row] for row in table.table.rows] == [
        ["loca", "76.0", "79.0"],
        ["lora", "71.0", "81.0"],
    ]
    assert table.table.caption == "glue/rte (accuracy)"
    files = {path.name: path for path in write_report(planter.store).files}
    for name in ("index.html", "leaderboard.md"):
        assert "Scores by parameter budget" in files[name].read_text(encoding="utf-8")


def test_one_budget_makes_no_table(planter: Any) -> None:
    plant_at(planter, "lora", (24_000,), (0.7,))
    planter.seeds([0.7, 0.8], metric="accuracy", task="glue/rte", task_code="rte")  # without a budget
    frame = read_frame(planter.store)
    cells = cells_frame(frame.runs, leaderboards(frame))
    assert budget_tables(cells) == ()
    assert isinstance(score_vs_budget(cells), Reason)


def test_the_lines_of_the_figure(planter: Any) -> None:
    plant_at(planter, "lora", (100_000, 24_000), (0.80, 0.70))
    plant_at(planter, "loca", (24_000, 100_000), (0.75, 0.78))
    plant_at(planter, "vera", (24_000,), (0.6,))  # has one budget
    frame = read_frame(planter.store)
    figures = all_figures(frame, cells_frame(frame.runs, leaderboards(frame)))
    figure = figures["score_vs_budget"]
    assert not isinstance(figure, Reason)
    (axes,) = figure.axes
    loca, lora = (container.lines for container in axes.containers)
    assert loca[0].get_ydata() == pytest.approx([76, 79])
    assert lora[0].get_ydata() == pytest.approx([71, 81])
    assert (loca[0].get_xdata() + lora[0].get_xdata()) / 2 == pytest.approx([math.log10(24_000), 5])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["24,000", "100,000"]
    assert axes.get_title() == "glue/rte"
