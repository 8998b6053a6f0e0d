"""Runs whose task is defined by a file, whose method is a prompt, or whose answers a judge rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.deployments import read_deployments
from parbench.bench.store.store import Store
from parbench.tasks.data.lock import RevisionLock
from tests.support.data import sentences, write_jsonl

DEFINITION: dict[str, Any] = {
    "name": "my/reviews",
    "kind": "classification",
    "reference": {"title": "Reviews", "year": 2026, "venue": "own data"},
    "data": {"folder": "reviews", "train": "train.jsonl", "reported": "test.jsonl"},
    "texts": ["sentence"],
    "label": "label",
    "labels": ["bad", "good"],
    "metrics": ["accuracy", "f1"],
}


@pytest.fixture(scope="module")
def my_task(tmp_path_factory: pytest.TempPathFactory):
    """A task file with its data beside it."""
    root = tmp_path_factory.mktemp("mine")
    for name, count, seed in (("train", 160, 0), ("test", 60, 1)):
        write_jsonl(root / "reviews" / f"{name}.jsonl", sentences(count, seed))
    file = root / "my_task.yaml"
    file.write_text(yaml.safe_dump(DEFINITION), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def my_store(tmp_path_factory: pytest.TempPathFactory, tiny_model, my_task) -> Store:
    store = Store(tmp_path_factory.mktemp("mine") / "store")
    store.prepare()
    overrides = Overrides(
        methods=("loca(n_frequency=50)", "prompt_tuning"),
        tasks=(str(my_task),),
        base_model=str(tiny_model),
        seeds=(1,),
        sets=("train.max_steps=8", "train.max_length=32", "loca.learning_rate=0.5"),
    )
    for run in make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs:
        record = execute_run(run, store, DataCache(), torch.device("cpu"))
        assert record.status == "ok", record.reason
    return store


@pytest.fixture
def mine(bench, my_store, tiny_model, monkeypatch):
    """Call `bench adapter` on the store."""
    monkeypatch.setattr("parbench.bench.deploy.measure.why_not_plain_peft", lambda *arguments: "not tried")

    def call(command, *arguments):
        return bench("adapter", command, *arguments, "--model", tiny_model, "--out", my_store.root)

    return call


def run_of(store: Store, method: str) -> str:
    (found,) = (record.run_id for record in store.scan() if record.spec.method == method)
    return found


@pytest.mark.parametrize("by", ["--task", "--data-root"])
def test_runs_of_a_task_file_are_measured(mine, bench, my_store, my_task, by):
    where = my_task if by == "--task" else my_task.parent
    result = mine("measure", run_of(my_store, "loca"), by, where, "--sizes", "2,32", "--again")
    assert result.code == 0, result.err
    (found,) = (entry for entry in read_deployments(my_store) if entry.kind == "LOCA")
    assert [conversion.rows for conversion in found.conversions] == [
        *("as_loaded.parquet", "lora_2.parquet", "lora_32.parquet")
    ]
    assert found.conversions[1].error > 1e-3 > 1e-5 > found.conversions[2].error
    assert bench("report", "--out", my_store.root).code == 0
    text = (my_store.root / "report" / "leaderboard.md").read_text(encoding="utf-8")
    (lost,) = (line for line in text.splitlines() if line.startswith("| loca | my/reviews | +"))
    # After a few steps its predictions are of one class.
    assert lost.endswith("| +0.0 \\[+0.0, +0.0\\], did not learn |")


def test_what_the_file_must_be_is_one_sentence(mine, my_store, my_task, tmp_path):
    def refused(*arguments):
        result = mine("measure", run_of(my_store, "loca"), "--again", *arguments)
        assert result.code == 2
        assert result.out == ""
        return result.err

    assert "name that file with --task" in refused()
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**DEFINITION, "metrics": ["f1"]}), encoding="utf-8")
    assert "defines my/reviews otherwise than run" in refused("--task", other)
    assert "there is no" in refused("--task", tmp_path / "nothing.yaml").lower()
    write_jsonl(tmp_path / "reviews" / "train.jsonl", sentences(160, seed=0))
    write_jsonl(tmp_path / "reviews" / "test.jsonl", sentences(60, seed=5))
    assert "the data of my/reviews is at revision" in refused("--data-root", tmp_path)


def test_an_export_needs_no_task_file(mine, my_store, tmp_path):
    for options in ((), ("--as", "lora"), ("--merged",)):
        target = tmp_path / "-".join(("export", *options))
        assert mine("export", run_of(my_store, "loca"), "--to", target, *options).code == 0
        card = (target / "README.md").read_text(encoding="utf-8")
        assert "| task | my/reviews: Reviews |" in card
        assert "| accuracy |" in card


def test_a_prompt_is_measured_as_far_as_it_goes(mine, bench, my_store, my_task):
    run = run_of(my_store, "prompt_tuning")
    assert mine("measure", run, "--task", my_task, "--sizes", "8", "--again").code == 0
    (found,) = (entry for entry in read_deployments(my_store) if entry.run_id == run)
    assert found.kind == "PROMPT_TUNING"
    assert {merge.reason for merge in found.merges} == {"it is a prompt before the input, and no update of weights"}
    loaded, converted = found.conversions
    assert (loaded.rows, converted.rows) == ("as_loaded.parquet", None)
    assert "it is a prompt" in converted.reason
    assert found.switched == ""
    assert found.mixed
    assert found.merged_seconds is None
    assert bench("report", "--out", my_store.root).code == 0
    assert "it loads no PROMPT_TUNING" in (my_store.root / "report" / "leaderboard.md").read_text(encoding="utf-8")
    result = mine("export", run, "--to", my_store.root / "x", "--as", "lora")
    assert result.code == 2
    assert "cannot be converted to a LoRA" in result.err
    result = mine("export", run, "--to", my_store.root / "x", "--merged")
    assert result.code == 2
    assert "cannot be merged" in result.err
