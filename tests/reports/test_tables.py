"""Tables say what the planted runs say, and warn of what does not belong together."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from parbench.bench.record.run_record import Status
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.tables import SMALL_LABEL, row_key, summarise


def boards_of(planter: Any) -> list[Leaderboard]:
    return leaderboards(read_frame(planter.store))


def board_of(planter: Any) -> Leaderboard:
    (board,) = boards_of(planter)
    return board


def test_known_means_and_deviations(planted: Any) -> None:
    cells = summarise(read_frame(planted.store).runs).set_index(["method", "task"])
    # Deviations by hand, divisor n - 1: 0.5, 0.6, 0.7 -> sqrt(0.02 / 2); 0.4, 0.5, 0.9 -> sqrt(0.14 / 2).
    expected = {
        ("lora", "glue/cola"): (0.6, 0.1, 3, 0),
        ("vera", "glue/cola"): (0.6, math.sqrt(0.07), 3, 0),
        ("lora", "glue/rte"): (0.75, math.sqrt(0.005), 2, 1),
        ("lora", "glue/stsb"): (0.9, 0.0, 3, 0),
    }
    for key, (mean, std, n_ok, n_failed) in expected.items():
        cell = cells.loc[key]
        assert cell["mean"] == pytest.approx(mean, abs=1e-12)
        assert cell["std"] == pytest.approx(std, abs=1e-12)
        assert (cell["n_ok"], cell["n_failed"]) == (n_ok, n_failed)
    assert math.isnan(cells.loc[("vera", "glue/rte"), "mean"])
    assert ("vera", "glue/stsb") not in cells.index


def test_cells_of_the_planted_store(planted: Any) -> None:
    board = board_of(planted)
    assert board.scores.head == (
        "method",
        "parameters",
        "glue/cola (matthews_correlation)",
        "glue/rte (accuracy)",
        "glue/stsb (pearson)",
        "average",
    )
    lora, vera = board.scores.rows
    assert re.fullmatch(r"60\.0 -\d+\.\d/\+\d+\.\d \(n=3\)", lora[2])
    assert lora[:2] + lora[3:4] == ("lora", "294,912", "75.0 (n=2, 1 diverged)")
    assert re.fullmatch(r"90\.0 -\d+\.\d/\+\d+\.\d \(n=3\)", lora[4])
    assert lora[5] == "75.0"  # the average of 60, 75 and 90
    assert re.fullmatch(r"60\.0 -\d+\.\d/\+\d+\.\d \(n=3, did not learn\)", vera[2])
    assert vera[:2] + vera[3:] == ("vera", "18,432", "out of memory", "not run", "—")
    assert board.scores.bold == frozenset()
    assert any("average is over all 3 tasks" in note for note in board.notes)
    assert board.warnings == ()
    assert board.label is None


def test_no_average_over_fewer_tasks_than_the_table_has(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.9, task="b")
    planter.run(0.9, task="b", method="vera")
    board = board_of(planter)
    assert board.scores.head[2:] == ("b (matthews_correlation)", "glue/cola (matthews_correlation)", "average")
    assert [row[2:] for row in board.scores.rows] == [
        ("90.0 (n=1)", "50.0 (n=1)", "70.0"),
        ("90.0 (n=1)", "not run", "—"),
    ]


def test_parameters_and_cost(planted: Any) -> None:
    costs = board_of(planted).costs
    assert costs.head[1:7] == ("reported", "trainable", "optimised", "frozen", "stored (bytes)", "head")
    lora = ("lora", "294,912", "294,912", "294,912", "0", "1,181,696", "592,130", "0.5", "1.00", "—")
    assert costs.rows[0] == lora  # 50 s / 100 steps; 2**30 bytes; no accelerator


def test_bytes_of_the_base_model_are_shown_where_records_have_them(planter: Any) -> None:
    planter.run(0.5, ledger=replace(planter.ledger, base_bytes=1234567))
    costs = board_of(planter).costs
    assert (costs.head[-1], costs.rows[0][-1]) == ("base model (bytes)", "1,234,567")


def test_cost_spans_the_tasks_and_leaves_failed_runs_out(planter: Any) -> None:
    slow = replace(planter.cost, train_seconds=100.0, peak_device_bytes=3 * 2**30)
    planter.run(0.5, cost=replace(planter.cost, peak_device_bytes=2**30), ledger=replace(planter.ledger, head=10))
    planter.run(0.5, task="b", cost=slow, ledger=replace(planter.ledger, head=1000))
    failed = replace(planter.cost, train_seconds=9999.0, peak_process_bytes=2**40)
    planter.run(task="b", seed=1, cost=failed, ledger=None, status=Status.TIMEOUT, reason="It took too long.")
    row = board_of(planter).costs.rows[0]
    assert row[6:] == ("10 to 1,000", "0.5 to 1", "1.00", "1.00 to 3.00")


def test_a_run_that_took_no_step_has_no_time_a_step(planter: Any) -> None:
    planter.run(0.5, cost=replace(planter.cost, train_seconds=0.0, train_steps=0))
    assert board_of(planter).costs.rows[0][7] == "—"


def test_one_seed_has_no_deviation(planter: Any) -> None:
    planter.run(0.8123)
    board = board_of(planter)
    assert board.scores.rows[0][2:] == ("81.2 (n=1)",)
    # Nor does a note explain one, or bold type, that is not there.
    assert board.notes[0] == "Scores are x100: mean over n runs, which differ in their seed."
    assert not any("Bold" in note for note in board.notes)


@pytest.mark.parametrize(
    ("endings", "text"),
    [
        ([Status.OUT_OF_MEMORY], "out of memory"),
        ([Status.SKIPPED, Status.SKIPPED], "skipped"),
        ([Status.DIVERGED, Status.DIVERGED], "2 diverged"),
        ([Status.ERROR, Status.TIMEOUT, Status.SKIPPED], "1 error, 1 skipped, 1 timeout"),
    ],
)
def test_cells_without_a_score_say_why(planter: Any, endings: list[Status], text: str) -> None:
    for seed, status in enumerate(endings):
        planter.run(0.99, status=status, reason="A reason.", seed=seed)
    assert board_of(planter).scores.rows[0][2] == text


def test_a_score_of_a_failed_run_is_in_no_mean(planter: Any) -> None:
    planter.seeds([0.5, 0.5])
    planter.run(0.0, status=Status.DIVERGED, reason="The loss rose.", seed=2)
    planter.run(None, seed=3)
    planter.run(None, seed=4)
    assert board_of(planter).scores.rows[0][2] == "50.0 (n=2, 1 diverged, 2 ok without a score)"


def test_two_settings_of_a_method_are_two_rows_never_one_mean(planter: Any) -> None:
    for rank in (16, 4):
        planter.seeds([rank / 100, rank / 100], setting={"rank": rank, "learning_rate": 0.001})
    assert [(row[0], row[2]) for row in board_of(planter).scores.rows] == [
        ("lora (rank=4)", "4.0 (n=2)"),
        ("lora (rank=16)", "16.0 (n=2)"),
    ]
    cells = summarise(read_frame(planter.store).runs)
    assert list(cells["row"]) == ["lora (rank=4)", "lora (rank=16)"]
    assert list(cells["mean"]) == [0.04, 0.16]


def test_a_setting_that_differs_between_tasks_is_reported(planter: Any) -> None:
    planter.run(0.5, setting={"rank": 4, "learning_rate": 0.1})
    planter.run(0.7, setting={"rank": 4, "learning_rate": 0.2}, task="b")
    board = board_of(planter)
    assert [row[0] for row in board.scores.rows] == ["lora"]
    assert "Settings that are not the same on all tasks: learning_rate of lora." in board.notes


@pytest.mark.parametrize("held", ["protocol", "limit", "small", "budget"])
def test_what_a_table_holds_fixed_makes_tables(planter: Any, held: str) -> None:
    planter.run(0.5)
    others = {"limit": 100, "small": True, "budget": {"asked": "24k", "parameters": 24_000, "mode": "uniform"}}
    planter.run(0.7, **{held: others.get(held, "another")}, seed=1)
    boards = boards_of(planter)
    assert sorted(board.scores.rows[0][2] for board in boards) == ["50.0 (n=1)", "70.0 (n=1)"]
    assert len({(board.title, board.label) for board in boards}) == 2


def test_the_tasks_of_all_base_models_share_a_table(planter: Any) -> None:
    for model, task, asked in (("a", "glue/cola", 24_000), ("b", "glue/rte", 9_000)):
        budget = {"asked": f"{asked}", "parameters": asked, "mode": "uniform"}
        limit = 100 if model == "b" else None
        planter.run(0.5, task=task, base_model=model, budget=budget, limit=limit)
    board = board_of(planter)
    assert board.title == (
        "a, b, protocol strict, limits by task, "
        "budgets 24000: at most 24,000 (uniform) for a; 9000: at most 9,000 (uniform) for b"
    )
    heads = ("glue/cola with a (matthews_correlation)", "glue/rte with b (matthews_correlation)", "average")
    assert board.scores.head[2:] == heads
    assert [fact for fact in board.facts if "model" in fact] == [
        "Base model a at revision model-1.",
        "Base model b at revision model-1.",
    ]
    assert "glue/rte with b: at most 100 examples of each split." in board.facts


def test_one_budget_of_several_base_models_is_named_once(planter: Any) -> None:
    for model, task, count in (("a", "glue/cola", 24_000), ("b", "glue/rte", 9_000)):
        budget = {"asked": "0.17%", "parameters": count, "mode": "uniform"}
        planter.run(0.5, task=task, base_model=model, budget=budget)
    title = "a, b, protocol strict, all examples, budget 0.17% (uniform): at most 24,000 for a, 9,000 for b"
    assert board_of(planter).title == title


def test_a_run_that_two_suites_ask_for_is_in_one_table(planter: Any) -> None:
    planter.run(0.5, suite="first")
    planter.run(0.6, suite="second", seed=1)
    board = board_of(planter)
    assert board.scores.rows[0][2] == "55.0 (n=2)"
    assert board.facts[0] == "Suites: first, second."
    assert list(summarise(read_frame(planter.store).runs)["suites"]) == ["first; second"]


BUDGET = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}


def test_a_budget_is_named_and_what_is_used_of_it_is_shown(planter: Any) -> None:
    planter.run(0.5, budget=BUDGET, ledger=replace(planter.ledger, reported=23_000))
    planter.run(0.5, budget=BUDGET, ledger=replace(planter.ledger, reported=24_600), method="vera")
    planter.run(0.5, budget={**BUDGET, "asked": "9k", "parameters": 9_000}, method="none", ledger=None)
    small, large = boards_of(planter)
    assert large.title.endswith("all examples, budget 24k: at most 24,000 (uniform)")
    assert small.title.endswith("budget 9k: at most 9,000 (uniform)")
    assert large.costs.head[1:3] == ("reported", "of budget")
    assert [row[2] for row in large.costs.rows] == ["95.8%", "102.5% OVER"]
    assert small.costs.rows[0][2] == "—"
    assert "of budget" not in board_of_no_budget(planter).costs.head


def board_of_no_budget(planter: Any) -> Leaderboard:
    planter.run(0.5)
    return boards_of(planter)[-1]


def test_small_suites_are_labelled(planter: Any) -> None:
    planter.run(0.5, small=True)
    assert board_of(planter).label == SMALL_LABEL
    assert list(summarise(read_frame(planter.store).runs)["label"]) == [SMALL_LABEL]


def test_heading_names_model_protocol_limit_budget_suite_data_and_revisions(planter: Any) -> None:
    planter.run(0.5, limit=64)
    board = board_of(planter)
    assert board.title == "roberta-base, protocol strict, at most 64 examples of each split, no budget"
    assert board.facts == (
        "Suite: planted.",
        "Base model roberta-base at revision model-1.",
        "Data of glue/cola: a planted source, revision data-1.",
    )


@pytest.mark.parametrize(
    ("field", "warning"),
    [
        ("data_revision", "mixed revisions: data of glue/cola: data-1 (1 run), other (1 run)."),
        ("model_revision", "mixed revisions: base model roberta-base: model-1 (1 run), other (1 run)."),
        ("data_source", "mixed sources: data of glue/cola: a planted source (1 run), other (1 run)."),
        ("method_code", "mixed code: method lora: method-1 (1 run), other (1 run)."),
        ("task_code", "mixed code: task glue/cola: other (1 run), task-1 (1 run)."),
        ("harness_code", "mixed code: harness with roberta-base: harness-1 (1 run), other (1 run)."),
    ],
)
def test_mixed_specs_are_warned_of(planter: Any, field: str, warning: str) -> None:
    planter.run(0.5)
    planter.run(0.7, seed=1, **{field: "other"})
    assert board_of(planter).warnings == (warning,)


@pytest.mark.parametrize("field", ["data_revision", "method_code", "task_code"])
def test_tasks_and_methods_of_their_own_are_not_mixed(planter: Any, field: str) -> None:
    planter.run(0.5)
    planter.run(0.7, **{field: "other"}, task="glue/rte", metric="accuracy", method="vera")
    assert board_of(planter).warnings == ()


@pytest.mark.parametrize("library", ["torch", "transformers", "peft"])
def test_mixed_versions_are_warned_of(planter: Any, library: str) -> None:
    versions = planter.provenance.versions
    planter.run(0.5)
    planter.run(0.5, seed=1, provenance=replace(planter.provenance, versions={**versions, library: "9"}))
    (warning,) = board_of(planter).warnings
    assert warning == f"mixed versions: {library} with roberta-base: {versions[library]} (1 run), 9 (1 run)."


def test_an_unknown_version_is_not_taken_for_the_known_one(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, seed=1, provenance=replace(planter.provenance, versions={}))
    warnings = board_of(planter).warnings
    assert len(warnings) == 3
    assert all("unknown (1 run)" in warning for warning in warnings)


def test_mixed_hardware_is_warned_of(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, seed=1, provenance=replace(planter.provenance, hardware={"processor": "loom"}))
    (warning,) = board_of(planter).warnings
    assert "processor with roberta-base: abacus (1 run), loom (1 run)" in warning


def test_a_seed_that_counts_twice_is_warned_of(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.7, harness_code="other")
    assert any(warning.startswith("repeated seeds: lora on glue/cola") for warning in board_of(planter).warnings)


def test_scores_that_are_not_fractions_are_shown_as_they_are(planter: Any) -> None:
    planter.seeds([0.5, 0.6])
    planter.seeds([5.5, 6.5], task="outside/chat", metric="judge_score")
    board = board_of(planter)
    assert board.scores.head[2:] == ("glue/cola (matthews_correlation)", "outside/chat (judge_score, as is)")
    assert board.scores.rows[0][2:] == ("55.0 (n=2)", "6.00 (n=2)")
    assert any("no average" in note for note in board.notes)


def test_negative_correlations_are_fractions_too(planter: Any) -> None:
    planter.seeds([-0.25, -0.25])
    planter.run(-0.0001, method="vera")
    assert [row[2] for row in board_of(planter).scores.rows] == [
        "-25.0 (n=2, did not learn)",
        "0.0 (n=1, did not learn)",
    ]


def test_one_task_with_two_primary_metrics_is_two_columns_and_no_average(planter: Any) -> None:
    planter.run(0.5, metric="accuracy")
    planter.run(0.7, metric="f1", seed=0, task_code="other")
    board = board_of(planter)
    assert board.scores.head[2:] == ("glue/cola (accuracy)", "glue/cola (f1)")
    assert board.scores.rows[0][2:] == ("50.0 (n=1)", "70.0 (n=1)")
    assert not any(warning.startswith("repeated seeds") for warning in board.warnings)


def test_rows_are_ordered_by_method_and_number() -> None:
    names = ["lora (rank=16)", "lora (rank=4)", "lora (lr=1e-05)", "lora (lr=0.001)", "lora"]
    ordered = sorted(names, key=lambda name: row_key({"method": "lora", "row": name}))
    assert ordered == ["lora", "lora (lr=1e-05)", "lora (lr=0.001)", "lora (rank=4)", "lora (rank=16)"]
