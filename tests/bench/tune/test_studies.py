"""Studies: their spaces, their trials, and the tuned suites that they end in."""

import math
import threading
from dataclasses import replace

import pytest

from parbench.bench.plan.planner import Overrides
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import Status
from parbench.bench.tune.study import HEAD, Study, TuningBudget, adapted_shapes, make_studies, mean_atom_norm
from parbench.bench.tune.tune import Search
from parbench.bench.tune.tune import tune as tune_all
from parbench.bench.tune.tuned_suite import merged, tuned_suite, write_tuned
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.base import Dimension
from parbench.methods.presets import presets_of
from parbench.tasks.data.lock import RevisionLock
from tests.support.records import RECORD, with_spec

THREE = TuningBudget(3)


@pytest.fixture
def studies(tmp_path, tiny_data, tiny_model):
    def make(*methods, effort=THREE, sets=(), **overrides):
        values = {"base_model": str(tiny_model), "data_root": tiny_data, "tasks": ("glue/sst2",), **overrides}
        values["sets"] = ("train.max_length=64", *sets)
        lock = RevisionLock(tmp_path / "lock.json")
        return make_studies(load_suite("mini"), Overrides(methods=methods, **values), effort, lock)

    return make


def planted(score):
    """Return runs that come to the score of their setting; ``None`` diverges."""

    def do_runs(runs):
        found = []
        for run in runs:
            value = score(run.setting)
            status = Status.DIVERGED if value is None else Status.OK
            metrics = {} if value is None else {"accuracy": value + (run.spec.seed - 1001.5) / 100}
            record = with_spec(RECORD, setting=run.spec.setting, seed=run.spec.seed)
            found.append(replace(record, status=status, reason="too far", selection_metrics=metrics))
        return found

    return do_runs


def tune(study, effort, do_runs):
    """Run one study."""
    search = Search(study, effort)
    while runs := search.ask():
        search.tell(do_runs(runs))
    return search.result


def hill(setting):
    """Best at a learning rate of 1e-3."""
    return 0.9 - 0.1 * abs(math.log10(setting.learning_rate / 1e-3))


def test_every_method_gets_its_space_and_the_same_range_for_the_head(studies):
    found = {study.method.name: study for study in studies("lora", "loca", "linear_probe")}
    assert found["lora"].space == (Dimension("learning_rate", 3e-5, 3e-2), HEAD)
    assert found["loca"].space == (Dimension("update_step", 2e-4, 1e-1), HEAD)
    assert found["linear_probe"].space == METHODS["linear_probe"].search_space == (HEAD,)
    assert all([run.spec.seed for run in study.runs] == [1001, 1002] for study in found.values())
    assert all(run.spec.purpose == "selection" for study in found.values() for run in study.runs)


def test_a_language_model_keeps_its_head_and_has_no_rate_for_one(tmp_path):
    overrides = Overrides(methods=("lora",), tasks=("restaurants_nlg",))
    (study,) = make_studies(load_suite("mini"), overrides, TuningBudget(1), RevisionLock(tmp_path / "lock.json"))
    assert study.space == (Dimension("learning_rate", 3e-5, 3e-2),)


def test_the_range_of_the_head_holds_what_is_published_but_for_heads_that_hardly_move():
    rates = [
        preset.on(task).setting["head_learning_rate"]
        for name in METHODS
        for preset in presets_of(name)
        for task in preset.tasks
        if "head_learning_rate" in preset.on(task).setting
    ]
    outside = sorted(rate for rate in rates if not HEAD.low <= rate <= HEAD.high)
    # C3A's, and VL-BART's on four kinds of videos, where the whole model is trained at one rate.
    assert outside == [4e-6, 5e-6, 8e-6, 8e-6, *[3e-5] * 4]
    assert len(rates) > 50


def test_a_trial_is_the_mean_over_the_seeds_and_the_best_is_found(studies):
    (study,) = studies("lora")
    tuned = tune(study, TuningBudget(25), planted(hill))
    assert len(tuned.trials) == 25
    for trial in tuned.trials:
        assert trial.score == pytest.approx(0.9 - 0.1 * abs(math.log10(trial.changes["learning_rate"] / 1e-3)))
    assert tuned.best.score == max(trial.score for trial in tuned.trials)
    # Twenty-five points over two decades, the later ones near the best of the earlier.
    assert 5e-4 < tuned.best.changes["learning_rate"] < 2e-3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_records_ask_for_the_same_trials(studies, sampler):
    (study,) = studies("lora")
    first, second = (tune(study, TuningBudget(15, sampler=sampler), planted(hill)) for _ in range(2))
    assert first.trials == second.trials
    # More trials go on from fewer.
    assert tune(study, TuningBudget(4, sampler=sampler), planted(hill)).trials == first.trials[:4]


