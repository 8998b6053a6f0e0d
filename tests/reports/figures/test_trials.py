from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from parbench.bench.plan.suite import Tuning, load_suite
from parbench.bench.record.run_record import Status
from parbench.reports.figures import Reason, score_vs_trials
from parbench.reports.figures.trials import trials_of
from parbench.reports.frame import read_frame
from parbench.reports.statistics import expected_best


def search(planter: Any, method: str, scores: dict[int, list[float | None]]) -> None:
    """Plant trials: by rank, the selection score of each seed; ``None`` is a run that diverged."""
    for rank, by_seed in scores.items():
        for seed, score in enumerate(by_seed):
            planter.run(
                None,
                method=method,
                seed=1000 + seed,
                purpose="selection",
                setting={"rank": rank},
                status=Status.DIVERGED if score is None else Status.OK,
                reason="the loss was not finite at step 3" if score is None else None,
                selection_metrics={} if score is None else {"matthews_correlation": score},
            )


@pytest.fixture
def aside(planter: Any) -> pd.DataFrame:
    search(planter, "lora", {1: [0.25, 0.75], 2: [0.5, 0.75], 4: [0.25, 0.25]})
    search(planter, "loca", {1: [0.5, 0.5], 2: [0.5, None], 4: [0.75, 0.75]})
    planter.run(0.5)
    return read_frame(planter.store).aside


def test_a_trial_is_a_setting_and_its_score_the_mean_over_seeds(aside: pd.DataFrame) -> None:
    trials = trials_of(aside)
    assert sorted(trials["lora"], key=str) == [0.25, 0.5, 0.625]
    assert sorted(trials["loca"], key=str) == [0.5, 0.75, None]


def test_what_is_drawn_is_the_expected_best_of_k(aside: pd.DataFrame) -> None:
    figure = score_vs_trials(aside)
    assert isinstance(figure, Figure)
    left, right = figure.subfigs[0].axes
    drawn = [line.get_ydata().tolist() for line in left.lines]
    # The failed trial counts as the worst score seen on the task.
    assert pytest.approx((100 * expected_best([0.25, 0.5, 0.75])["expected"]).tolist()) in drawn
    assert pytest.approx((100 * expected_best([0.25, 0.5, 0.625])["expected"]).tolist()) in drawn
    assert left.get_ylabel() == "expected best\nmatthews_correlation x100"
    assert [line.get_ydata().tolist() for line in right.lines] == [[1, 1, 1], [2, 2, 2]]


def test_without_a_search_there_is_a_reason(planter: Any) -> None:
    planter.run(0.5)
    found = score_vs_trials(read_frame(planter.store).aside)
    assert isinstance(found, Reason)
    assert "bench tune" in found.text


def test_a_search_that_failed_throughout_is_reported(planter: Any) -> None:
    search(planter, "lora", {1: [None, None]})
    figure = score_vs_trials(read_frame(planter.store).aside)
    assert isinstance(figure, Figure)
    assert figure.subfigs[0].axes[0].get_title() == "every trial failed"


def test_trials_that_the_suite_records_are_drawn_where_the_store_has_none(planter: Any) -> None:
    for method in ("lora", "vera", "loca"):
        planter.run(0.5, method=method, suite="own-tuned")
    scores = {"lora": [0.25, 0.5], "vera": [0.5, None], "dora": [0.9, 0.9]}
    found = {
        method: {"best": 0, "metric": "matthews_correlation", "trials": [{"score": score} for score in tried]}
        for method, tried in scores.items()
    }
    tuning = Tuning(
        trials=2, selection_seeds=(9,), sampler="tpe", sampler_seed=0, base_model="x", found={"glue/cola": found}
    )
    suite = load_suite("mini").model_copy(update={"tuning": tuning})
    frame = read_frame(planter.store)
    figure = score_vs_trials(frame.aside, frame.runs, {"own-tuned": suite})
    assert isinstance(figure, Figure)
    left, _ = figure.subfigs[0].axes
    # Of DoRA there is no run, and of LoCA no trial.
    drawn = [line.get_ydata().tolist() for line in left.lines]
    assert drawn == [
        pytest.approx((100 * expected_best(tried)["expected"]).tolist()) for tried in ([0.25, 0.5], [0.5, 0.25])
    ]
    assert isinstance(score_vs_trials(frame.aside, frame.runs, {}), Reason)
