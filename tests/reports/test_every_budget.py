"""Methods of fixed size in leaderboards of several budgets."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from parbench.reports.conditions import DAGGER
from parbench.reports.contrasts import contrast_methods
from parbench.reports.every_budget import once
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.report import write_report
from tests.support.planter import LEDGER, Planter

COUNTS = {"9k": 9000, "2k": 2000}
BUDGETS = {text: {"asked": text, "parameters": count, "mode": "uniform"} for text, count in COUNTS.items()}
RTE = {"task": "glue/rte", "metric": "accuracy"}
FULL = {"method": "full", "setting": {"learning_rate": 1e-5}}
LARGE = replace(LEDGER, reported=1_000_000)


@pytest.fixture
def two_budgets(planter: Planter) -> Planter:
    """LoRA at two budgets, and full fine-tuning, which has none."""
    for text, budget in BUDGETS.items():
        setting = {"rank": len(text), "learning_rate": 0.001}
        planter.seeds([0.7, 0.72, 0.74], **RTE, budget=budget, setting={**setting, "alpha": budget["parameters"]})
    planter.seeds([0.8, 0.82, 0.84], **RTE, **FULL, ledger=LARGE)
    return planter


def test_one_run_stands_on_the_leaderboard_of_every_budget(two_budgets: Planter) -> None:
    boards = leaderboards(read_frame(two_budgets.store))
    assert [(board.cells["budget/parameters"].unique().tolist(), sorted(board.cells["row"])) for board in boards] == [
        ([2000], ["full", "lora"]),
        ([9000], ["full", "lora"]),
    ]
    for board in boards:
        scores = board.ranking.columns["glue/rte", "accuracy"].standings
        assert round(scores["full"].estimate.mean, 6) == 0.82
        # It has no size that a budget could change.
        assert str(board.sizes).endswith("Without a size to fit: full.")
    (small, large) = contrast_methods(two_budgets.store, "full", "lora").contrasts
    assert round(small.comparison.difference, 6) == round(large.comparison.difference, 6) == 0.1


@pytest.mark.usefixtures("_no_figures")
def test_it_is_counted_and_listed_once(two_budgets: Planter) -> None:
    report = write_report(two_budgets.store)
    folder = two_budgets.store.root / "report"
    assert "Runs: 9, of which 9 have a score." in (folder / "leaderboard.md").read_text(encoding="utf-8")
    listed = pd.read_csv(folder / "runs.csv")
    assert not listed["run_id"].duplicated().any()
    assert listed.loc[listed["method"] == "full", "budget"].isna().all()
    assert listed.loc[listed["method"] == "lora", "budget"].notna().all()
    assert len(report.frame.runs) == 12
    assert not any(len(board.noise.rows) for board in report.boards)


def test_without_budgets_nothing_changes(planter: Planter) -> None:
    planter.seeds([0.7, 0.72], **RTE)
    planter.seeds([0.8, 0.82], **RTE, **FULL)
    frame = read_frame(planter.store)
    assert len(frame.runs) == 4
    assert not frame.runs["every_budget"].any()
    (board,) = leaderboards(frame)
    assert sorted(board.cells["row"]) == ["full", "lora"]


def test_it_also_stands_beside_runs_without_a_budget(two_budgets: Planter) -> None:
    two_budgets.seeds([0.6, 0.62], **RTE, setting={"rank": 64, "learning_rate": 0.001})
    boards = leaderboards(read_frame(two_budgets.store))
    assert [sorted(board.cells["row"]) for board in boards] == [["full", "lora"]] * 3
    assert [board.cells["budget"].isna().all() for board in boards] == [False, False, True]


def test_on_a_task_without_budgets_it_stands_by_itself(two_budgets: Planter) -> None:
    two_budgets.seeds([0.9, 0.92], task="glue/mrpc", metric="accuracy", **FULL)
    boards = leaderboards(read_frame(two_budgets.store))
    assert [sorted(set(board.cells["column"])) for board in boards] == [["glue/rte"], ["glue/rte"], ["glue/mrpc"]]


def test_a_method_that_has_a_size_stands_at_its_own_budget_alone(two_budgets: Planter) -> None:
    two_budgets.seeds([0.9, 0.92], **RTE, method="vera", setting={"rank": 1})
    two_budgets.seeds([0.9, 0.92], **RTE, method="of_another_machine", setting={"rank": 1})
    boards = leaderboards(read_frame(two_budgets.store))
    assert [sorted(board.cells["row"]) for board in boards[:2]] == [["full", "lora"]] * 2
    assert sorted(boards[2].cells["row"]) == ["full", "of_another_machine", "vera"]


def test_its_trials_count_at_every_budget(two_budgets: Planter) -> None:
    for rate in (1e-5, 1e-4):
        two_budgets.run(
            None, **RTE, method="full", setting={"learning_rate": rate}, purpose="selection", selection_metrics={}
        )
    boards = leaderboards(read_frame(two_budgets.store))
    for board in boards:
        assert dict(zip(board.cells["row"], board.cells["trials"], strict=True)) == {"full": 2, "lora": 0}
        marked = [row[0] for row in board.scores.rows if DAGGER in " ".join(row)]
        assert marked == ["lora"]
        assert ("full", "learning_rate", "1e-05", "1e-05 to 0.0001", "2") in board.settings.rows


def test_settings_of_two_kinds_of_records_are_two_rows(two_budgets: Planter) -> None:
    """Records that have the budget in their spec stay at it."""
    two_budgets.seeds([0.5, 0.52], **RTE, method="full", setting={"learning_rate": 1e-3}, budget=BUDGETS["2k"])
    small, large = leaderboards(read_frame(two_budgets.store))
    assert sorted(small.cells["row"]) == ["full (learning_rate=0.001)", "full (learning_rate=1e-05)", "lora"]
    assert len(large.cells) == 2


def test_rows_of_one_run_are_one_row_again(two_budgets: Planter) -> None:
    runs = read_frame(two_budgets.store).runs
    distinct = once(runs)
    assert (len(runs), len(distinct)) == (12, 9)
    assert distinct.dtypes.equals(runs.dtypes)