def test_methods_start_from_the_same_points_of_their_spaces(studies):
    lora, loca = studies("lora", "loca")
    drawn = []
    for study in (lora, loca):
        (trial,) = tune(study, TuningBudget(1), planted(hill)).trials
        axes = [(trial.point[axis.field], axis) for axis in study.space]
        drawn.append([math.log(value / axis.low) / math.log(axis.high / axis.low) for value, axis in axes])
    assert drawn[0] == pytest.approx(drawn[1])


def test_what_diverges_counts_as_worst_and_never_wins(studies):
    (study,) = studies("lora")
    tuned = tune(study, TuningBudget(25), planted(lambda setting: None if setting.learning_rate > 3e-4 else 0.5))
    failed = [trial for trial in tuned.trials if trial.score is None]
    assert failed
    assert {trial.reason for trial in failed} == {"diverged, too far"}
    assert tuned.best.changes["learning_rate"] <= 3e-4
    # Learned from: after the random start, fewer fail.
    later = [trial.score is None for trial in tuned.trials[10:]]
    assert sum(later) / len(later) < sum(trial.score is None for trial in tuned.trials[:10]) / 10


@pytest.mark.parametrize("workers", [1, 3, 100])
def test_studies_run_side_by_side_and_find_the_same_for_any_number_of_workers(studies, store, workers):
    """The next trial of a study begins when its last ends; those of the others do not wait for it."""
    made = studies("lora", "loca", "linear_probe", effort=TuningBudget(4))
    most = 0

    def execute(runs, follow_up):
        nonlocal most
        waiting = list(runs)
        while waiting:
            at_once, waiting = waiting[:workers], waiting[workers:]
            most = max(most, len(at_once))
            # Later ones may end first.
            for run in reversed(at_once):
                (record,) = planted(hill)([run])
                record = replace(record, spec=run.spec)
                yield record
                waiting += follow_up(record)

    found = tune_all(made, TuningBudget(4), store, execute)
    assert most == min(workers, 6)  # studies times seeds
    assert [result.trials for result in found] == [tune(study, TuningBudget(4), planted(hill)).trials for study in made]


