"""A leaderboard warns of times that are no measurement of speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parbench.reports.caveats import warnings
from parbench.reports.frame import read_frame


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        (
            {"shared_device": True},
            "shared accelerator: other runs were at work beside lora (1 run); the times are no measurement of speed.",
        ),
        (
            {"core_wait_share": 0.25},
            "other work on the machine: lora (1 run) waited up to 25 % of its training for cores that other processes "
            "used; the times are no measurement of speed.",
        ),
        ({"core_wait_share": 0.03}, None),
        ({"core_wait_share": None}, None),
    ],
)
def test_times_beside_other_work_are_warned_of(planter: Any, changed: dict[str, Any], warning: str | None) -> None:
    planter.run(0.5, seed=1, cost=replace(planter.cost, core_wait_share=0.0))
    planter.run(0.5, seed=2, cost=replace(planter.cost, **changed))
    found = [text for text in warnings(read_frame(planter.store).runs) if "no measurement of speed" in text]
    assert found == ([] if warning is None else [warning])
