"""The interactive figures hold the numbers of the leaderboards, and only text where a name is hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from parbench.reports.charts import REPLACED, Chart, charts_of
from parbench.reports.charts import charts as charts_module
from parbench.reports.charts.library import Library
from parbench.reports.conditions import DAGGER
from parbench.reports.differences import differences_on
from parbench.reports.display import Display, displayed
from parbench.reports.figures import CAPTIONS
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.statistics import expected_best
from tests.support.shares import CONSTANT, plant_shares

SHARES = {"lora": 0.25, "loca": 0.1, "vera": 0.3, "none": CONSTANT}
TASKS = ("glue/rte", "glue/sst2")
MEANS, RUNS = 2, 3  # layers of a view of costs
COSTS = {"lora": (10.0, 2.0**30, 1_000), "loca": (20.0, 2.0**31, 500), "vera": (20.0, 2.0**30, 200_000)}


@pytest.fixture(autouse=True)
def _no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts_module, "library", lambda: Library("", "", ""))


def charts(planter: Any, display: Display | None = None) -> dict[str, Chart]:
    frame = read_frame(planter.store)
    frame = displayed(frame, display) if display else frame
    found = charts_of(frame, leaderboards(frame))
    return {chart.name: chart for chart in found.every()} if found else {}


def values(view: Any, layer: int | None = None) -> list[dict[str, Any]]:
    return list((view if layer is None else view["layer"][layer])["data"]["values"])


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_differences_are_those_of_the_leaderboard(planter: Any) -> None:
    plant_shares(planter, SHARES, TASKS, costs=COSTS)
    chart = charts(planter)["chart-1-differences"]
    (board,) = leaderboards(read_frame(planter.store))
    assert len(chart.views) == len(TASKS)
    for view, task in zip(chart.views, TASKS, strict=True):
        assert view["title"]["text"] == [task, "roberta-base", "accuracy, points"]
        drawn = {one["row"]: one for one in values(view)}
        expected = differences_on(board.ranking.columns[task, "accuracy"], list(SHARES), "lora")
        for one in expected:
            found = drawn[one.row]
            assert found["note"] == one.note
            assert found["ranks"] == one.ranks
            if one.value is None:
                assert found["value"] is None
                continue
            assert found["value"] == pytest.approx(100 * one.value)
            if one.interval:
                assert (found["low"], found["high"]) == pytest.approx([100 * end for end in one.interval])
    aside = {(one["row"], one["measure"]): one["text"] for one in values(chart.aside)}
    assert (aside["loca", "step time"], aside["loca", "process memory"]) == ("2.00x", "2.00x")
    assert aside["vera", "parameters"] == "200x"
    assert chart.table.head[-3:] == ("step time / lora's", "memory / lora's", "parameters / lora's")
    assert [row[0] for row in chart.table.rows] == sorted(SHARES)


def test_a_hovered_point_shows_method_setting_score_interval_and_runs(planter: Any) -> None:
    plant_shares(planter, SHARES)
    runs = read_frame(planter.store).runs
    for name, layer in (("chart-1-differences", None), ("chart-1-costs", MEANS)):
        (view,) = charts(planter)[name].views
        (loca,) = [dict(one["hover"]) for one in values(view, layer) if one["method"] == "loca"]
        assert (loca["method"], loca["task"]) == ("loca", "glue/rte")
        assert loca["setting"] == "learning_rate = 0.001, rank = 8"
        (scores,) = leaderboards(read_frame(planter.store))
        standing = scores.ranking.columns["glue/rte", "accuracy"].standings["loca"].estimate
        assert loca["score"].startswith(f"{100 * standing.mean:.1f} ")
        assert loca["score"].endswith("(n = 4)")
        assert set(loca["runs"].split(", ")) == set(runs.loc[runs["method"] == "loca", "run_id"])


def test_every_run_is_a_point_that_opens_it(planter: Any) -> None:
    plant_shares(planter, SHARES, costs=COSTS)
    chart = charts(planter)["chart-1-costs"]
    runs = read_frame(planter.store).runs.set_index("run_id")
    points = values(chart.views[0], RUNS)
    assert {one["run"] for one in points} == set(runs.index)
    for one in points:
        assert one["score"] == pytest.approx(100 * runs.loc[one["run"], "score"])
    assert list(chart.choices or ()) == [
        "time of a training step (s)",
        "peak process memory while training (GiB)",
        "adapter parameters, as reported",
    ]
    means = {one["method"]: one for one in values(chart.views[0], MEANS)}
    assert means["loca"]["time of a training step (s)"] == pytest.approx(0.2)
    assert means["loca"]["peak process memory while training (GiB)"] == pytest.approx(2.0)
    assert chart.table.rows[[row[0] for row in chart.table.rows].index("loca")][3:] == ("0.2", "2", "500")
    assert "Hardware: processor abacus" in chart.caption


def test_an_axis_of_parameters_has_a_place_for_none(planter: Any) -> None:
    plant_shares(planter, SHARES, costs={"lora": (1.0, 1.0, 0), "loca": (1.0, 1.0, 500), "vera": (1.0, 1.0, 90_000)})
    choices = charts(planter)["chart-1-costs"].choices or {}
    axis = choices["adapter parameters, as reported"]
    assert axis["scale"]["type"] == "symlog"
    assert axis["axis"]["values"][0] == 0
    assert axis["axis"]["values"][-1] >= 294_912
    assert choices["time of a training step (s)"]["scale"]["type"] == "linear"


def test_runs_beyond_the_limit_are_no_points(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_shares(planter, SHARES)
    monkeypatch.setattr(charts_module, "MOST_POINTS", 15)
    chart = charts(planter)["chart-1-costs"]
    assert values(chart.views[0], RUNS) == []
    assert len(values(chart.views[0], MEANS)) == len(SHARES)
    assert "one run" not in chart.caption


def test_trials_are_the_expected_best(planter: Any) -> None:
    planter.run(0.5)
    for rank, score in ((1, 0.25), (2, 0.5), (4, 0.75)):
        planter.run(
            None,
            seed=9,
            purpose="selection",
            setting={"rank": rank},
            selection_metrics={"matthews_correlation": score},
        )
    chart = charts(planter)["trials"]
    (view,) = chart.views
    drawn = sorted((one["trials"], one["best"], one["low"], one["high"]) for one in values(view))
    curve = 100 * expected_best([0.25, 0.5, 0.75])
    for (k, best, low, high), (trials, (expected, spread)) in zip(
        drawn, zip(curve.index, curve.to_numpy(), strict=True), strict=True
    ):
        assert (k, best, low, high) == pytest.approx((trials, expected, expected - spread, expected + spread))
    assert chart.table.head == ("method", "task", "1 trial", "2 trials", "3 trials")
    assert chart.table.rows == (("lora", "glue/cola", "50.0", "66.7", "75.0"),)


def test_one_method_is_compared_with_nothing(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2})
    assert set(charts(planter)) == {"chart-1-costs"}
    assert not [name for names in REPLACED.values() for name in names if name not in CAPTIONS]


def test_without_a_score_there_is_no_chart(planter: Any) -> None:
    planter.run(status="error", reason="It is.")
    assert charts(planter) == {}


def test_a_renamed_method_is_called_so_in_every_chart(planter: Any) -> None:
    plant_shares(planter, SHARES)
    found = charts(planter, Display(names={"loca": "LoCA (ours)"}))
    for chart in found.values():
        names = list(texts(chart.content()))
        assert "LoCA (ours)" in names
        assert "loca" not in names


def test_an_untuned_score_is_marked(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1})
    planter.run(None, purpose="selection", task="glue/rte", task_code="glue/rte", seed=11, setting={"rank": 1})
    rows = {row[0]: row[2] for row in charts(planter)["chart-1-costs"].table.rows}
    assert DAGGER in rows["loca"]
    assert DAGGER not in rows["lora"]


def test_names_are_data_and_nothing_else(planter: Any) -> None:
    hostile = ["</script><b>", "datum.value", "{'expr': 'hidden'}", "hidden", "a\u2028b", '"quoted"']
    plant_shares(planter, {name: 0.1 + 0.02 * number for number, name in enumerate(hostile)}, seeds=[0, 1, 2])
    for chart in charts(planter).values():
        content = json.loads(json.dumps(chart.content()))
        for view in content["views"]:
            for layer in [view, *view["layer"]]:
                for transform in layer.get("transform", ()):
                    assert not any(name in str(transform) for name in hostile if name not in ("datum.value", "hidden"))
        assert all(name in set(texts(content)) for name in hostile)