def test_tunings_that_end_at_the_same_time_keep_the_results_of_both(studies, tmp_path, tiny_model):
    overrides = Overrides(base_model=str(tiny_model))
    path = tmp_path / "tuned.yaml"
    suites = []
    for method in ("lora", "loca", "linear_probe"):
        (study,) = studies(method)
        result = tune(study, THREE, planted(hill))
        suites.append(tuned_suite(load_suite("mini"), replace(overrides, methods=(method,)), THREE, [result]))
    threads = [threading.Thread(target=write_tuned, args=(suite, path)) for suite in suites for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(load_suite(str(path)).tuning.found["glue/sst2"]) == {"lora", "loca", "linear_probe"}


def test_where_all_diverge_there_is_no_best(studies):
    (study,) = studies("lora")
    tuned = tune(study, TuningBudget(2), planted(lambda setting: None))
    assert (tuned.best, tuned.at_bounds) == (None, [])


def test_an_optimum_at_the_end_of_its_range_is_flagged(studies):
    (study,) = studies("lora")
    tuned = tune(study, TuningBudget(25), planted(lambda setting: setting.learning_rate))
    (edge,) = [text for text in tuned.at_bounds if text.startswith("learning_rate")]
    assert "is at the high end of 3e-05 to 0.03" in edge
    inside = tune(study, TuningBudget(25), planted(hill))
    assert not [text for text in inside.at_bounds if text.startswith("learning_rate")]


@pytest.mark.parametrize("method", ["lora", "loca"])
def test_the_even_design_of_eight_trials_reaches_both_ends_of_every_range(studies, method):
    (study,) = studies(method)
    for field in ("learning_rate", "head_learning_rate"):
        for sign, end in ((1, "high"), (-1, "low")):
            best = tune(study, TuningBudget(8), planted(lambda setting, f=field, s=sign: s * getattr(setting, f)))
            named = "update_step" if (field, method) == ("learning_rate", "loca") else field
            (edge,) = [text for text in best.at_bounds if text.startswith(named)]
            assert f"is at the {end} end of" in edge


@pytest.mark.parametrize(("method", "norm"), [("loca", 2.0), ("fourierft", 300 / math.sqrt(2 * 32 * 32))])
def test_an_update_step_is_turned_into_a_learning_rate(studies, method, norm):
    sets = ("loca.alpha=2.0",) if method == "loca" else ("fourierft.scaling=300",)
    (study,) = studies(method, sets=sets)
    assert study.shapes == [(32, 32)] * 4  # query and value of two layers
    changes = study.changes({"update_step": 0.01, "head_learning_rate": 0.002})
    assert changes == {"learning_rate": pytest.approx(0.01 / norm), "head_learning_rate": 0.002}
    assert study.setting(changes).learning_rate == pytest.approx(0.01 / norm)


def test_weights_of_different_shapes_are_counted_by_their_geometric_mean(studies):
    (study,) = studies("fourierft", sets=("fourierft.target_modules=[query,intermediate.dense]",))
    assert set(adapted_shapes(study.runs[0])) == {(32, 32), (64, 32)}
    method, setting = METHODS["fourierft"], study.runs[0].setting
    norms = [method.atom_norm(setting, shape) for shape in ((32, 32), (64, 32))]
    assert mean_atom_norm(method, setting, study.shapes) == pytest.approx(math.sqrt(norms[0] * norms[1]))


def test_a_method_without_a_constant_norm_cannot_be_searched_by_update_step(studies):
    (study,) = studies("lora")
    with pytest.raises(UserError, match='"lora" is searched by update_step, which needs the constant norm'):
        study.changes(
            {"update_step": 0.01},
        )


def test_the_tuned_suite_holds_the_best_settings_and_the_trials(studies, tiny_model):
    found = [tune(study, TuningBudget(3), planted(hill)) for study in studies("lora", "loca")]
    overrides = Overrides(methods=("lora", "loca"), base_model=str(tiny_model))
    suite = tuned_suite(load_suite("mini"), overrides, TuningBudget(3), found)
    for tuned in found:
        name = tuned.study.method.name
        setting = suite.by_task["glue/sst2"].settings[name]
        assert setting == {field: tuned.best.changes[field] for field in ("learning_rate", "head_learning_rate")}
        note = suite.tuning.found["glue/sst2"][name]
        assert note["best"] == tuned.best.number
        assert [trial["score"] for trial in note["trials"]] == [trial.score for trial in tuned.trials]
        assert note["space"] == {axis.field: [axis.low, axis.high] for axis in tuned.study.space}
    assert suite.tuning.selection_seeds == (1001, 1002)
    assert suite.settings == load_suite("mini").settings


def test_a_method_of_fixed_size_is_tuned_for_the_budget_of_the_others(studies, tiny_model):
    both = studies("lora", "linear_probe", budgets="1k")
    alone = studies("linear_probe", budgets="1k")
    assert [study.budget for study in (*both, *alone)] == ["1k"] * 3
    overrides = Overrides(budgets="1k", base_model=str(tiny_model))
    suites = [
        tuned_suite(load_suite("mini"), overrides, THREE, [tune(study, THREE, planted(lambda setting: 0.5))])
        for study in (both[0], *alone)
    ]
    assert {suite.budget for suite in suites} == {"1k"}
    assert set(merged(*suites).tuning.found["glue/sst2"]) == {"lora", "linear_probe"}


def test_a_best_trial_that_is_ahead_by_one_example_is_reported_as_tied(studies):
    (study,) = studies("lora")
    scores = iter([0.50, 0.80, 0.79, 0.788, 0.7])
    level: dict[str, float] = {}

    def do_runs(runs):
        rate = str(runs[0].setting.learning_rate)
        level.setdefault(rate, next(scores))
        done = planted(lambda setting: level[str(setting.learning_rate)])(runs)
        return [replace(record, examples={"train": 64, "selection": 100, "reported": 50}) for record in done]

    tuned = tune(study, TuningBudget(5), do_runs)
    assert (tuned.best.number, [trial.number for trial in tuned.tied]) == (1, [2])
    suite = tuned_suite(load_suite("mini"), Overrides(methods=("lora",)), TuningBudget(5), [tuned])
    assert suite.tuning.found["glue/sst2"]["lora"]["tied"] == [2]


def test_a_suite_that_comes_tuned_is_tuned_anew_by_the_same_trials(studies, tmp_path, tiny_data):
    overrides = Overrides(methods=("lora",), tasks=("glue/sst2",), data_root=tiny_data)
    (found,) = [tune(study, TuningBudget(1), planted(hill)) for study in studies("lora")]
    mini = tuned_suite(load_suite("mini"), overrides, TuningBudget(1), [found]).model_copy(update={"name": "mini"})
    assert mini.by_task["glue/sst2"].settings["lora"]
    bare = mini.model_copy(update={"tuning": None, "by_task": {}, "settings": {}})
    made = [make_studies(suite, overrides, THREE, RevisionLock(tmp_path / "lock.json")) for suite in (mini, bare)]
    for trial in range(2):
        searches = [Search(study, TuningBudget(trial + 1)) for (study,) in made]
        asked = [[run.spec.setting for run in search.ask()] for search in searches]
        rates = [{name: setting[name] for name in ("learning_rate", "head_learning_rate")} for (setting, _) in asked]
        assert rates[0] == rates[1]
    own = mini.model_copy(update={"name": "my-tuned"})
    with pytest.raises(UserError, match='the suite "my-tuned" is tuned already'):
        make_studies(own, overrides, THREE, RevisionLock(tmp_path / "lock.json"))


def test_tunings_under_the_same_conditions_are_merged(studies, tiny_model):
    lora, loca = (tune(study, TuningBudget(3), planted(hill)) for study in studies("lora", "loca"))
    mini = load_suite("mini")

    def suite(tuned, effort=THREE):
        overrides = Overrides(methods=(tuned.study.method.name,), base_model=str(tiny_model))
        return tuned_suite(mini, overrides, effort, [tuned])

    both = merged(suite(lora), suite(loca))
    assert both.methods == ("lora", "loca")
    assert both.tuning.has("glue/sst2", "lora", "float32")
    assert both.tuning.has("glue/sst2", "loca", "float32")
    assert set(both.by_task["glue/sst2"].settings) == {"lora", "loca"}
    assert merged(suite(lora), suite(loca, TuningBudget(4))) is None
    assert merged(mini.model_copy(update={"tuning": None}), suite(loca)) is None


@pytest.mark.parametrize(
    ("methods", "overrides", "effort", "complaint"),
    [
        (
            ("lora",),
            {"seeds": (1, 1001)},
            TuningBudget(1),
            "the seeds 1001 would both choose the settings and be reported",
        ),
        (("lora",), {}, TuningBudget(1, seeds=(2, 3)), "the seeds 2, 3 would both choose"),
        (("lora",), {"sets": ("lora.learning_rate=1e-3",)}, TuningBudget(1), "fixes what is tuned; leave it out"),
        (("loca",), {"sets": ("loca.learning_rate=1e-3",)}, TuningBudget(1), "fixes what is tuned; leave it out"),
        (
            ("lora(head_learning_rate=1e-3)",),
            {},
            TuningBudget(1),
            r'"lora\(head_learning_rate=...\)" fixes what is tuned',
        ),
        (("lora(r=4)", "lora(r=2)"), {}, TuningBudget(1), "lora is named twice with different options"),
        (("lora",), {"budgets": "10"}, TuningBudget(1), "there is nothing to tune: nothing fits 10"),
        (("lora",), {"budgets": "2k,1k"}, TuningBudget(1), "one budget is tuned at a time"),
    ],
)
def test_what_cannot_be_tuned_is_a_sentence(studies, methods, overrides, effort, complaint):
    with pytest.raises(UserError, match=complaint):
        studies(*methods, effort=effort, **overrides)


def test_a_budget_is_met_before_tuning(studies):
    (study,) = studies("lora", budgets="1k")
    assert isinstance(study, Study)
    (runs,) = {run.spec.setting["r"] for run in study.trial_runs({"learning_rate": 1e-3})}
    assert runs == 3  # 256 parameters a rank
