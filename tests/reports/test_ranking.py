"""Intervals, tie groups and ranks follow from the per-example rows, or there is a reason why they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from parbench.reports.columns import Column
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.leaderboard_render import markdown
from parbench.reports.render import escape
from parbench.reports.statistics import Predictions, compare_all, estimate, rank_ranges, score_runs
from parbench.reports.tidy_frames import cells_frame, comparisons_frame, over_tasks_frame
from parbench.tasks.metrics.classification import METRICS

TASKS = ("glue/rte", "glue/sst2", "glue/qnli", "glue/wnli")
N = 300


def rows(quality: float, seed: int, task: str) -> pd.DataFrame:
    """Return rows of which about ``quality`` are right; methods of the same quality differ little."""
    labels = np.random.default_rng(len(task)).integers(0, 10, N)
    hard = np.random.default_rng(TASKS.index(task)).random(N)
    right = hard + np.random.default_rng([seed, round(1000 * quality)]).normal(0, 0.02, N) < quality
    examples = [f"validation:{row}" for row in range(N)]
    predicted = np.where(right, labels, (labels + 1) % 10)
    return pd.DataFrame({"example": examples, "subset": "", "label": labels, "prediction": predicted})


def plant(planter: Any, quality: dict[str, float], seeds: int = 4, tasks: tuple[str, ...] = TASKS) -> None:
    for task in tasks:
        for method, share in quality.items():
            for seed in range(seeds):
                table = rows(share, seed, task)
                score = float((table["label"] == table["prediction"]).mean())
                planter.run(score, metric="accuracy", task=task, method=method, seed=seed, rows=table, task_code=task)


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


def ranks(column: Column | None) -> dict[str, str]:
    assert column is not None
    return {row: str(standing.ranks) for row, standing in column.standings.items()}


def test_the_numbers_are_those_of_the_statistics(planter: Any) -> None:
    quality = {"good": 0.9, "like it": 0.905, "bad": 0.6}
    plant(planter, quality, tasks=TASKS[:1])
    column = board_of(planter).ranking.columns["glue/rte", "accuracy"]
    runs = {
        name: Predictions.of_runs({seed: rows(quality[name], seed, TASKS[0]) for seed in range(4)})
        for name in sorted(quality)
    }
    scores = score_runs(runs, METRICS["accuracy"])
    pairs = compare_all(scores)
    assert ranks(column) == {name: str(rank) for name, rank in rank_ranges(list(scores), pairs).items()}
    assert ranks(column) == {"bad": "3", "good": "1-2", "like it": "1-2"}
    for name in quality:
        found, expected = column.standings[name].estimate, estimate(scores[name], bounds=(0.0, 1.0))
        assert found.interval is not None
        assert expected.interval is not None
        assert (found.mean, found.interval.low) == pytest.approx((expected.mean, expected.interval.low), abs=1e-12)
    for one, other in zip(column.comparisons, pairs, strict=True):
        assert (one.a, one.b, one.paired) == (other.a, other.b, other.paired)
        assert one.adjusted_p_value == pytest.approx(other.adjusted_p_value, rel=1e-9)


def test_only_the_best_tie_group_is_bold(planter: Any) -> None:
    plant(planter, {"good": 0.9, "like it": 0.905, "bad": 0.6})
    board = board_of(planter)
    names = [row[0] for row in board.scores.rows]
    bold = {(names[row], board.scores.head[column]) for row, column in board.scores.bold}
    assert bold == {(name, head) for name in ("good", "like it") for head in board.scores.head[2:]}
    assert ranks(board.ranking.average) == {"bad": "3", "good": "1-2", "like it": "1-2"}
    bad, good, _ = board.scores.rows
    assert "[3]" in bad[2]
    assert "[1-2]" in good[2]
    shown = markdown(board)
    assert f"**{escape(good[2])}**" in shown
    assert f"**{escape(bad[2])}**" not in shown


def test_nothing_is_bold_where_all_may_be_best(planter: Any) -> None:
    plant(planter, {"one": 0.9, "two": 0.905}, tasks=TASKS[:1])
    board = board_of(planter)
    assert board.scores.bold == frozenset()
    assert ranks(board.ranking.columns["glue/rte", "accuracy"]) == {"one": "1-2", "two": "1-2"}


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_there_is_neither_interval_nor_rank(planter: Any, seeds: int) -> None:
    plant(planter, {"good": 0.9, "bad": 0.5}, seeds=seeds, tasks=TASKS[:1])
    board = board_of(planter)
    assert all(row[2].endswith(f"(n={seeds})") and "±" not in row[2] and "[" not in row[2] for row in board.scores.rows)
    assert board.scores.bold == frozenset()
    assert f"No ranks on glue/rte: n = {seeds}: the spread over seeds needs 3 seeds or more." in board.notes


def test_over_tasks(planter: Any) -> None:
    plant(planter, {"good": 0.9, "middling": 0.75, "bad": 0.6})
    board = board_of(planter)
    assert dict(board.ranking.over_tasks.mean_ranks) == {"bad": 3.0, "good": 1.0, "middling": 2.0}
    assert [row[3] for row in board.over_tasks.rows] == ["3.00", "1.00", "2.00"]
    assert any(
        note.startswith("Friedman's test over 4 tasks: chi-squared 8.00, p = 0.0183.")
        for note in board.over_tasks_notes
    )
    assert board.wins.rows[1] == ("good", "4/0/0", "—", "4/0/0")
    assert all("[" in row[2] for row in board.over_tasks.rows)
    for row in board.over_tasks.rows:
        assert row[1] == board.scores.rows[[other[0] for other in board.scores.rows].index(row[0])][-1]


def test_reasons_over_tasks(planter: Any) -> None:
    plant(planter, {"good": 0.9, "bad": 0.6}, tasks=TASKS[:2])
    planter.run(0.5, metric="accuracy", task=TASKS[0], method="half done", task_code=TASKS[0])
    board = board_of(planter)
    notes = " ".join(board.over_tasks_notes)
    assert "methods: 2, and Friedman's test needs 3 or more" in notes
    assert "Not ranked over tasks, for want of a score on some of them: half done." in notes
    assert board.over_tasks.rows[-1] == ("half done", "—", "—", "—")


def test_one_task_has_no_average(planter: Any) -> None:
    plant(planter, {"good": 0.9, "bad": 0.6}, tasks=TASKS[:1])
    board = board_of(planter)
    assert (board.over_tasks.rows, board.over_tasks_notes) == ((), ())


def test_runs_on_other_examples_are_not_compared(planter: Any) -> None:
    plant(planter, {"here": 0.9}, tasks=TASKS[:1])
    for seed in range(3):
        table = rows(0.5, seed, TASKS[0]).iloc[:200]
        score = float((table["label"] == table["prediction"]).mean())
        planter.run(score, metric="accuracy", task=TASKS[0], method="there", seed=seed, rows=table, data_revision="2")
    board = board_of(planter)
    column = board.ranking.columns["glue/rte", "accuracy"]
    assert column.reason == "not scored on the same examples"
    assert all(standing.estimate.interval is not None for standing in column.standings.values())


def test_repeated_seeds_and_unknown_tasks_have_no_interval(planter: Any) -> None:
    plant(planter, {"good": 0.9}, tasks=TASKS[:1])
    planter.run(0.5, metric="accuracy", task=TASKS[0], method="good", harness_code="another")
    for seed in range(3):
        planter.run(0.5, task="outside/task", method="good", seed=seed)
    notes = board_of(planter).notes
    assert "No interval of good on glue/rte: several runs of one seed." in notes
    assert any(
        note.startswith("No interval of good on outside/task: the scores could not be recomputed") for note in notes
    )


def test_other_seeds_on_other_tasks_have_an_average_and_no_interval(planter: Any) -> None:
    plant(planter, {"good": 0.9}, tasks=TASKS[:1], seeds=3)
    plant(planter, {"good": 0.9}, tasks=TASKS[1:2], seeds=4)
    average = board_of(planter).ranking.average
    assert average is not None
    assert average.standings["good"].estimate.reason == "other seeds on other tasks"
    assert average.standings["good"].estimate.sd is None


def test_the_tidy_numbers(planter: Any) -> None:
    plant(planter, {"good": 0.9, "bad": 0.6}, tasks=TASKS[:2])
    frame = read_frame(planter.store)
    boards = leaderboards(frame)
    cells = cells_frame(frame.runs, boards)
    assert list(cells["rank_best"]) == list(cells["rank_worst"]) == [2, 1, 2, 1]
    assert list(cells["best_group"]) == [False, True, False, True]
    assert ((cells["low"] < cells["mean"]) & (cells["mean"] < cells["high"])).all()
    over = over_tasks_frame(boards).set_index("method")
    assert over.loc["good", "average"] == pytest.approx(cells.loc[cells["method"] == "good", "mean"].mean())
    assert over.loc["good", "average_rank_worst"] == 1
    assert list(over["mean_rank"]) == [2.0, 1.0]
    pairs = comparisons_frame(boards)
    assert list(pairs["column"]) == ["glue/rte", "glue/sst2", "average over tasks"]
    assert (pairs["adjusted_p_value"] < 0.05).all()
