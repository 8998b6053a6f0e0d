"""The other figures: costs with their Pareto front, differences to a baseline, mean ranks, training curves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import HISTORY
from parbench.reports.figures import (
    CAPTIONS,
    History,
    Reason,
    all_figures,
    critical_differences,
    heat_map,
    read_histories,
    score_vs_memory,
    score_vs_step_time,
    to_bytes,
    training_curves,
)
from parbench.reports.figures.ranks import cliques
from parbench.reports.figures.tradeoff import pareto
from parbench.reports.frame import read_frame
from parbench.reports.statistics import rank_over_tasks
from parbench.reports.tables import SMALL_LABEL, summarise


@pytest.fixture(autouse=True)
def _no_warning_is_let_through() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def several(planter: Any) -> Any:
    """Four methods, three tasks, one seed; each method better than the next on every task."""
    for number, method in enumerate(("full", "lora", "vera", "loca")):
        for task in ("glue/cola", "glue/rte", "glue/sst2"):
            planter.run(
                0.9 - number / 10,
                method=method,
                task=task,
                metric="matthews_correlation" if task == "glue/cola" else "accuracy",
                small=True,
                cost=replace(planter.cost, train_seconds=50.0 - 10 * number, peak_process_bytes=(4 - number) * 2**30),
            )
    return planter


def runs_of(planter: Any) -> pd.DataFrame:
    return read_frame(planter.store).runs


def drawn(figure: Figure | Reason) -> Figure:
    assert isinstance(figure, Figure)
    return figure


def of_scores(figures: dict[str, Figure | Reason]) -> dict[str, Figure | Reason]:
    """Return those that need no search of hyper-parameters, shares of the training split, two budgets, or profile."""
    others = (
        "score_vs_trials",
        "data_efficiency",
        "score_vs_budget",
        "score_vs_profiled_step",
        "score_vs_profiled_memory",
    )
    return {name: figure for name, figure in figures.items() if name not in others}


def means(axes: Axes) -> list[tuple[float, float]]:
    """Return where the means of settings stand, from left to right."""
    lines = [line for line in axes.lines if line.get_markersize() == 5]
    return sorted((float(x), float(y)) for line in lines for x, y in line.get_xydata())


def bars(axes: Axes) -> list[np.ndarray]:
    """Return the ends of every bar."""
    return list(axes.collections[0].get_segments())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize(
    ("costs", "scores", "front"),
    [
        ([1.0, 2.0, 3.0], [5.0, 6.0, 4.0], [0, 1]),
        ([1.0, 1.0, 2.0], [5.0, 6.0, 6.0], [1]),
        ([3.0], [1.0], [0]),
        ([2.0, 1.0, 1.0], [9.0, 3.0, 3.0], [1, 0]),
    ],
)
def test_the_front_is_what_nothing_beats(costs: list[float], scores: list[float], front: list[int]) -> None:
    assert pareto(costs, scores) == front


def test_memory_and_time_stand_where_they_were_measured(several: Any) -> None:
    memory = drawn(score_vs_memory(runs_of(several)))
    cola = memory.axes[0]
    assert np.allclose(means(cola), [(1.0, 60.0), (2.0, 70.0), (3.0, 80.0), (4.0, 90.0)])
    time = drawn(score_vs_step_time(runs_of(several))).axes[0]
    assert [x for x, _ in means(time)] == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert "peak process memory while training (GiB)" in texts(memory)


def test_memory_of_the_accelerator_goes_before_that_of_the_process(planter: Any) -> None:
    planter.run(0.5, cost=replace(planter.cost, peak_device_bytes=3 * 2**30))
    figure = drawn(score_vs_memory(runs_of(planter)))
    assert means(figure.axes[0]) == [(3.0, 50.0)]
    assert "peak accelerator memory while training (GiB)" in texts(figure)


def test_a_level_bar_goes_from_the_least_to_the_most(planter: Any) -> None:
    for seed, seconds in enumerate((40.0, 50.0, 90.0)):
        planter.run(0.5, seed=seed, cost=replace(planter.cost, train_seconds=seconds))
    axes = drawn(score_vs_step_time(runs_of(planter))).axes[0]
    upright, level = bars(axes)
    assert upright[:, 0] == pytest.approx([0.6, 0.6])
    assert level == pytest.approx(np.array([[0.4, 50.0], [0.9, 50.0]]))
    assert means(axes) == [(pytest.approx(0.6), 50.0)]


def test_intervals_go_before_standard_deviations(planter: Any) -> None:
    planter.seeds([0.5, 0.6, 0.7])
    runs = runs_of(planter)
    figure = drawn(score_vs_step_time(runs, summarise(runs).assign(low=0.45, high=0.8)))
    (upright,) = bars(figure.axes[0])
    assert upright[:, 1] == pytest.approx([45.0, 80.0])
    assert any("95 % interval of the mean" in " ".join(text.split()) for text in texts(figure))


def test_the_map_holds_differences_to_lora(several: Any) -> None:
    figure = drawn(heat_map(summarise(runs_of(several))))
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.texts]
    assert shown == [*["+10.0"] * 3, *["-20.0"] * 3, *["0.0"] * 3, *["-10.0"] * 3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["full", "loca", "lora", "vera"]
    assert any("difference to lora" in text for text in texts(figure))


def test_the_map_takes_the_baseline_that_is_asked_for_and_states_what_lacks(several: Any) -> None:
    failed = {"status": Status.DIVERGED, "reason": "The loss rose.", "metric": "accuracy", "task": "glue/rte"}
    several.run(method="dora", small=True, **failed)
    axes = drawn(heat_map(summarise(runs_of(several)), "full")).axes[0]
    assert [text.get_text() for text in axes.texts] == [*["0.0"] * 3, *["-30.0"] * 3, *["-10.0"] * 3, *["-20.0"] * 3]
    assert sum(bool(patch.get_hatch()) for patch in axes.patches) == 3


def test_there_is_no_map_without_a_baseline(planter: Any) -> None:
    planter.run(0.5, method="vera")
    planter.run(0.6, method="loca")
    reason = heat_map(summarise(runs_of(planter)))
    assert reason == Reason(
        "No leaderboard has a score of LoRA or full fine-tuning and another row to compare with it."
    )
    assert isinstance(heat_map(summarise(runs_of(planter)), "adalora"), Reason)


def test_ranks_are_drawn_with_the_critical_difference(several: Any) -> None:
    figure = drawn(critical_differences(summarise(runs_of(several))))
    message = texts(figure)
    # Nemenyi, 4 methods, 3 tasks: 2.569 sqrt(4 * 5 / (6 * 3)) (Demšar 2006, Table 5).
    assert "CD = 2.71" in message
    assert {"full", "lora", "vera", "loca"} <= set(message)
    assert any(SMALL_LABEL in " ".join(text.split()) for text in message)


def test_a_row_that_lacks_a_task_is_not_ranked_and_is_named(several: Any) -> None:
    several.run(0.99, method="dora", task="glue/rte", metric="accuracy", small=True)
    message = texts(drawn(critical_differences(summarise(runs_of(several)))))
    assert "dora" not in message
    assert "CD = 2.71" in message
    assert any("3 tasks, 1 incomplete row left out; Friedman p = 0.029" in text for text in message)


def test_lines_join_methods_that_are_not_distinguished() -> None:
    scores = pd.DataFrame({"a": [4.0] * 3, "b": [3.0] * 3, "c": [2.0] * 3, "d": [1.0] * 3})
    ranking = rank_over_tasks(scores)
    assert ranking.critical_difference == pytest.approx(2.708, abs=1e-3)
    assert cliques(ranking) == [("a", "c"), ("b", "d")]
    assert cliques(replace(ranking, critical_difference=0.5)) == []
    assert cliques(replace(ranking, critical_difference=9.0)) == [("a", "d")]


def test_too_few_methods_are_not_diagram(planted: Any) -> None:
    reason = critical_differences(summarise(runs_of(planted)))
    assert isinstance(reason, Reason)
    assert "Friedman's test needs 3 or more" in reason.text


def test_curves_are_those_logged(planter: Any) -> None:
    for seed, losses in enumerate(([1.0, 0.5], [0.8, 0.3, 0.1])):
        run = planter.run(0.5, seed=seed)
        entries = [{"step": 5 * (k + 1), "loss": loss, "learning_rate": 0.1} for k, loss in enumerate(losses)]
        entries += [{"step": 99, "eval_loss": 3.0}, {"step": 100, "loss": float("nan")}]
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (planter.store.runs / run.run_id / HISTORY).write_text(text, encoding="utf-8")
    runs = runs_of(planter)
    histories = read_histories(planter.store, runs["run_id"])
    assert sorted(history.steps for history in histories.values()) == [(5, 10), (5, 10, 15)]
    (axes,) = drawn(training_curves(runs, histories)).axes
    lines = sorted(tuple(np.asarray(line.get_ydata()).round(6)) for line in axes.get_lines())
    assert lines == [(0.8, 0.3, 0.1), (0.9, 0.4), (1.0, 0.5)]


def test_a_damaged_log_is_left_out(planter: Any) -> None:
    run = planter.run(0.5)
    (planter.store.runs / run.run_id / HISTORY).write_text('{"step": 1, "lo', encoding="utf-8")
    runs = runs_of(planter)
    assert read_histories(planter.store, runs["run_id"]) == {}
    assert training_curves(runs, {}) == Reason("No run left a training loss that can be read.")


def test_each_figure_without_data_gives_the_reason(planter: Any) -> None:
    planter.run(status=Status.ERROR, reason="It broke.", cost=None, ledger=None)
    figures = all_figures(read_frame(planter.store))
    assert list(figures) == list(CAPTIONS)
    assert all(isinstance(figure, Reason) and figure.text.endswith(".") for figure in figures.values())


def test_all_are_drawn_with_the_label_and_the_same_each_time(several: Any) -> None:
    frame = read_frame(several.store)
    histories = {run_id: History((1, 2), (1.0, 0.5)) for run_id in frame.runs["run_id"]}
    for name, figure in of_scores(all_figures(frame, histories=histories)).items():
        assert SMALL_LABEL in " ".join(" ".join(text.split()) for text in texts(drawn(figure))), name
    one, two = (drawn(heat_map(summarise(frame.runs))) for _ in range(2))
    assert to_bytes(one, "svg") == to_bytes(two, "svg")
    assert to_bytes(one, "png") == to_bytes(two, "png")


@pytest.mark.parametrize("name", ["$\\frac{$\n", "_漢字", "x" * 300])
def test_hostile_names_are_drawn_in_all(planter: Any, name: str) -> None:
    for number, method in enumerate((name, "lora", "vera")):
        for task in (name, "b"):
            planter.run(0.9 - number / 10, method=method, task=task, base_model=name, metric=name)
    frame = read_frame(planter.store)
    histories = {run_id: History((1,), (1.0,)) for run_id in frame.runs["run_id"]}
    figures = of_scores(all_figures(frame, histories=histories))
    assert all(isinstance(figure, Figure) for figure in figures.values())
