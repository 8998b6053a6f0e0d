"""The tidy frame holds every record, and what is no record is returned beside it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards


def test_one_row_per_run_with_all_that_was_recorded(planter: Any) -> None:
    record = planter.run(0.61, limit=100, seed=7)
    (row,) = read_frame(planter.store).runs.to_dict("records")
    assert row["run_id"] == record.run_id
    assert (row["method"], row["task"], row["base_model"], row["seed"]) == ("lora", "glue/cola", "roberta-base", 7)
    assert (row["status"], row["metric"], row["score"]) == ("ok", "matthews_correlation", 0.61)
    assert row["metric/matthews_correlation"] == 0.61
    assert (row["ledger/reported"], row["ledger/head"], row["limit"]) == (294_912, 592_130, 100)
    assert (row["cost/train_seconds"], row["cost/train_steps"]) == (50.0, 100)
    assert pd.isna(row["cost/peak_device_bytes"])
    assert (row["version/torch"], row["hardware/processor"], row["examples/train"]) == ("2.6.0", "abacus", 64)
    assert (row["data_source"], row["data_revision"], row["model_revision"]) == (
        "a planted source",
        "data-1",
        "model-1",
    )
    assert row["setting"] == '{"learning_rate": 0.001, "rank": 8}'


def test_a_budget_is_given_in_words_and_as_a_number(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, budget={"asked": "0.1%", "parameters": 124_055, "mode": "pattern"})
    runs = read_frame(planter.store).runs
    assert runs.loc[0, "budget"] == "0.1%: at most 124,055 (pattern)"
    assert runs.loc[0, "budget/parameters"] == 124_055
    assert runs.loc[1, ["budget", "budget/parameters"]].isna().all()


def test_setting_and_training_make_the_setting_id_and_the_seed_does_not(planter: Any) -> None:
    planter.seeds([0.5, 0.6])
    planter.run(0.7, setting={"rank": 16})
    planter.run(0.7, training={"epochs": 1})
    assert sorted(read_frame(planter.store).runs["setting_id"].value_counts()) == [1, 1, 2]


def test_only_runs_that_are_ok_have_a_score(planter: Any) -> None:
    planter.run(0.1, status=Status.DIVERGED, reason="The loss rose.")
    # A task that is not known may give any number.
    planter.run(math.nan, seed=1, task="outside/task")
    planter.run(math.inf, seed=2, task="outside/task")
    planter.run(None, seed=3)
    runs = read_frame(planter.store).runs
    assert len(runs) == 4
    assert runs["score"].isna().all()
    assert runs.loc[0, "metric/matthews_correlation"] == 0.1


def test_a_run_without_ledger_or_cost_is_a_row(planter: Any) -> None:
    planter.run(status=Status.ERROR, reason="It broke.", ledger=None, cost=None)
    row = read_frame(planter.store).runs.iloc[0]
    assert pd.isna(row["ledger/reported"])
    assert pd.isna(row["cost/train_seconds"])
    assert row["reason"] == "It broke."


def test_seeds_of_64_bits_are_kept(planter: Any) -> None:
    planter.run(0.5, seed=2**64 - 1)
    planter.run(0.5, seed=0)
    assert list(read_frame(planter.store).runs["seed"]) == [0, 2**64 - 1]


def test_unreadable_records_are_returned_and_not_dropped(planter: Any, damage: Callable[[str, str], None]) -> None:
    good, half, edited, missing = (planter.run(0.5, seed=seed).run_id for seed in range(4))
    damage(half, "half")
    damage(edited, "edited")
    damage(missing, "missing")
    frame = read_frame(planter.store)
    assert list(frame.runs["run_id"]) == [good]
    reasons = {entry.path.relative_to(planter.store.runs).parts[0]: entry.reason for entry in frame.unreadable}
    assert set(reasons) == {half, edited, missing}
    assert "not whole JSON" in reasons[half]
    assert "changed after it was written" in reasons[edited]
    assert "has no record.json" in reasons[missing]


def test_a_store_of_unreadable_records_gives_a_frame_without_rows(
    planter: Any, damage: Callable[[str, str], None]
) -> None:
    damage(planter.run(0.5).run_id, "half")
    frame = read_frame(planter.store)
    assert len(frame.unreadable) == 1
    assert frame.runs.empty
    assert {"run_id", "score", "row", "ledger/reported"} <= set(frame.runs.columns)


def test_an_empty_store_is_reported(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no runs in"):
        read_frame(store)
    with pytest.raises(UserError, match="there are no runs in"):
        read_frame(Store(tmp_path / "nowhere"))


def test_runs_of_two_machines_share_the_columns_of_both(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, seed=1, provenance=replace(planter.provenance, hardware={"gpu": "x"}, versions={}))
    runs = read_frame(planter.store).runs
    assert runs[["hardware/processor", "hardware/gpu", "version/peft"]].isna().to_numpy().tolist() == [
        [False, True, False],
        [True, False, True],
    ]


def test_importing_reports_imports_no_deep_learning_library() -> None:
    program = "import sys, parbench.reports.report; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_definition_share_and_what_was_measured_are_columns(planter: Any) -> None:
    planter.run(0.5, options={"b": [1], "a": "x"}, definition=None, train_fraction=0.25, evaluation_limit=7)
    planter.run(0.5, seed=1, measured={"before": -3.0, "after": -3.5}, retention="text-1")
    runs = read_frame(planter.store).runs.set_index("seed")
    assert runs["options"].fillna("none").tolist() == ['{"a": "x", "b": [1]}', "none"]
    assert runs["definition"].isna().all()
    assert runs.loc[0, ["train_fraction", "evaluation_limit"]].tolist() == [0.25, 7]
    assert runs.loc[1, ["retention", "retention/before", "retention/after"]].tolist() == ["text-1", -3.0, -3.5]
    assert runs["column"].tolist() == ['glue/cola (a="x", b=[1])', "glue/cola (a unset, b unset)"]


def test_a_repeat_knows_what_it_repeats(planter: Any) -> None:
    first = planter.run(0.5)
    second = planter.run(0.6, repeat=1)
    frame = read_frame(planter.store)
    assert frame.runs["repeat_of"].tolist() == frame.runs["run_id"].tolist() == [first.run_id]
    assert frame.aside[["run_id", "repeat_of", "repeat"]].to_numpy().tolist() == [[second.run_id, first.run_id, 1]]
    assert list(frame.left_out) == [first.run_id]


def test_the_score_of_a_search_is_that_of_its_own_metric(planter: Any) -> None:
    run = planter.run(None, purpose="selection", selection_metrics={"log_likelihood": -1.5, "accuracy": 0.5})
    again = replace(run, selection_primary="log_likelihood")
    planter.store.commit(again, planter.store.workspace(run.run_id))
    assert read_frame(planter.store).aside["selection_score"].tolist() == [-1.5]


def test_fewer_reported_examples_are_another_leaderboard(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.6, evaluation_limit=50)
    titles = [board.title for board in leaderboards(read_frame(planter.store))]
    assert titles == [
        "roberta-base, protocol strict, all examples, at most 50 of each subset reported, no budget",
        "roberta-base, protocol strict, all examples, no budget",
    ]
