"""A leaderboard warns of times that are no measurement of speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parbench.reports.caveats import warnings
from parbench.reports.frame import read_frame
from parbench.reports.tables import summarise


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        (
            {"shared_device": True},
            "shared accelerator: other runs were at work beside lora (1 run); their times are no measurement of speed, "
            "and are left out.",
        ),
        (
            {"core_wait_share": 0.25},
            "other work on the machine: lora (1 run) waited up to 25 % of the training for cores that other processes "
            "used; their times are no measurement of speed, and are left out.",
        ),
        ({"core_wait_share": 0.03}, None),
        ({"core_wait_share": None}, None),
    ],
)
def test_times_beside_other_work_are_warned_of(planter: Any, changed: dict[str, Any], warning: str | None) -> None:
    planter.run(0.5, seed=1, cost=replace(planter.cost, core_wait_share=0.0))
    slow = replace(planter.cost, train_seconds=90.0, evaluation_seconds=9.0)
    planter.run(0.5, seed=2, cost=replace(slow, **changed))
    runs = read_frame(planter.store).runs
    found = [text for text in warnings(runs) if "no measurement of speed" in text]
    assert found == ([] if warning is None else [warning])
    (cell,) = summarise(runs).to_dict("records")
    expected = (0.5, 3.0) if warning else (0.7, 6.0)
    assert (cell["train_seconds_per_step"], cell["evaluation_seconds"]) == pytest.approx(expected)


def test_rows_that_waited_are_in_one_warning(planter: Any) -> None:
    for method, shares in {"dora": (0.25, 0.5), "loca": (0.3, 0.1), "lora": (0.0, 0.0)}.items():
        for seed, share in enumerate(shares):
            planter.run(0.5, seed=seed, method=method, cost=replace(planter.cost, core_wait_share=share))
    (found,) = (text for text in warnings(read_frame(planter.store).runs) if "other work" in text)
    assert found.startswith(
        "other work on the machine: dora (2 runs) and loca (2 runs) waited up to 50 % of the training"
    )


def test_of_a_row_whose_runs_all_waited_no_time_is_shown(planter: Any) -> None:
    for seed in (1, 2):
        planter.run(0.5, seed=seed, cost=replace(planter.cost, core_wait_share=0.25))
    (cell,) = summarise(read_frame(planter.store).runs).to_dict("records")
    assert np.isnan(cell["train_seconds_per_step"])
    assert np.isnan(cell["evaluation_seconds"])
