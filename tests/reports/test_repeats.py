"""Repeats of a seed show the effect of chance; they do not count as seeds, and differences within it are not wins."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from parbench.reports.contrasts import contrast_methods, contrast_stores
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.repeats import floors, repeats
from parbench.reports.report import write_report
from parbench.reports.tidy_frames import cells_frame, comparisons_frame

SMALL, LARGE = [0.80, 0.81, 0.82], [0.90, 0.91, 0.92]
RTE = {"task": "glue/rte", "metric": "accuracy", "task_code": "rte-1"}


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


@pytest.fixture
def close(planter: Any) -> Any:
    """Two methods, of which one is significantly better by ten points."""
    planter.seeds(SMALL, method="a", method_code="a", **RTE)
    planter.seeds(LARGE, method="b", method_code="b", **RTE)
    return planter


def repeat(planter: Any, scores: list[float], **spec: Any) -> None:
    for number, score in enumerate(scores, start=1):
        planter.run(score, repeat=number, **{**RTE, "method": "a", "method_code": "a", **spec})


def test_repeats_are_not_seeds(close: Any) -> None:
    before = board_of(close)
    repeat(close, [0.79, 0.82])
    after = board_of(close)
    assert list(after.cells["n_ok"]) == [3, 3]
    assert list(after.cells["mean"]) == list(before.cells["mean"])
    assert [row[:2] for row in after.scores.rows] == [row[:2] for row in before.scores.rows]
    assert after.warnings == before.warnings == ()
    estimates = [board.ranking.columns["glue/rte", "accuracy"].standings["a"].estimate for board in (before, after)]
    assert estimates[0] == estimates[1]


def test_the_spread_of_the_runs_of_one_seed(close: Any) -> None:
    repeat(close, [0.79, 0.82])
    repeat(close, [0.83], seed=1)
    repeat(close, [0.9, 0.1], seed=2, purpose="selection")
    repeated = repeats(read_frame(close.store))
    assert [part["score"].tolist() for _, part in repeated.groupby("repeat_of", sort=False)] == [
        [0.80, 0.79, 0.82],
        [0.81, 0.83],
    ]
    (floor,) = floors(repeated).values()
    squares = sum((x - 2.41 / 3) ** 2 for x in (0.80, 0.79, 0.82)) + 2 * 0.01**2  # around the mean of either seed
    assert floor.sd == pytest.approx(math.sqrt(squares / 3))
    assert (floor.degrees, floor.groups) == (3, 2)
    board = board_of(close)
    assert [row[:5] for row in board.noise.rows] == [
        ("a", "glue/rte (accuracy)", "0", "3", "80.33"),
        ("a", "glue/rte (accuracy)", "1", "2", "82.00"),
    ]
    assert [row[6] for row in board.noise.rows] == ["3.00", "2.00"]
    limit = 100 * stats.t.ppf(0.975, 3) * floor.sd * math.sqrt(2)
    assert board.noise_notes[0] == (
        f"On glue/rte (accuracy), runs of the same seed differ by chance, at 95%, by up to {limit:.2f} between single "
        f"runs, {limit / math.sqrt(3):.2f} between means of 3 runs (3 degrees of freedom)."
    )


def test_a_difference_below_the_floor_is_not_a_win(close: Any) -> None:
    before = board_of(close)
    assert {row: str(one.ranks) for row, one in before.ranking.columns["glue/rte", "accuracy"].standings.items()} == {
        "a": "2",
        "b": "1",
    }
    assert before.wins.rows[1] == ("b", "1/0/0", "—")
    repeat(close, [0.70, 0.90])
    after = board_of(close)
    column = after.ranking.columns["glue/rte", "accuracy"]
    (pair,) = column.comparisons
    assert pair.adjusted_p_value is not None
    assert pair.adjusted_p_value < 0.05
    expected = stats.t.ppf(0.975, 2) * 0.1 * math.sqrt(2 / 3)
    assert pair.noise_floor == pytest.approx(expected)
    assert {row: str(one.ranks) for row, one in column.standings.items()} == {"a": "1-2", "b": "1-2"}
    assert after.scores.bold == frozenset()
    assert after.wins.rows[1] == ("b", "0/1/0", "—")
    numbers = comparisons_frame([after])
    assert numbers["noise_floor"].tolist() == pytest.approx([expected])
    assert (cells_frame(read_frame(close.store).runs, [after])["rank_best"] == 1).all()


def test_a_difference_above_the_floor_is_one(close: Any) -> None:
    repeat(close, [0.8, 0.8])  # equal to the bit
    assert board_of(close).wins.rows[1] == ("b", "1/0/0", "—")
    assert ("a", "glue/rte (accuracy)", "0", "3", "80.00", "0.00", "0.00") in board_of(close).noise.rows


def test_the_floor_of_one_task_or_leaderboard_is_that_of_no_other(close: Any) -> None:
    for task in ("glue/rte", "glue/sst2"):
        for method, scores in (("a", SMALL), ("b", LARGE)):
            code = {"method": method, "method_code": method}
            close.seeds(scores, **{**RTE, "task": task, "task_code": task, "protocol": "another", **code})
    repeat(close, [0.70, 0.90], protocol="another", task_code="glue/rte")
    another, strict = leaderboards(read_frame(close.store))
    pairs = {key: column.comparisons[0] for key, column in another.ranking.columns.items()}
    assert pairs["glue/rte", "accuracy"].better() is None
    assert pairs["glue/sst2", "accuracy"].better() == "b"
    assert "No run was repeated, so that this limit is not known, on glue/sst2 (accuracy)." in another.noise_notes
    assert another.ranking.average is not None
    assert another.ranking.average.comparisons[0].noise_floor is None  # known of one task of two
    assert strict.wins.rows[1] == ("b", "1/0/0", "—")
    assert (strict.noise.rows, strict.noise_notes) == ((), ())
    repeat(close, [0.80, 0.80], protocol="another", task="glue/sst2", task_code="glue/sst2")
    average = leaderboards(read_frame(close.store))[0].ranking.average
    assert average is not None
    # Half of the floor of the one task that has any: the noise of tasks is independent.
    assert average.comparisons[0].noise_floor == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / 2 * math.sqrt(2 / 3))


def test_repeats_of_an_absent_run_give_the_noise_too(close: Any) -> None:
    repeat(close, [0.70, 0.90], method="c", seed=7)
    board = board_of(close)
    assert [row[0] for row in board.noise.rows] == ["c"]
    assert [row[0] for row in board.scores.rows] == ["a", "b"]
    assert board.wins.rows[1] == ("b", "0/1/0", "—")


@pytest.mark.usefixtures("_no_figures")
def test_the_report_contains_it_in_all_formats(close: Any) -> None:
    assert "Noise floor" not in write_report(close.store).files[0].read_text(encoding="utf-8")
    repeat(close, [0.70, 0.90])
    report = write_report(close.store)
    page, html = report.files[0].read_text(encoding="utf-8"), report.page.read_text(encoding="utf-8")
    for text in (page, html):
        assert "Noise floor" in text
        assert "it is no win and moves no rank, whatever its p-value" in text
    assert "| a | glue/rte (accuracy) | 0 | 3 | 80.00 | 10.00 | 20.00 |" in page
    listed = pd.read_csv(next(path for path in report.files if path.name == "runs.csv"))
    assert len(set(listed.loc[listed["repeat"] > 0, "repeat_of"])) == 1


def test_a_comparison_within_the_noise_is_marked(close: Any) -> None:
    assert contrast_methods(close.store, "b", "a").scores.rows[0][-1] == "b"
    repeat(close, [0.70, 0.90])
    compared = contrast_methods(close.store, "b", "a")
    assert compared.scores.rows[0][-1] == "within the noise floor"
    assert any(note.startswith("Within the noise floor: ") for note in compared.notes)
    same = contrast_stores(close.store, close.store, "a").contrasts
    assert [one.comparison.noise_floor is not None for one in same] == [True]
