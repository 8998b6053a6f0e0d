"""A further setting of a method on one task, in leaderboards of planted stores."""

from __future__ import annotations

from parbench.reports.contrasts import contrast_methods
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from tests.support.planter import Planter

RATES = {"glue/rte": 0.001, "glue/sst2": 0.002, "glue/mrpc": 0.003}
NOTE = "Of several settings on a task"


def plant(planter: Planter, scores: list[float], rate: float | None = None, **rest: str) -> None:
    """Plant the runs of a method on all tasks, each at its own rate; or on RTE alone at another rate."""
    for task, own in RATES.items():
        if rate is None or task == "glue/rte":
            setting = {"rank": 8, "learning_rate": rate or own}
            planter.seeds(scores, metric="accuracy", task=task, setting=setting, **rest)


def board_of(planter: Planter) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


def scored(board: Leaderboard) -> dict[str, int]:
    """Return on how many tasks each row has a score."""
    return dict(board.cells.groupby("row")["column"].nunique())


def test_one_run_at_another_rate_leaves_the_row_whole(planter: Planter) -> None:
    plant(planter, [0.8, 0.82, 0.84])
    plant(planter, [0.7, 0.72, 0.74], method="vera")
    before = board_of(planter)
    assert scored(before) == {"lora": 3, "vera": 3}
    assert not [note for note in before.notes if NOTE in note]
    plant(planter, [0.95], rate=0.01)
    after = board_of(planter)
    assert scored(after) == {"lora": 3, "lora (learning_rate=0.01)": 1, "vera": 3}
    assert [note for note in after.notes if NOTE in note and "row of lora has" in note]
    # The average over tasks and the comparisons are those of the row that it had before.
    assert before.ranking.average is not None
    assert after.ranking.average is not None
    for row in ("lora", "vera"):
        same = (ranking.average.standings[row].estimate.mean for ranking in (before.ranking, after.ranking))
        assert next(same) == next(same)
    assert "lora (learning_rate=0.01)" not in after.ranking.average.standings


def test_both_settings_can_be_compared_by_name(planter: Planter) -> None:
    plant(planter, [0.8, 0.82, 0.84])
    plant(planter, [0.9, 0.92, 0.94], rate=0.01)
    (found,) = contrast_methods(planter.store, "lora", "lora (learning_rate=0.01)").contrasts
    assert found.task == "glue/rte"
    assert round(found.comparison.difference, 6) == -0.1
