"""The printed command plans the recommended runs: with their seeds it finds them done."""

import re
import shlex
from dataclasses import asdict

import pytest

from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol
from parbench.reports.recommend import stores
from parbench.tasks.data.lock import RevisionLock
from tests.support.planter import Planter, rows_with
from tests.support.shares import LABELS

LENGTH = ("train.max_length=48",)
OF_MANY_KINDS = (
    *("lora.target_modules=[query,key]", "lora.layers=[1]", "lora.alpha=8", "lora.learning_rate=1.0e-05"),
    *("loca.alternating=false", "train.max_steps=7", "train.batch_size=5", "train.schedule=cosine"),
)


@pytest.fixture(autouse=True)
def _no_studies(monkeypatch, tmp_path):
    monkeypatch.setattr(stores, "STUDIES", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def planned(tiny_model, tiny_data, tmp_path):
    """Plan runs, and put records of them into a store as if they had been run."""

    def plan(*sets, suite="mini", methods=("lora", "loca"), **options):
        store = Store(tmp_path / "store")
        store.prepare()
        suite = load_suite(suite) if isinstance(suite, str) else suite
        given = {"tasks": ("glue/sst2",), "base_model": str(tiny_model), "data_root": tiny_data, "seeds": (1, 2, 3)}
        overrides = Overrides(methods=methods, sets=(*LENGTH, *sets), **{**given, **options})
        runs = make_plan(suite, overrides, RevisionLock(store.lock_file)).runs
        for run in runs:
            # loca mistakes every fifth example, the others every tenth.
            share = 5 if run.spec.method == "loca" else 10
            wrong = [(n + run.spec.seed) % share == 0 for n in range(len(LABELS))]
            predicted = LABELS ^ wrong
            score = float((predicted == LABELS).mean())
            Planter(store).run(score, "accuracy", rows=rows_with(LABELS, predicted), **asdict(run.spec))
        return store

    return plan


@pytest.fixture
def begin(bench, tiny_model, tiny_data, planned):
    """Return the words of the command that `bench recommend` prints, and what it prints."""

    def call(store, *arguments, task="glue/sst2"):
        asked = ("--model", tiny_model, "--task", task, "--data-root", tiny_data, "--store", store.root)
        result = bench("recommend", *asked, *arguments)
        assert result.code == 0, result.err
        (line,) = (line for line in result.out.splitlines() if line.startswith("Begin with: "))
        return shlex.split(line.removeprefix("Begin with: "))[1:], result.out

    return call


def states(bench, words):
    """Return the ids of the runs that a command plans, and what is left to do of each."""
    result = bench(*words, "--dry-run")
    assert result.code == 0, result.err
    return dict(re.findall(r"^ *([0-9a-f]{16}) .* (done|to do) *$", result.out, re.MULTILINE))


def ids(store, method):
    found = (record for record in store.scan() if isinstance(record, RunRecord))
    return {record.run_id for record in found if record.spec.method == method}


@pytest.mark.parametrize(
    ("sets", "options"),
    [
        (OF_MANY_KINDS, {}),
        (("train.epochs=2", "train.warmup_steps=3"), {"limit": 30, "evaluation_limit": 20}),
        ((), {"budgets": "2k", "budget_mode": "pattern"}),
        ((), {"base_precisions": ("bfloat16",), "train_fractions": (0.5,), "suite": "small"}),
        ((), {"methods": ("lora+rslora", "loca"), "protocol": Protocol.PAPER_BEST_EPOCH}),
    ],
)
def test_the_command_plans_the_recommended_runs(bench, begin, planned, sets, options):
    store = planned(*sets, **options)
    words, _ = begin(store)
    method = words[words.index("--methods") + 1]
    assert method.startswith("lora")
    assert states(bench, words) == dict.fromkeys(ids(store, method), "done")


def test_what_the_suite_gives_anyway_is_left_out(begin, planned):
    words, _ = begin(planned(*OF_MANY_KINDS))
    assert not [word for word in words if word.startswith(("lora.r=", "train.weight_decay="))]
    assert "lora.target_modules=[query, key]" in words


def test_the_asked_batch_and_length_are_those_of_the_command(bench, begin, planned):
    store = planned(*OF_MANY_KINDS)
    words, _ = begin(store, "--batch", "3", "--seq", "24")
    assert {"train.batch_size=3", "train.max_length=24", "train.max_steps=7"} <= set(words)
    assert set(states(bench, words).values()) == {"to do"}


def test_from_another_task_come_the_setting_and_the_training(bench, begin, planned, tiny_data):
    words, _ = begin(planned(*OF_MANY_KINDS, limit=30), task="glue/rte")
    assert {"lora.layers=[1]", "train.max_steps=7", "train.max_length=48"} <= set(words)
    assert "--limit" not in words


def test_a_limit_that_only_the_suite_of_the_runs_lifts_is_said(begin, planned):
    changes = {"name": "own", "evaluation_limit": None, "tuning": None}
    _, text = begin(planned(suite=load_suite("mini").model_copy(update=changes)))
    assert "The recommended runs had no evaluation limit, and the suite mini has one" in text
    assert '"own", with --suite' in text
