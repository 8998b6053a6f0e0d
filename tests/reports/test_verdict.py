"""The verdict: every kind of sentence on stores whose truth is known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from parbench.bench.cli.report import report
from parbench.bench.plan.suite import load_suite, suite_text
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from parbench.reports.cost_ratios import baseline_row, cost_ratios
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.report import write_report
from parbench.reports.tables import summarise
from parbench.reports.verdict import UNLIMITED
from tests.support.shares import CONSTANT, plant_shares

TASKS = ("glue/rte", "glue/sst2")
TIE = {"lora": 0.2, "loca": 0.2, "vera": 0.2}
GAP = r"([+-]?\d+\.\d) points \[([+-]?\d+\.\d), ([+-]?\d+\.\d)\]"


def verdict_of(planter: Any, baseline: str | None = None) -> tuple[str, ...]:
    (board,) = leaderboards(read_frame(planter.store), baseline)
    assert 3 <= len(board.verdict) <= 6
    return board.verdict


def test_a_true_tie_is_called_one(planter: Any) -> None:
    means = plant_shares(planter, TIE, TASKS)
    tie, costs, limits = verdict_of(planter)
    assert tie.startswith(
        "glue/rte and glue/sst2: lora, loca and vera cannot be told apart (largest difference: lora minus vera "
    )
    assert re.search(r"\] on glue/rte and lora minus vera .*\] on glue/sst2\)\.$", tie)
    for task, (difference, low, high) in zip(TASKS, re.findall(GAP, tie), strict=True):
        assert float(difference) == pytest.approx(100 * (means[task, "lora"] - means[task, "vera"]), abs=0.051)
        assert float(low) < 0 < float(high)
    assert "better" not in tie + costs + limits


def test_a_true_winner_is_named_with_its_lead(planter: Any) -> None:
    means = plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": 0.3})
    winner, against, *_ = verdict_of(planter)
    lead = 100 * (means["glue/rte", "loca"] - means["glue/rte", "lora"])
    assert winner.startswith(
        f"glue/rte: loca is better than each of the 2 other methods; it leads lora, the next, by {lead:.1f} points ["
    )
    ((_, low, high),) = re.findall(GAP, winner)
    assert 0 < float(low) < lead < float(high)
    behind = 100 * (means["glue/rte", "vera"] - means["glue/rte", "lora"])
    assert against.startswith(f"Against lora: loca is better on glue/rte by {lead:.1f} points [")
    assert f"; vera is worse on glue/rte by {-behind:.1f} points [" in against


def test_of_two_methods_the_winner_is_named_once(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1})
    winner, costs, _ = verdict_of(planter)
    assert winner.startswith("glue/rte: loca is better than lora by 1")
    words = "time per training step, peak process memory, parameters"
    assert costs == f"Cost as a multiple of lora's ({words}): loca 1.00x, 1.00x, 1.00x."


def test_methods_that_lead_together_are_not_ordered(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.1, "loca": 0.1, "vera": 0.3})
    order, costs, _ = verdict_of(planter)
    assert re.match(r"glue/rte: (lora and loca|loca and lora) cannot be told apart; vera is worse than lo", order)
    assert costs.startswith("Cost")


def test_a_method_that_did_not_learn_is_named_and_compared_with_nothing(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": CONSTANT})
    sentences = verdict_of(planter)
    (unlearnt,) = (one for one in sentences if "did not learn" in one)
    assert unlearnt.startswith("glue/rte: loca is better than lora by ")
    assert unlearnt.endswith("]; vera did not learn (not above a constant prediction, 60.0).")
    assert unlearnt.count("vera") == 1
    assert all("vera" not in one for one in sentences if one != unlearnt and not one.startswith("Cost"))


def test_one_seed_decides_nothing(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1}, seeds=[1])
    untested, *_ = verdict_of(planter)
    assert untested == ("glue/rte: no difference could be tested (n = 1: the spread over seeds needs 3 seeds or more).")


def test_forty_methods_are_counted_where_they_cannot_be_listed(planter: Any) -> None:
    plant_shares(planter, {f"m{number:02}": 0.1 + 0.005 * number for number in range(40)}, TASKS, seeds=[1, 2, 3])
    sentences = verdict_of(planter, "m00")
    assert sum(map(len, sentences)) < 2_000
    order, other, against, costs, _ = sentences
    ((listed, more),) = re.findall(r"^glue/rte: (.*?) and (\d+) more cannot be told apart; m", order)
    assert other.startswith("glue/sst2: m")
    (board,) = leaderboards(read_frame(planter.store))
    column = board.ranking.columns["glue/rte", "accuracy"]
    unbeaten = {row for row, standing in column.standings.items() if standing.ranks and standing.ranks.best == 1}
    assert set(listed.split(", ")) < unbeaten
    assert len(unbeaten) == len(listed.split(", ")) + int(more)
    assert re.match(r"Against m00: m\d\d is worse on (all 2 tasks|glue/\w+) by ", against)
    assert re.search(r"; \d+ more differences, see the table; no difference is shown in \d+ more comp", against)
    assert costs.startswith("Cost as a multiple of m00's: time per training step 1.00x of each; ")


def test_a_single_method_is_compared_with_nothing(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2})
    untested, costs, _ = verdict_of(planter)
    assert untested == "glue/rte: no difference could be tested (fewer than two methods have a score)."
    assert costs == "Only lora has a score, so its cost is compared with nothing."


def test_costs_are_geometric_means_over_the_tasks(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2, "loca": 0.2}, costs={"lora": (10, 2**30, 1_000), "loca": (20, 2**31, 500)})
    slow = {"lora": (10.0, 2.0**30, 1_000), "loca": (80.0, 2.0**30, 500)}
    plant_shares(planter, {"lora": 0.2, "loca": 0.2}, TASKS[1:], costs=slow)
    cells = summarise(read_frame(planter.store).runs)
    ratio = cost_ratios(cells, "lora")["loca"]
    assert (ratio.time, ratio.memory, ratio.parameters) == pytest.approx((np.sqrt(2 * 8), np.sqrt(2 * 1), 0.5))
    assert verdict_of(planter)[1].endswith(", parameters): loca 4.00x, 1.41x, 0.50x.")


def test_a_base_model_is_named_where_a_task_is_on_several(planter: Any) -> None:
    for model, task in (("a", "glue/rte"), ("a", "glue/sst2"), ("b", "glue/sst2")):
        plant_shares(planter, {"lora": 0.3, "loca": 0.1}, [task], base_model=model)
    winner, *_ = verdict_of(planter)
    assert winner.startswith("glue/rte, glue/sst2 with a and glue/sst2 with b: loca is better than lora by ")


def test_a_cost_that_was_not_measured_is_left_out(planter: Any) -> None:
    for method in ("lora", "loca"):
        for seed in range(3):
            planter.run(0.5, method=method, method_code=method, seed=seed, cost=None, ledger=None)
    assert verdict_of(planter)[1] == "Costs were not measured."


def test_a_row_on_no_task_of_the_baseline_has_no_cost_in_it(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.1, "loca": 0.1})
    planter.seeds([0.6, 0.62, 0.64], metric="accuracy", task="glue/sst2", task_code="sst2", method="vera")
    (costs,) = [text for text in verdict_of(planter) if text.startswith("Cost as a multiple")]
    assert costs.endswith(": loca 1.00x, 1.00x, 1.00x.")


def test_a_run_without_a_score_is_named(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2, "loca": 0.2})
    planter.run(status=Status.DIVERGED, reason="It is.", method="vera", task="glue/rte", task_code="glue/rte")
    assert "glue/rte: there is no score of vera." in verdict_of(planter)
    planter.run(status=Status.DIVERGED, reason="It is.", method="dora", task="glue/rte", metric="accuracy", seed=1)
    assert re.match(r"glue/rte: lo\w+ and lo\w+ cannot .*; there is no score of dora\.$", verdict_of(planter)[0])


def test_many_tasks_take_no_more_than_three_sentences(planter: Any) -> None:
    tasks = ["glue/mrpc", "glue/qnli", "glue/qqp", "glue/rte", "glue/sst2"]
    for number, task in enumerate(tasks):
        tied = task == "glue/qnli"
        methods = {"lora": 0.2, "loca": 0.2 if tied else 0.05 + 0.01 * number}
        plant_shares(planter, methods | ({} if tied else {f"m{number}": 0.15}), [task])
    planter.run(0.5, "accuracy", task="glue/wnli", task_code="glue/wnli")
    planter.run(status=Status.DIVERGED, reason="It is.", method="vera", task="glue/wnli", metric="accuracy")
    first, second, rest, *_ = verdict_of(planter)
    assert first.startswith("glue/mrpc: loca is better than each of the 2 other methods; it leads m0, the next, by ")
    assert second.startswith("glue/qqp: loca is better than each of the 2 other methods; it leads m2, the next, by ")
    assert rest == (
        "Other tasks: methods differ on glue/rte and glue/sst2, see the table; no two methods can be told apart on "
        "glue/qnli; no difference could be tested on glue/wnli; did not learn: lora on glue/wnli; no score: vera on "
        "glue/wnli."
    )


def test_a_row_that_is_better_everywhere_has_one_clause(planter: Any) -> None:
    means = plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": 0.3}, TASKS)
    lead, against, *_ = verdict_of(planter)
    assert re.match(rf"glue/rte and glue/sst2: loca is better .*, the next, by {GAP} and {GAP}\.$", lead)
    gaps = sorted(100 * (means[task, "loca"] - means[task, "lora"]) for task in TASKS)
    ((least, _, _), (largest, _, _)) = re.findall(GAP, against.partition(";")[0])
    assert against.startswith("Against lora: loca is better on all 2 tasks by ")
    assert [float(least), float(largest)] == pytest.approx(gaps, abs=0.051)


def test_rows_that_are_worse_than_the_same_row_share_a_clause(planter: Any) -> None:
    plant_shares(planter, {"full": 0.1, "dora": 0.1, "vera": 0.25, "loca": 0.3})
    order, *_ = verdict_of(planter, "full")
    assert re.match(
        rf"glue/rte: \w+ and \w+ cannot be told apart; vera is worse than (\w+) by {GAP}, loca by {GAP}\.$", order
    )


def test_the_baseline_is_lora_or_the_one_asked_for(planter: Any) -> None:
    plant_shares(planter, {"loca": 0.3, "vera": 0.1, "bitfit": 0.2})
    cells = summarise(read_frame(planter.store).runs)
    assert baseline_row(cells) == "bitfit"
    assert any(one.startswith("Against vera: bitfit is worse on glue/rte by ") for one in verdict_of(planter, "vera"))
    plant_shares(planter, {"lora": 0.2})
    assert baseline_row(summarise(read_frame(planter.store).runs)) == "lora"
    with pytest.raises(UserError, match='there is no score of the baseline "vero"; did you mean "vera"'):
        verdict_of(planter, "vero")


def test_the_limits_are_those_of_the_suite(planter: Any) -> None:
    plant_shares(planter, TIE, suite="unheard-of")
    assert verdict_of(planter)[-1] == f"What this cannot show: {UNLIMITED}."


@pytest.mark.parametrize("suite", ["mini", "mini-tuned"])
def test_the_limits_of_a_shipped_suite_are_its_own_words(planter: Any, suite: str) -> None:
    plant_shares(planter, TIE, suite=suite, small=True)
    words = " ".join(load_suite("mini").cannot_show.split()).rstrip(".")
    assert verdict_of(planter)[-1] == f"What this cannot show: {words}."


def test_the_limits_of_a_tuned_suite_are_in_the_store(planter: Any) -> None:
    plant_shares(planter, TIE, suite="own-tuned")
    suite = load_suite("mini").model_copy(update={"name": "own-tuned", "cannot_show": "anything at all"})
    (planter.store.root / "tuned.yaml").write_text(suite_text(suite), encoding="utf-8")
    assert verdict_of(planter)[-1] == "What this cannot show: anything at all."
    (planter.store.root / "tuned.yaml").write_text("name: [", encoding="utf-8")
    assert verdict_of(planter)[-1] == f"What this cannot show: {UNLIMITED}."


@pytest.mark.usefixtures("_no_figures")
def test_the_verdict_comes_first_everywhere(planter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1, "<b>vera</b>": 0.3})
    sentences = verdict_of(planter)
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in write_report(planter.store).files
        if path.suffix in (".md", ".html")
    }
    report(out=planter.store.root, profile=None)
    shown = " ".join(capsys.readouterr().out.split())
    places = [shown.index(sentence) for sentence in sentences]
    assert places == sorted(places)
    assert places[-1] < shown.index("(accuracy)")
    page = files["index.html"]
    assert page.index("loca is better than each of the 2 other methods") < page.index("<table")
    assert "&lt;b&gt;vera&lt;/b&gt; is worse on glue/rte" in page
    assert "<b>vera" not in page
    markdown = files["leaderboard.md"]
    assert markdown.index("loca is better than each") < markdown.index("| method |")
