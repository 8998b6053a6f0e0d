"""What is in a store's tuned suite after several tunings."""

import pytest

from parbench.bench.plan.suite import Tuning, load_suite
from parbench.bench.tune.tuned_suite import write_tuned


def tuned(trials, *methods, task="glue/sst2", **changes):
    """Return a suite as a tuning of some methods on a task makes it."""
    notes = {task: {method: {"best": 0, "score": 0.5} for method in methods}}
    tuning = Tuning(
        trials=trials, selection_seeds=(7,), sampler="tpe", sampler_seed=0, base_model="minilm-l6", found=notes
    )
    of_all = {"methods": methods, "tasks": (task,), "tuning": tuning}
    return load_suite("mini").model_copy(update={**of_all, **changes})


def found(path):
    return {(task, method) for task, notes in load_suite(str(path)).tuning.found.items() for method in notes}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tuned.yaml"


def test_under_the_same_conditions_what_was_found_is_added(path):
    write_tuned(tuned(2, "lora"), path)
    assert write_tuned(tuned(2, "loca", task="glue/rte"), path).kept is None
    assert found(path) == {("glue/sst2", "lora"), ("glue/rte", "loca")}


@pytest.mark.parametrize(
    "later",
    [
        tuned(3, "lora"),
        tuned(3, "lora", "loca", task="glue/rte"),
        tuned(1, "lora", "loca"),
        tuned(3, "lora", "loca", limit=50),
    ],
    ids=["of one method", "on another task", "with fewer trials", "on fewer examples"],
)
def test_what_was_tuned_under_other_conditions_is_kept(path, later):
    write_tuned(tuned(2, "lora", "loca"), path)
    before = path.read_text()
    kept = write_tuned(later, path).kept
    assert (kept.parent, kept.read_text()) == (path.parent / "aside", before)
    assert found(kept) == {("glue/sst2", "lora"), ("glue/sst2", "loca")}
    assert load_suite(str(path)).tuning == later.tuning


def test_the_same_with_more_trials_takes_the_place_of_what_was_there(path):
    write_tuned(tuned(2, "lora"), path)
    assert write_tuned(tuned(3, "lora", "loca"), path).kept is None
    assert load_suite(str(path)).tuning.trials == 3
