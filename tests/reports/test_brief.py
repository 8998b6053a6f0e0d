"""The result in a terminal: conditions, verdict and one table that fits."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from parbench.bench.cli.report import report
from parbench.bench.plan.notes import NOT_TUNED, TUNED_OTHERWISE
from parbench.bench.plan.suite import Tuning, load_suite, suite_text
from parbench.reports.brief import BriefLeaderboard, brief_table
from parbench.reports.conditions import UNTUNED_NOTE
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.report import write_report
from tests.support.planter import PROVENANCE
from tests.support.shares import CONSTANT, plant_shares

TASKS = [f"outside/task-{number}" for number in range(8)]


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


def printed(board: Leaderboard, width: int) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, force_terminal=False, color_system=None).print(BriefLeaderboard(board))
    return buffer.getvalue()


def test_the_table_has_each_score_as_short_as_it_can_be(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": CONSTANT})
    planter.run(None, status="error", method="bitfit", task="glue/rte", task_code="glue/rte", metric="accuracy")
    board = board_of(planter)
    table = brief_table(board)
    assert table.head == ("method", "parameters", "glue/rte (accuracy)")
    texts = {row[0]: row[2] for row in table.rows}
    assert texts["vera"] == "did not learn"
    assert texts["loca"].endswith("*")
    assert not texts["lora"].endswith("*")
    standing = board.ranking.columns["glue/rte", "accuracy"].standings["lora"].estimate
    assert standing.interval is not None
    half = max(standing.mean - standing.interval.low, standing.interval.high - standing.mean)
    assert texts["lora"] == f"{100 * standing.mean:.1f} ±{100 * half:.1f}"


@pytest.mark.parametrize("width", [40, 80, 100, 300])
def test_the_terminal_shows_the_verdict_and_a_table_that_fits(planter: Any, width: int) -> None:
    for number, task in enumerate(TASKS):
        planter.seeds([0.5, 0.6, 0.7], task=task, base_model=f"model-{number % 2}")
        planter.seeds([0.5, 0.6, 0.8], task=task, base_model=f"model-{number % 2}", method="vera")
    board = board_of(planter)
    text = printed(board, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, 100)
    flat = " ".join(text.split())
    for sentence in board.verdict:
        assert sentence in flat
    assert ("Not shown, for want of width: " in flat) == (width > 40)
    assert "outside/task-0" in text


def test_long_names_make_a_list_whose_lines_are_not_filled_up(planter: Any) -> None:
    for scale in range(3):
        long = {"learning_rate": 0.004816 + scale, "head_learning_rate": 0.01911 + scale, "r": 1 + scale}
        planter.seeds([0.5, 0.6, 0.7], setting={f"a_rather_long_name_of_{name}": value for name, value in long.items()})
    text = printed(board_of(planter), 100_000)
    assert "\n  parameters: " in text
    assert max(len(line) for line in text.splitlines()) < 250


@pytest.mark.usefixtures("_no_figures")
def test_untuned_cells_are_marked_everywhere(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1})
    planter.run(None, purpose="selection", task="glue/rte", task_code="glue/rte", seed=11, setting={"rank": 1})
    planter.run(None, purpose="selection", task="glue/rte", task_code="glue/rte", seed=11, setting={"rank": 2})
    written = write_report(planter.store)
    (board,) = written.boards
    assert "Tuned with 2 trials for each method and task." in board.conditions
    assert UNTUNED_NOTE in board.notes
    files = {path.name: path.read_text(encoding="utf-8") for path in written.files if path.suffix != ".parquet"}
    for text in (files["leaderboard.md"], files["index.html"], printed(board, 100)):
        rows = [line for line in text.splitlines() if re.search(r"\d\.\d (±|-\d)", line)]
        assert any("†" in line for line in rows if "loca" in line)
        assert not any("†" in line for line in rows if "lora" in line)
    assert files["leaderboard.tex"].count("$\\dagger$") == 2  # the cell and the note in the caption
    assert "Tuned with 2 trials" in files["leaderboard.tex"]
    assert ",untuned," in files["leaderboard.csv"].splitlines()[0]


def test_a_suite_that_records_its_trials_tells_which_settings_are_tuned(planter: Any) -> None:
    found = {"glue/rte": {"lora": {"best": 3}}}
    tuning = Tuning(
        trials=8, selection_seeds=(11,), sampler="x", sampler_seed=0, base_model="roberta-base", found=found
    )
    suite = load_suite("mini").model_copy(update={"name": "own-tuned", "tuning": tuning})
    (planter.store.root / "tuned.yaml").write_text(suite_text(suite), encoding="utf-8")
    plant_shares(planter, {"lora": 0.25, "loca": 0.1}, suite="own-tuned")
    assert dict(zip(board_of(planter).cells["row"], board_of(planter).cells["trials"], strict=True)) == {
        "lora": 8,
        "loca": 0,
    }


@pytest.mark.parametrize(
    ("tuned_at", "words"),
    [
        ("24000", "Tuned with 8 trials for each method and task."),
        ("9k", "Tuned with 8 trials for each method and task, at the budget 9k and not at this one."),
        (None, "Tuned with 8 trials for each method and task, at the budget none and not at this one."),
    ],
)
def test_settings_that_were_tuned_at_another_budget_are_said_to_be(
    planter: Any, tuned_at: str | None, words: str
) -> None:
    found = {"glue/rte": {method: {"best": 3} for method in ("lora", "loca", "full")}}
    searched = {"trials": 8, "selection_seeds": (11,), "sampler": "x", "sampler_seed": 0, "base_model": "roberta-base"}
    suite = load_suite("mini").model_copy(
        update={"name": "own-tuned", "tuning": Tuning(**searched, budget=tuned_at, found=found)}
    )
    (planter.store.root / "tuned.yaml").write_text(suite_text(suite), encoding="utf-8")
    limit = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
    plant_shares(planter, {"lora": 0.25, "loca": 0.1}, suite="own-tuned", budget=limit)
    plant_shares(planter, {"full": 0.3}, suite="own-tuned")
    (board,) = (one for one in leaderboards(read_frame(planter.store)) if "24k" in one.title)
    assert words in board.conditions
    elsewhere = (tuned_at or "none") if "not at" in words else ""
    # A method of fixed size has one setting for all budgets.
    assert board.cells.set_index("row")["tuned_at"].to_dict() == {"lora": elsewhere, "loca": elsewhere, "full": ""}


def test_of_two_suites_the_one_that_was_tuned_elsewhere_counts(planter: Any) -> None:
    limit = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
    searched = {"trials": 8, "selection_seeds": (11,), "sampler": "x", "sampler_seed": 0, "base_model": "roberta-base"}
    tried = []
    for budget in ("24k", "9k"):
        tuning = Tuning(**searched, budget=budget, found={"glue/rte": {"lora": {"best": 3}}})
        tried.append(load_suite("mini").model_copy(update={"name": f"at-{budget}", "tuning": tuning}))
    plant_shares(planter, {"lora": 0.25}, seeds=(0, 1), suite="at-24k", budget=limit)
    plant_shares(planter, {"lora": 0.25}, seeds=(2, 3), suite="at-9k", budget=limit)
    frame = replace(read_frame(planter.store), suites={suite.name: suite for suite in tried})
    (board,) = leaderboards(frame)
    assert "Tuned with 8 trials for each method and task, at the budget 9k and not at this one." in board.conditions


def test_a_tuned_value_at_an_end_of_its_search_space_is_reported(planter: Any) -> None:
    edge = "learning_rate 0.001 is at the low end of 0.001 to 0.1"
    searched = {"best": 0, "at_bounds": [edge], "trials": [{"learning_rate": 0.001}, {"learning_rate": 0.05}]}
    tuning = Tuning(
        trials=2,
        selection_seeds=(11,),
        sampler="x",
        sampler_seed=0,
        base_model="roberta-base",
        found={"glue/rte": {"lora": searched, "loca": {**searched, "at_bounds": []}}},
    )
    suite = load_suite("mini").model_copy(update={"name": "own-tuned", "tuning": tuning})
    (planter.store.root / "tuned.yaml").write_text(suite_text(suite), encoding="utf-8")
    plant_shares(planter, {"lora": 0.25, "loca": 0.1}, suite="own-tuned")
    notes = [note for note in board_of(planter).notes if "an end of what was searched" in note]
    assert [note.partition(": ")[2] for note in notes] == [f"lora on glue/rte, {edge}."]


def test_the_note_of_a_run_says_that_it_was_not_tuned(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25})
    noted = replace(PROVENANCE, notes=(NOT_TUNED,))
    planter.run(0.5, "accuracy", task="glue/rte", task_code="glue/rte", method="loca", provenance=noted)
    for method in ("lora", "loca"):
        planter.run(None, purpose="selection", task="glue/rte", task_code="glue/rte", seed=11, method=method)
    assert board_of(planter).cells.set_index("row")["untuned"].to_dict() == {"lora": False, "loca": True}


def test_a_setting_that_is_not_the_best_trial_was_not_tuned(planter: Any) -> None:
    """Whatever the notes of its run say: those of an earlier version have none."""
    searched = {"best": 1, "trials": [{"learning_rate": 0.05}, {"learning_rate": 0.001, "score": 0.5}]}
    tuning = Tuning(
        trials=2,
        selection_seeds=(11,),
        sampler="x",
        sampler_seed=0,
        base_model="roberta-base",
        found={"glue/rte": dict.fromkeys(("lora", "loca"), searched)},
    )
    suite = load_suite("mini").model_copy(update={"name": "own-tuned", "tuning": tuning})
    (planter.store.root / "tuned.yaml").write_text(suite_text(suite), encoding="utf-8")
    plant_shares(planter, {"lora": 0.25}, suite="own-tuned")
    plant_shares(planter, {"loca": 0.1}, suite="own-tuned", setting={"rank": 8, "learning_rate": 0.002})
    assert board_of(planter).cells.set_index("row")["trials"].to_dict() == {"lora": 2, "loca": 0}


def test_settings_that_were_tuned_with_another_training_are_said_to_be(planter: Any) -> None:
    noted = replace(PROVENANCE, notes=(TUNED_OTHERWISE,))
    for method, provenance in (("lora", PROVENANCE), ("loca", noted)):
        planter.run(0.5, "accuracy", task="glue/rte", task_code="glue/rte", method=method, provenance=provenance)
        planter.run(None, purpose="selection", task="glue/rte", task_code="glue/rte", seed=11, method=method)
    board = board_of(planter)
    assert board.cells.set_index("row")["tuned_otherwise"].to_dict() == {"lora": False, "loca": True}
    otherwise = "those on glue/rte with another training, or on other data, than these runs"
    assert f"Tuned with 1 trials for each method and task; {otherwise}." in board.conditions


def test_without_any_trial_nothing_is_marked(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1})
    board = board_of(planter)
    assert board.conditions[1].startswith("No trials of hyper-parameters are recorded")
    assert "†" not in json.dumps(board.scores.rows, ensure_ascii=False)


def test_sizes_that_do_not_match_are_called_so(planter: Any) -> None:
    costs = {"lora": (1.0, 1.0, 10_000), "loca": (1.0, 1.0, 9_600)}
    plant_shares(planter, {"lora": 0.25, "loca": 0.1}, costs=costs, seeds=[1])
    assert board_of(planter).sizes is None
    plant_shares(planter, {"vera": 0.25}, costs={"vera": (1.0, 1.0, 2_000)}, seeds=[1])
    assert board_of(planter).sizes == (
        "Sizes are not matched: there is no budget, and on glue/rte the parameters go from 2,000 (vera) to "
        "10,000 (lora)."
    )


def test_sizes_off_the_budget_are_named(planter: Any) -> None:
    budget = {"asked": "10k", "parameters": 10_000, "mode": "uniform"}
    costs = {"lora": (1.0, 1.0, 9_900), "loca": (1.0, 1.0, 9_400), "vera": (1.0, 1.0, 100_000)}
    plant_shares(planter, {"lora": 0.25}, costs=costs, seeds=[1], budget=budget)
    # It was run without a budget, which has nothing to change of it.
    plant_shares(planter, {"full": 0.1}, costs={"full": (1.0, 1.0, 1_000_000)}, seeds=[1])
    assert board_of(planter).sizes == "Without a size to fit: full."
    plant_shares(planter, {"loca": 0.1, "vera": 0.1}, costs=costs, seeds=[1], budget=budget)
    assert board_of(planter).sizes == (
        "Sizes are not matched; farther than 5% from the budget, in per cent of it: loca (94 %), vera (1,000 %). "
        "Without a size to fit: full."
    )


@pytest.mark.usefixtures("_no_figures")
def test_full_prints_every_table(planter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1})
    report(out=planter.store.root, profile=None)
    brief = capsys.readouterr().out
    report(out=planter.store.root, profile=None, full=True)
    full = capsys.readouterr().out
    assert "bench report --full" in brief
    assert "stored" not in brief
    assert "stored" in full
