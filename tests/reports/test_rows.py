"""Which settings share a row, and how rows are called."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from parbench.reports.rows import board_labels, column_labels, row_labels

NO_SETTING = ("task", "method", "epochs", "share", "precision", "seed", "started")


def label(*runs: dict[str, Any]) -> list[str]:
    """Return the labels of runs given as ``{"task": ..., hyper-parameter: ...}``."""
    rows = []
    for run in runs:
        setting = {name: value for name, value in run.items() if name not in NO_SETTING}
        training = {"epochs": run.get("epochs", 3)}
        rows.append(
            {
                "curve": "c",
                "train_fraction": run.get("share", 1.0),
                "metric": "accuracy",
                "method": run.get("method", "lora"),
                "column": run["task"],
                "base_precision": run.get("precision", "float32"),
                "setting_id": json.dumps([setting, training, run.get("precision")], sort_keys=True),
                "setting": json.dumps(setting),
                "training": json.dumps(training),
                "seed": run.get("seed", 1),
                "started": run.get("started"),
            }
        )
    return list(row_labels(pd.DataFrame(rows)))


def test_one_setting_needs_no_name() -> None:
    assert label({"task": "a", "rank": 4}, {"task": "b", "rank": 4}) == ["lora", "lora"]


def test_another_setting_on_each_task_is_still_one_row() -> None:
    assert label({"task": "a", "lr": 0.1, "epochs": 3}, {"task": "b", "lr": 0.2, "epochs": 9}) == ["lora", "lora"]


def test_two_settings_on_one_task_are_two_rows_named_by_what_differs() -> None:
    assert label({"task": "a", "rank": 4, "lr": 0.1}, {"task": "a", "rank": 16, "lr": 0.1}) == [
        "lora (rank=4)",
        "lora (rank=16)",
    ]


def test_base_weights_that_are_not_in_float32_are_in_the_name() -> None:
    assert label({"task": "a", "precision": "nf4"}, {"task": "a", "method": "loca"}) == ["lora (base=nf4)", "loca"]
    assert label({"task": "a", "rank": 4, "precision": "nf4"}, {"task": "a", "rank": 4}) == [
        "lora (base=nf4)",
        "lora (base=float32)",
    ]


def test_base_weights_of_two_precisions_never_share_a_row() -> None:
    assert label({"task": "a"}, {"task": "b", "precision": "nf4"}) == ["lora (base=float32)", "lora (base=nf4)"]
    assert label({"task": "a", "lr": 1}, {"task": "a", "lr": 1, "precision": "int8"}, {"task": "b", "lr": 2}) == [
        "lora (base=float32)",
        "lora (base=int8)",
        "lora (base=float32)",
    ]


def test_training_counts_as_setting() -> None:
    assert label({"task": "a", "epochs": 3}, {"task": "a", "epochs": 5}) == [
        "lora (training.epochs=3)",
        "lora (training.epochs=5)",
    ]


def test_all_that_differs_between_rows_is_in_the_name() -> None:
    assert label({"task": "a", "rank": 4, "lr": 0.1}, {"task": "a", "rank": 8, "lr": 0.2}) == [
        "lora (lr=0.1, rank=4)",
        "lora (lr=0.2, rank=8)",
    ]


def test_what_differs_between_tasks_alone_is_not_in_the_name() -> None:
    """Learning rate and number of epochs differ, but no task has two numbers of epochs."""
    labels = label(
        {"task": "a", "lr": 0.1, "epochs": 3},
        {"task": "a", "lr": 0.01, "epochs": 3},
        {"task": "b", "lr": 0.1, "epochs": 9},
    )
    assert labels == ["lora (lr=0.1)", "lora (lr=0.01)", "lora (lr=0.1)"]


TUNED = [{"task": "a", "lr": 0.1}, {"task": "b", "lr": 0.2}, {"task": "c", "lr": 0.3}]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        # One more rate on one task: the row of the rates of each task stays whole.
        ([{"task": "a", "lr": 0.01}], ["lora", "lora", "lora", "lora (lr=0.01)"]),
        # Nothing but the order in which they were run tells which of two is the row's.
        (
            [{"task": "a", "lr": 0.01, "started": "2025-01-01"}, {"task": "a", "lr": 0.1, "started": "2025-01-02"}],
            ["lora (lr=0.1)", "lora", "lora", "lora", "lora (lr=0.1)"],
        ),
        # More seeds go before an earlier start.
        (
            [{"task": "a", "lr": 0.01, "started": "2025", "seed": seed} for seed in (1, 2)],
            ["lora (lr=0.1)", "lora", "lora", "lora", "lora"],
        ),
        (
            [{"task": "a", "lr": 0.1, "seed": 2}, {"task": "a", "lr": 0.01, "started": "2025"}],
            ["lora"] * 4 + ["lora (lr=0.01)"],
        ),
        # What tasks with only one setting have goes before both.
        (
            [{"task": "a", "lr": 0.2, "started": "2026"}, {"task": "a", "lr": 0.1, "seed": 2}],
            ["lora (lr=0.1)", "lora", "lora", "lora", "lora (lr=0.1)"],
        ),
        # The same further rate on two tasks is one further row.
        (
            [{"task": "a", "lr": 0.01}, {"task": "b", "lr": 0.01}],
            ["lora", "lora", "lora", "lora (lr=0.01)", "lora (lr=0.01)"],
        ),
        # Each precision has a row of its own, and its own further settings.
        (
            [{"task": "a", "lr": 0.01}, {"task": "b", "lr": 0.1, "precision": "nf4"}],
            [*["lora (base=float32)"] * 3, "lora (base=float32, lr=0.01)", "lora (base=nf4, lr=0.1)"],
        ),
    ],
)
def test_a_further_setting_on_one_task_leaves_the_row_of_the_others_whole(
    others: list[dict[str, Any]], expected: list[str]
) -> None:
    tuned = [{"started": "2025-06", **run} for run in TUNED]
    assert label(*tuned, *others) == expected


def test_settings_of_which_no_task_has_only_one_are_a_row_per_value() -> None:
    runs = [{"task": task, "lr": rate} for task, rate in (("a", 1), ("a", 2), ("b", 3), ("b", 4))]
    assert label(*runs) == [f"lora (lr={rate})" for rate in (1, 2, 3, 4)]


def test_a_size_sweep_with_learning_rates_tuned_for_each_task_makes_a_row_a_size() -> None:
    labels = label(
        {"task": "a", "rank": 4, "lr": 0.1},
        {"task": "a", "rank": 8, "lr": 0.2},
        {"task": "b", "rank": 4, "lr": 0.3},
        {"task": "b", "rank": 8, "lr": 0.4},
    )
    assert labels == ["lora (rank=4)", "lora (rank=8)", "lora (rank=4)", "lora (rank=8)"]


def test_a_full_grid_needs_both_keys() -> None:
    grid = [{"task": "a", "rank": rank, "lr": lr} for rank in (4, 8) for lr in (0.1, 0.2)]
    assert len(set(label(*grid))) == 4


def test_settings_with_equal_texts_are_distinguished() -> None:
    labels = label({"task": "a", "rank": 4}, {"task": "a", "rank": "4"}, {"task": "a", "rank": None}, {"task": "a"})
    assert labels == ["lora (rank=4)", 'lora (rank="4")', "lora (rank=null)", "lora (rank unset)"]


def test_methods_do_not_concern_each_other() -> None:
    assert label({"task": "a", "rank": 4}, {"task": "a", "rank": 8, "method": "vera"}) == ["lora", "vera"]


def test_shares_of_the_training_split_have_the_same_rows() -> None:
    runs = [{"task": "a", "rank": rank, "share": share} for share in (0.1, 1.0) for rank in (4, 8)]
    assert label(*runs[:3]) == ["lora (rank=4)", "lora (rank=8)", "lora (rank=4)"]
    tuned = [{"task": "a", "rate": 1, "share": 0.1}, {"task": "a", "rate": 2}]
    assert label(*tuned) == ["lora", "lora"]  # as with a setting of its own on each task


def columns(*runs: tuple[str, dict[str, Any] | None, dict[str, Any] | None]) -> list[str]:
    """Return the labels of columns, given task, options and definition."""
    texts = [(task, *(None if part is None else json.dumps(part) for part in parts)) for task, *parts in runs]
    table = pd.DataFrame(texts, columns=["task", "options", "definition"], dtype="string")
    return list(column_labels(table.assign(base_model="a")))


def test_a_column_is_called_by_its_task_and_the_options_that_differ() -> None:
    assert columns(("a", {"x": 1}, None), ("b", {"x": 2}, None)) == ["a", "b"]
    found = columns(("a", {"x": 1, "y": 2}, None), ("a", {"x": 1, "y": 3}, None), ("a", None, None), ("b", None, None))
    assert found == ["a (x=1, y=2)", "a (x=1, y=3)", "a (x unset, y unset)", "b"]


def test_two_definitions_of_a_task_are_two_columns() -> None:
    first, second, alike = columns(("a", None, {"k": 1}), ("a", None, {"k": 2}), ("a", None, {"k": 1}))
    assert first == alike != second
    assert first.startswith("a (definition=")


def on_boards(*runs: dict[str, Any]) -> list[set[int]]:
    """Return which of these runs share a leaderboard."""
    plain = {"small": False, "base_model": "a", "protocol": "strict", "limit": pd.NA, "evaluation_limit": pd.NA}
    rows = [{**plain, "budget": pd.NA, "train_fraction": 1.0, "column": "rte", **run} for run in runs]
    labels = board_labels(pd.DataFrame(rows))["board"]
    return [set(labels.index[labels == label]) for label in dict.fromkeys(labels)]


@pytest.mark.parametrize(
    ("runs", "boards"),
    [
        # Base models share a leaderboard, each at its own budget.
        ([{"budget": "24k: at most 24,000 (uniform)"}, {"base_model": "b", "budget": "9k: at most 9,000"}], [{0, 1}]),
        # What a budget amounts to depends on the base model.
        (
            [
                {"base_model": model, "budget": f"{share}: at most {count} (uniform)"}
                for model, counts in {"a": ("1,000", "2,000"), "b": ("10,000", "20,000")}.items()
                for share, count in zip(("0.1%", "0.2%"), counts, strict=True)
            ],
            [{0, 2}, {1, 3}],
        ),
        ([{}, {"budget": "24k: at most 24,000 (uniform)", "base_model": "b"}], [{0}, {1}]),
        # A limit of one task is no reason for another leaderboard, two limits of a task are.
        ([{"limit": 100}, {"column": "cola"}], [{0, 1}]),
        ([{"limit": 100}, {}, {"column": "cola"}], [{0}, {1, 2}]),
        ([{"evaluation_limit": 9}, {}], [{0}, {1}]),
        ([{"protocol": "another"}, {"column": "cola"}], [{0}, {1}]),
        ([{"small": True}, {"column": "cola"}], [{0}, {1}]),
        ([{"train_fraction": 0.5}, {"column": "cola"}], [{0}, {1}]),
    ],
)
def test_which_runs_share_a_leaderboard(runs: list[dict[str, Any]], boards: list[set[int]]) -> None:
    assert on_boards(*runs) == boards


def test_a_column_names_its_base_model_where_there_are_several() -> None:
    table = pd.DataFrame({"task": ["rte", "digits"], "base_model": ["a", "b"], "options": pd.NA, "definition": pd.NA})
    assert list(column_labels(table.astype("string"))) == ["rte with a", "digits with b"]
    assert list(column_labels(table.assign(base_model="a").astype("string"))) == ["rte", "digits"]
