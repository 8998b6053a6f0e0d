"""Which settings share a row, and how rows are called."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from reports.rows import row_labels


def label(*runs: dict[str, Any]) -> list[str]:
    """Return the labels of runs given as ``{"task": ..., hyper-parameter: ...}``."""
    rows = []
    for run in runs:
        setting = {name: value for name, value in run.items() if name not in ("task", "method", "epochs")}
        training = {"epochs": run.get("epochs", 3)}
        rows.append(
            {
                "small": False,
                "base_model": "b",
                "protocol": "p",
                "limit": pd.NA,
                "budget": pd.NA,
                "metric": "accuracy",
                "method": run.get("method", "lora"),
                "task": run["task"],
                "setting_id": json.dumps([setting, training], sort_keys=True),
                "setting": json.dumps(setting),
                "training": json.dumps(training),
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


def test_settings_that_read_alike_are_told_apart() -> None:
    labels = label({"task": "a", "rank": 4}, {"task": "a", "rank": "4"}, {"task": "a", "rank": None}, {"task": "a"})
    assert labels == ["lora (rank=4)", 'lora (rank="4")', "lora (rank=null)", "lora (rank unset)"]


def test_methods_do_not_concern_each_other() -> None:
    assert label({"task": "a", "rank": 4}, {"task": "a", "rank": 8, "method": "vera"}) == ["lora", "vera"]
