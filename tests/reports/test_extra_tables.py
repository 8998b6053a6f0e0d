"""Scores of subsets and what is forgotten stand in tables of their own, where there are any."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.report import write_report
from parbench.reports.tables import NOTHING, SMALL_LABEL

# Of a task that is in no registry, so that any numbers will do.
QUESTIONS = {"task": "outside/questions", "metric": "accuracy"}


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


def plant(planter: Any, method: str, scores: list[tuple[float, float]], **spec: Any) -> None:
    for seed, (yes, no) in enumerate(scores):
        parts = {"accuracy_yes": yes, "accuracy_no": no, "f1": 0.9}
        planter.run((yes + no) / 2, others=parts, method=method, method_code=method, seed=seed, **{**QUESTIONS, **spec})


def test_a_table_of_subsets_where_metrics_are_called_after_them(planter: Any) -> None:
    plant(planter, "lora", [(0.8, 0.5), (0.9, 0.7)])
    plant(planter, "vera", [(0.6, 0.6)])
    planter.run(0.5)
    (table,) = board_of(planter).subsets
    assert table.caption == "outside/questions (accuracy)"
    assert table.head == ("method", "no", "yes")
    # Deviations by hand: 0.1 / sqrt(2) and 0.2 / sqrt(2).
    assert table.rows == (("lora", "60.0 ± 14.1", "85.0 ± 7.1"), ("vera", "60.0", "60.0"))


@pytest.mark.usefixtures("_no_figures")
def test_where_there_are_no_subsets_there_is_no_table(planter: Any) -> None:
    planter.run(0.5, others={"f1": 0.2, "matthews": 0.1})
    assert board_of(planter).subsets == ()
    assert board_of(planter).retention.rows == ()
    page = write_report(planter.store).files[0].read_text(encoding="utf-8")
    assert "Subsets" not in page
    assert "forgotten" not in page


def test_ratings_are_shown_as_they_are(planter: Any) -> None:
    for method, turns in (("a", (6.25, 5.5)), ("b", (7.0, None))):
        parts = {f"rating_turn_{number}": turn for number, turn in enumerate(turns, start=1) if turn}
        planter.run(6.0, metric="rating", task="outside/chat", method=method, others=parts)
    (table,) = board_of(planter).subsets
    assert table.caption == "outside/chat (rating, as is)"
    assert table.rows == (("a", "6.25", "5.50"), ("b", "7.00", NOTHING))


@pytest.mark.usefixtures("_no_figures")
def test_all_subsets_are_in_a_file(planter: Any) -> None:
    plant(planter, "lora", [(0.8, 0.5), (0.9, 0.7)], small=True)
    report = write_report(planter.store)
    found = pd.read_csv(next(path for path in report.files if path.name == "subsets.csv")).set_index("subset")
    assert found.loc["yes", ["label", "column", "metric", "n"]].tolist() == [
        SMALL_LABEL,
        "outside/questions",
        "accuracy",
        2,
    ]
    assert found["mean"].to_dict() == pytest.approx({"yes": 0.85, "no": 0.6})
    assert found.loc["yes", "std"] == pytest.approx(0.05 * 2**0.5)
    assert "### Subsets of outside/questions (accuracy) (protocol strict)" in report.files[0].read_text("utf-8")
    assert "Subsets of outside/questions (accuracy): roberta-base" in report.page.read_text("utf-8")


@pytest.mark.usefixtures("_no_figures")
def test_what_is_forgotten(planter: Any) -> None:
    for seed, after in enumerate((-3.5, -3.25)):
        planter.run(0.5, seed=seed, measured={"before": -3.0, "after": after}, retention="text-1")
    planter.run(0.5, method="vera", measured={"before": -3.0, "after": -2.75}, retention="text-1")
    planter.run(0.5, method="dora")
    planter.run(0.5, task="b")
    board = board_of(planter)
    assert board.retention.head == ("method", "glue/cola: before", "glue/cola: after", "glue/cola: change")
    assert board.retention.rows == (
        ("dora", NOTHING, NOTHING, NOTHING),
        ("lora", "-3.000", "-3.375", "-0.375 ± 0.177"),  # 0.25 / sqrt(2)
        ("vera", "-3.000", "-2.750", "+0.250"),
    )
    cells = board.cells.set_index(["method", "column"])
    names = ["retention_before", "retention_after", "retention_change"]
    assert cells.loc[("lora", "glue/cola"), names].tolist() == [-3.0, -3.375, -0.375]
    assert cells.loc[("dora", "glue/cola"), names].isna().all()
    report = write_report(planter.store)
    assert "below zero where something was forgotten" in report.files[0].read_text("utf-8")
    assert "What is forgotten of general text: roberta-base" in report.page.read_text("utf-8")


def test_other_general_text_is_warned_of(planter: Any) -> None:
    for seed in range(2):
        planter.run(0.5, seed=seed, measured={"before": -3.0, "after": -3.0}, retention=f"text-{seed}")
    planter.run(0.5, seed=2)
    (warning,) = board_of(planter).warnings
    assert warning == "mixed revisions: general text of roberta-base: text-0 (1 run), text-1 (1 run)."
