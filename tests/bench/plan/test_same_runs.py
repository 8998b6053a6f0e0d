"""However a command names what it asks for, the runs are the same."""

import pytest

from parbench.bench.cli.options import ComparisonOptions
from parbench.bench.cli.session import read_overrides
from parbench.bench.models.catalogue import MODELS, find_model
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock


@pytest.fixture
def plan(tmp_path):
    def make(**overrides):
        return make_plan(load_suite("mini"), Overrides(**overrides), RevisionLock(tmp_path / "lock.json"))

    return make


@pytest.mark.parametrize(
    ("one", "other"),
    [("24k", "24000"), ("24K", "0.024M"), ("0.5%", "0.50%"), ("match:lora(r=1)", "match: lora(r = 1)")],
)
def test_however_a_budget_is_written_the_runs_are_the_same(plan, one, other):
    made = [plan(methods=("lora",), tasks=("glue/sst2",), seeds=(1,), budgets=text) for text in (one, other)]
    first, second = ([run.spec.run_id for run in found.runs] for found in made)
    assert first == second
    assert made[0].budget == made[1].budget


def test_a_suites_own_base_model_may_be_named(plan):
    """By its name or, of one that is on the hub, by its id there."""
    unnamed, named = (plan(tasks=("glue/sst2",), seeds=(1,), base_model=name) for name in (None, "minilm-l6"))
    assert [run.spec.run_id for run in unnamed.runs] == [run.spec.run_id for run in named.runs]
    assert unnamed.notes == named.notes
    # Not the suite's first, but this task's.
    made = plan(tasks=("boolq_passage",), methods=("lora",), seeds=(1,), base_model="bert-tiny")
    assert (made.budget, made.notes) == ("0.17%", [])
    assert {run.notes for run in made.runs} == {()}


@pytest.mark.parametrize("name", ["FacebookAI/roberta-base", "facebookai/RoBERTa-base", "roberta-base"])
def test_a_registered_base_model_has_one_name(name):
    assert find_model(name) is MODELS["roberta-base"]
    assert read_overrides(ComparisonOptions(model=name)).base_model == "roberta-base"


@pytest.mark.parametrize(
    ("method", "written_out"),
    [
        ("lora", "lora.target_modules=[value,query]"),
        ("lora", "lora.target_modules=[self.query,attention.self.value]"),
        ("lora", "lora.layers=[1,0]"),
        ("loca", "loca.target_modules=[query,value]"),
        ("lora+qv_ratio(4)", "lora.target_modules=[query,value]"),
    ],
)
@pytest.mark.parametrize("budget", [None, "4k"])
def test_a_default_of_the_base_model_that_is_written_out_makes_no_other_run(plan, method, written_out, budget):
    asked = {"methods": (method,), "tasks": ("glue/sst2",), "seeds": (1,), "base_model": "bert-tiny"}
    asked |= {"budgets": budget or "none"}
    plain, written = plan(**asked).runs, plan(**asked, sets=(written_out,)).runs
    assert [run.spec.run_id for run in written] == [run.spec.run_id for run in plain]
    assert [run.notes for run in written] == [run.notes for run in plain]
    # As it always was.
    assert (plain[0].spec.setting["target_modules"], plain[0].spec.setting["layers"]) == (None, None)


@pytest.mark.parametrize(
    ("method", "other"),
    [
        ("lora", "lora.target_modules=[query]"),
        ("lora", "lora.layers=[1]"),
        # What it trains is more than linear layers, and not known by the names of adapted modules.
        ("full", "full.layers=[0,1]"),
    ],
)
def test_what_is_no_default_makes_another_run(plan, method, other):
    asked = {"methods": (method,), "tasks": ("glue/sst2",), "seeds": (1,), "base_model": "bert-tiny"}
    ids = {plan(**asked, sets=sets).runs[0].spec.run_id for sets in ((), (other,))}
    assert len(ids) == 2
