"""A run's id changes with the source of every room that decides its result, and with no other."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import parbench
from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.util import source_hash as hashing
from parbench.methods import find_method
from parbench.tasks import find_task, task_code
from tests.support.records import SPEC

ROOMS = ("bench", "methods", "reports", "tasks")
WHOLE = ("bench/train", "bench/models")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package's source."""
    source, copy = Path(parbench.__file__).parent, tmp_path_factory.mktemp("copy") / "parbench"
    for room in ROOMS:
        shutil.copytree(source / room, copy / room, ignore=lambda folder, names: {*names} & {"suites", "__pycache__"})
    shutil.copy(source / "__init__.py", copy / "__init__.py")
    return copy


@pytest.fixture
def run_id(copied, monkeypatch):
    """Return the id of a run of LoRA on SST-2, by the source in the copy."""

    def find():
        hashing.source_hash.cache_clear()
        codes = {"method_code": method_code(find_method("lora")), "task_code": task_code(find_task("glue/sst2"))}
        return replace(SPEC, **codes, harness_code=harness_code()).run_id

    monkeypatch.setattr(hashing, "_origin", lambda top: copied / "__init__.py" if top == "parbench" else None)
    yield find
    hashing.source_hash.cache_clear()


def changed(path, run_id):
    """Return whether a change of a file changes the run's id."""
    before, text = run_id(), path.read_bytes()
    try:
        path.write_bytes(text + b"\n# changed\n")
        return run_id() != before
    finally:
        path.write_bytes(text)


@pytest.mark.parametrize(
    "path",
    [
        "methods/lora.py",
        "methods/base.py",
        "methods/architecture.py",
        "tasks/glue.py",
        "tasks/base.py",
        "tasks/inference.py",
        "tasks/retention.py",
        "tasks/kinds/text_classification.py",
        "tasks/kinds/system_prompt.py",
        "tasks/data/folder.py",
        "tasks/data/hub.py",
        "tasks/data/location.py",
        "tasks/data/package.py",
        "tasks/data/split.py",
        "bench/util/validation.py",
    ],
)
def test_the_source_that_decides_a_result_changes_the_id(copied, run_id, path):
    assert changed(copied / path, run_id)


def test_training_and_base_models_count_whole(copied, run_id):
    files = [path for room in WHOLE for path in sorted((copied / room).rglob("*.py"))]
    assert len(files) > 15
    before = run_id()
    texts = {path: path.read_bytes() for path in files}
    seen = {harness_code()}
    for path in files:  # one after the other, so that each new id stands for one more file
        path.write_bytes(texts[path] + b"\n# changed\n")
        hashing.source_hash.cache_clear()
        seen.add(harness_code())
    for path, text in texts.items():
        path.write_bytes(text)
    assert len(seen) == len(files) + 1
    (copied / "bench/train/new_module.py").write_text("")
    assert run_id() != before
    (copied / "bench/train/new_module.py").unlink()


@pytest.mark.parametrize(
    "path",
    [
        "methods/__init__.py",
        "methods/vera.py",
        "tasks/__init__.py",
        "tasks/e2e_nlg.py",
        "bench/cli/run.py",
        "bench/execute/local.py",
        "bench/forecast/forecast.py",
        "bench/plan/planner.py",
        "bench/profile/measure.py",
        "bench/run/execute_run.py",
        "bench/store/store.py",
        "bench/tune/tune.py",
        "bench/record/run_record.py",
        "bench/util/secrets.py",
        "reports/leaderboard.py",
    ],
)
def test_the_source_that_decides_nothing_does_not(copied, run_id, path):
    assert not changed(copied / path, run_id)


def test_how_often_a_training_is_saved_is_not_part_of_the_id(tmp_path, tiny_data, tiny_model):
    from parbench.bench.plan.overrides import Overrides
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.plan.planner import make_plan
    from parbench.bench.plan.suite import load_suite
    from parbench.tasks.data.lock import RevisionLock

    def planned(steps):
        overrides = Overrides(
            methods=("lora",),
            tasks=("glue/sst2",),
            base_model=str(tiny_model),
            seeds=(1,),
            sets=("train.max_length=32", f"train.checkpoint_steps={steps}"),
            data_root=tiny_data,
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
        return run

    often, seldom = planned(3), planned(30)
    assert often.spec == seldom.spec
    assert (often.training.checkpoint_steps, seldom.training.checkpoint_steps) == (3, 30)
    # On another machine as well.
    assert PlannedRun.from_json(often.to_json()).training == often.training
