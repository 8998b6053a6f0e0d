"""The sanity gate: a row that does not beat a constant prediction is marked and ranked nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier

from parbench.bench.util.errors import UserError
from parbench.reports.columns import best_rows
from parbench.reports.constant import constant_score, has_learnt
from parbench.reports.contrasts import contrast_methods
from parbench.reports.examples import Examples, with_answers
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.report import write_report
from parbench.reports.statistics import RankRange, Scores, estimate
from parbench.tasks.metrics.classification import METRICS
from tests.support.planter import rows_with

N = 400
LABELS = (np.arange(N) < 240).astype(int)  # 60 % are of class 1
METHODS = {"constant": 1.0, "better": 0.2, "also": 0.21, "worse": 0.3}
TASKS = ("glue/rte", "glue/sst2")


def plant(planter: Any, methods: dict[str, float], tasks: tuple[str, ...] = TASKS) -> None:
    """Plant methods by their share of mistakes; that of ``constant`` is to say 1 of nearly everything."""
    for number, task in enumerate(tasks):
        hard = np.random.default_rng(number).random(N)
        for method, share in methods.items():
            for seed in range(4):
                noise = np.random.default_rng([seed, len(method)]).normal(0, 0.02, N)
                message = np.where(hard + noise < share, 1 - LABELS, LABELS)
                if method == "constant":
                    message = np.where(np.arange(N) % 100 == seed, 0, 1)
                rows = rows_with(LABELS, message)
                score = METRICS["accuracy"](LABELS, message)
                planter.run(score, "accuracy", task=task, task_code=task, method=method, seed=seed, rows=rows)


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


@pytest.mark.parametrize("labels", [[0, 0, 1, 2], [3, 3, 3, 1], [1, 0, 1, 0, 1]])
def test_the_constant_prediction_is_that_of_the_most_frequent_class(labels: list[int]) -> None:
    found = np.array(labels)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(found), 1)), found)
    expected = dummy.score(np.zeros((len(found), 1)), found)
    assert constant_score("accuracy", Examples(np.zeros(len(found), int), found)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews_correlation", "pearson"])
def test_no_constant_prediction_scores_more(metric: str) -> None:
    found = constant_score(metric, Examples(np.zeros(N, int), LABELS))
    assert found == pytest.approx(max(METRICS[metric](LABELS, np.full(N, value)) for value in (0, 1)))


def test_over_subsets_it_is_the_mean_of_one_class() -> None:
    labels, subsets = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    assert constant_score("accuracy", Examples(subsets, labels)) == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("size", [20, 277, 300, 408, 872, 2000])
def test_a_constant_prediction_has_learnt_nothing_however_its_score_is_rounded(size: int) -> None:
    for most in range(-(-size // 2), size + 1):
        constant = constant_score("accuracy", Examples(np.zeros(size, int), (np.arange(size) < most).astype(int)))
        found = estimate(Scores("a", (0,), np.array([most / size]), np.empty((0, 1)), 0))
        better = estimate(Scores("a", (0,), np.array([(most + 1) / size]), np.empty((0, 1)), 0))
        assert (has_learnt(found, constant), has_learnt(better, constant)) == (False, True)


@pytest.mark.parametrize("metric", ["bleu", "rating", "log_likelihood"])
def test_of_other_metrics_it_is_not_known(metric: str) -> None:
    assert constant_score(metric, Examples(np.zeros(N, int), LABELS)) is None
    assert constant_score("accuracy", Examples(np.zeros(N, int))) is None


def test_a_row_at_chance_is_marked_and_ranked_nowhere(planter: Any) -> None:
    plant(planter, METHODS)
    board = board_of(planter)
    column = board.ranking.columns["glue/rte", "accuracy"]
    assert column.constant == pytest.approx(0.6)
    assert {row for row, standing in column.standings.items() if not standing.learnt} == {"constant"}
    assert column.standings["constant"].ranks is None
    assert {str(standing.ranks) for row, standing in column.standings.items() if row != "constant"} == {"1-2", "3"}
    assert not any("constant" in (pair.a, pair.b) for pair in column.comparisons)
    (marked,) = (row for row in board.scores.rows if row[0] == "constant")
    assert all("did not learn" in text for text in marked[2:4])
    assert marked[4] == "\N{EM DASH}"
    assert board.ranking.average is not None
    assert "constant" not in board.ranking.average.standings
    assert set(board.ranking.over_tasks.mean_ranks) == {"better", "also", "worse"}
    assert any("a constant prediction scores 60.0" in note and note.endswith("constant.") for note in board.notes)


@pytest.mark.usefixtures("_no_figures")
def test_files_and_comparisons_show_it_too(planter: Any) -> None:
    plant(planter, METHODS, TASKS[:1])
    report = write_report(planter.store)
    cells = pd.read_csv(report.files[0].with_name("leaderboard.csv")).set_index("method")
    assert cells["learnt"].to_dict() == {"also": True, "better": True, "constant": False, "worse": True}
    assert "did not learn" in report.files[0].with_name("leaderboard.tex").read_text("utf-8")
    assert "did not learn" in report.page.read_text("utf-8")
    (contrast,) = contrast_methods(planter.store, "constant", "better").contrasts
    assert contrast.comparison.p_value is None
    assert "constant did not learn" in str(contrast.comparison.reason)
    with pytest.raises(UserError, match="nobody"):
        contrast_methods(planter.store, "nobody", "better")


def test_bold_stops_at_the_first_row_that_is_not() -> None:
    means = {"a": 0.9, "b": 0.8, "wide": 0.5, "c": 0.7}
    ranks = {"a": RankRange(1, 2), "b": RankRange(1, 2), "c": RankRange(3, 4), "wide": RankRange(1, 4)}
    assert best_rows(means, ranks, set(means)) == {"a", "b"}
    assert best_rows(means, ranks, {"b", "c", "wide"}) == set()  # the best could not be tested
    assert best_rows(means, dict.fromkeys(means, RankRange(1, 4)), set(means)) == set()


def texts_of(answers: list[list[str]], hits: list[bool], order: Any = None) -> pd.DataFrame:
    written = [wanted[0] if hit else "something else" for wanted, hit in zip(answers, hits, strict=True)]
    names = [f":{number}" for number in range(len(answers))]
    rows = pd.DataFrame({"example": names, "subset": "", "text": written, "references": answers})
    rows["exact_match"] = np.array(hits, dtype="float64")
    return rows if order is None else rows.iloc[order].reset_index(drop=True)


def test_of_texts_it_is_the_most_frequent_answer(planter: Any) -> None:
    """A model that always writes the one answer, in another order of the examples, has not learnt; one above it has."""
    answers = [[" yes"] if number % 5 < 3 else ["no "] for number in range(100)]
    always = [wanted == [" yes"] for wanted in answers]
    more = [hit or number % 2 == 0 for number, hit in enumerate(always)]
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(100)
        for method, hits in {"always": always, "more": more}.items():
            rows = texts_of(answers, hits, shuffled)
            score = float(rows["exact_match"].mean())
            planter.run(score, "exact_match", task="vl/one_digit_qa", method=method, seed=seed, rows=rows)
    column = board_of(planter).ranking.columns["vl/one_digit_qa", "exact_match"]
    assert column.constant == pytest.approx(0.6)
    assert {row: standing.learnt for row, standing in column.standings.items()} == {"always": False, "more": True}


def test_of_texts_with_several_answers_it_is_not_known() -> None:
    table = pa.table({"example": ["a", "b"], "subset": ["", ""], "exact_match": [0.0, 1.0]})
    several = pa.chunked_array([[["x", "y"], ["x"]]])
    assert with_answers(table, several) is table
    assert with_answers(table, pa.chunked_array([[["x"], None]])) is table
    labels = with_answers(table, pa.chunked_array([[["x "], [" x"]]]))["label"].to_pylist()
    assert labels[0] == labels[1]
