"""Every figure names the budget, the trials and the hardware, also where its file is shown alone."""

from __future__ import annotations

import json
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure

from parbench.bench.store.layout import HISTORY
from parbench.reports.conditions import conditions_of_boards
from parbench.reports.figures import CAPTIONS, all_figures, read_histories
from parbench.reports.figures.forest import forest, forests
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from tests.support.shares import plant_shares

BUDGET = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
TASKS = ("glue/mrpc", "glue/rte", "glue/sst2")
WORDS = ("budget 24k", "Tuned with 2 trials for each method and task", "Hardware: processor abacus")


def words(figure: Any) -> str:
    texts = (text.get_text() for text in figure.findobj(matplotlib.text.Text))
    return " ".join(" ".join(texts).split())


@pytest.fixture
def tuned(planter: Any) -> Any:
    """Four methods on three tasks at two shares of the training split, with searches and logged losses."""
    for share in (0.1, 1.0):
        methods = {"lora": 0.25, "loca": 0.1, "vera": 0.3, "full": 0.05}
        plant_shares(planter, methods, TASKS, seeds=[0, 1, 2], budget=BUDGET, train_fraction=share)
    for task in TASKS:
        for method in methods:
            for rank, score in ((1, 0.25), (2, 0.5)):
                found = {"accuracy": score}
                where = {"task": task, "task_code": task, "method": method, "budget": BUDGET, "metric": "accuracy"}
                planter.run(None, seed=9, purpose="selection", setting={"rank": rank}, selection_metrics=found, **where)
    for run_id in read_frame(planter.store).runs["run_id"]:
        (planter.store.runs / run_id / HISTORY).write_text(json.dumps({"step": 1, "loss": 0.5}) + "\n")
    return planter


def test_budget_trials_and_hardware_are_in_every_figure(tuned: Any) -> None:
    frame = read_frame(tuned.store)
    boards = [board for board in leaderboards(frame) if board.in_full]
    histories = read_histories(tuned.store, frame.runs["run_id"])
    drawn = all_figures(frame, histories=histories, boards=boards)
    figures = {name: figure for name, figure in drawn.items() if isinstance(figure, Figure)}
    assert set(CAPTIONS) - set(figures) == {
        "score_vs_budget",
        "score_vs_profiled_step",
        "score_vs_profiled_memory",
    }
    figures |= {f"differences {narrow}": forest(boards[0], narrow) for narrow in (False, True)}
    for name, figure in figures.items():
        for text in WORDS:
            assert text in words(figure), name
    for text in WORDS:
        assert text in forests(boards)[0].caption


def test_conditions_that_differ_name_their_leaderboards() -> None:
    same = [("A", ["Seeds: 1.", "Eight.", "Here."]), ("B", ["Seeds: 2.", "Eight.", "Here."])]
    assert conditions_of_boards(same) == "Eight. Here."
    assert conditions_of_boards([*same, ("C", ["Seeds: 1.", "None."]), ("D", [])]) == "A and B: Eight. Here. C: None."
    assert conditions_of_boards([]) == ""
    many = [(str(number), ["", f"{number}."]) for number in range(6)]
    assert conditions_of_boards(many).endswith("3: 3. 2 more: see the leaderboards.")
