"""Which budget runs have: that of the command or the suite's, and where a size is set beside it."""

import re

import pytest

from parbench.bench.plan.planner import Overrides, Plan, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.util.errors import UserError
from parbench.tasks.data.lock import RevisionLock


@pytest.fixture
def plan(tmp_path):
    def make(**overrides) -> Plan:
        return make_plan(load_suite("mini"), Overrides(**overrides), RevisionLock(tmp_path / "lock.json"))

    return make


@pytest.fixture
def budgets(plan, tiny_data):
    """Return the budgets of a plan of the miniature suite, as asked, and its notes about them."""

    def of(**overrides):
        sets = ("train.max_length=64", *overrides.pop("sets", ()))
        made = plan(tasks=("glue/sst2",), seeds=(1,), data_root=tiny_data, sets=sets, **overrides)
        asked = {run.spec.budget["asked"] if run.spec.budget else None for run in made.runs}
        return asked, [note for note in made.notes if note.startswith("the suite's budget")]

    return of


def test_a_suites_budget_is_every_methods_unless_the_command_has_another(budgets):
    assert load_suite("mini").budget == "0.17%"
    assert budgets(methods=("lora", "loca")) == ({"0.17%"}, [])
    assert budgets(methods=("lora",), budgets="24k")[0] == {"24k"}
    assert budgets(methods=("lora",), budgets="none")[0] == {None}


@pytest.mark.parametrize(
    ("overrides", "sized"),
    [
        ({"methods": ("lora(r=4)", "loca")}, r"lora\(r=4\)"),
        ({"methods": ("lora", "loca"), "sets": ("loca.n_frequency=9",)}, "--set loca.n_frequency"),
        ({"methods": ("lora+qv_ratio(4)",), "sets": ("lora.r=2",)}, "--set lora.r"),
    ],
)
def test_a_suites_budget_gives_way_to_a_size_of_the_command(budgets, overrides, sized):
    asked, (note,) = budgets(**overrides)
    assert asked == {None}
    assert re.match(f"the suite's budget, 0.17%, does not apply: {sized} sets a size; give --budget", note)


@pytest.mark.parametrize("budget", ["24k", "24k,48k", "match:vera(r=2)"])
@pytest.mark.parametrize(
    ("overrides", "sized"),
    [
        ({"methods": ("loca", "lora(r=4)")}, r"lora, and lora\(r=4\)"),
        ({"methods": ("lora",), "sets": ("lora.r=4",)}, r"lora, and --set lora\.r"),
        ({"methods": ("lora+qv_ratio(4)",), "sets": ("lora.r=4",)}, r"lora\+qv_ratio\(4\), and --set lora\.r"),
        ({"methods": ("loca",), "sets": ("loca.n_frequency=9",)}, r"loca, and --set loca\.n_frequency"),
        ({"methods": ("adalora",), "sets": ("adalora.target_r=2",)}, r"adalora, and --set adalora\.target_r"),
        ({"methods": ("dora(r=2)",)}, r"dora, and dora\(r=2\)"),
    ],
)
def test_a_budget_of_the_command_and_a_size_are_either_or(budgets, overrides, sized, budget):
    """One of them would be dropped, and LoRA's scale with it, which is that of the size that the user has set."""
    with pytest.raises(UserError, match=f"^the budget {re.escape(budget)} sizes {sized} sets its size; give either$"):
        budgets(**overrides, budgets=budget)


def test_a_size_of_the_command_has_the_scale_that_it_is_given(plan, tiny_data):
    (run,) = plan(methods=("lora",), tasks=("glue/sst2",), seeds=(1,), sets=("lora.r=4",), budgets="none").runs
    assert (run.spec.setting["r"], run.spec.setting["alpha"]) == (4, 16.0)


def test_a_suites_budget_is_for_its_own_base_models(budgets, tiny_model):
    asked, (note,) = budgets(methods=("lora",), base_model=str(tiny_model))
    assert asked == {None}
    assert "it is for the suite's own base models" in note
