import math
import re
import shutil
import threading
from dataclasses import replace

import pytest

from parbench.bench.plan.planner import Overrides
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
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
    def make(*methods, effort=THREE, **overrides):
        values = {"base_model": str(tiny_model), "data_root": tiny_data, "tasks": ("glue/sst2",), **overrides}
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
    assert found["lora"].space == (Dimension("learning_rate", 1e-4, 1e-2), HEAD)
    assert found["loca"].space == (Dimension("update_step", 2e-4, 1e-1), HEAD)
    assert found["linear_probe"].space == METHODS["linear_probe"].search_space == (HEAD,)
    assert all([run.spec.seed for run in study.runs] == [1001, 1002] for study in found.values())
    assert all(run.spec.purpose == "selection" for study in found.values() for run in study.runs)


def test_a_language_model_keeps_its_head_and_has_no_rate_for_one(tmp_path):
    overrides = Overrides(methods=("lora",), tasks=("restaurants_nlg",))
    (study,) = make_studies(load_suite("mini"), overrides, TuningBudget(1), RevisionLock(tmp_path / "lock.json"))
    assert study.space == (Dimension("learning_rate", 1e-4, 1e-2),)


def test_the_range_of_the_head_holds_what_is_published_but_for_heads_that_hardly_move():
    rates = [
        preset.on(task).setting["head_learning_rate"]
        for name in METHODS
        for preset in presets_of(name)
        for task in preset.tasks
        if "head_learning_rate" in preset.on(task).setting
    ]
    outside = sorted(rate for rate in rates if not HEAD.low <= rate <= HEAD.high)
    assert outside == [4e-6, 5e-6, 8e-6, 8e-6]
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
    assert "is at the high end of 0.0001 to 0.01" in edge
    inside = tune(study, TuningBudget(25), planted(hill))
    assert not [text for text in inside.at_bounds if text.startswith("learning_rate")]


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
    assert suite.tuning.selection_seeds == (1001, 1002)
    assert suite.settings == load_suite("mini").settings


def test_tunings_done_alike_are_put_together(studies, tiny_model):
    lora, loca = (tune(study, TuningBudget(3), planted(hill)) for study in studies("lora", "loca"))
    mini = load_suite("mini")

    def suite(tuned, effort=THREE):
        overrides = Overrides(methods=(tuned.study.method.name,), base_model=str(tiny_model))
        return tuned_suite(mini, overrides, effort, [tuned])

    both = merged(suite(lora), suite(loca))
    assert both.methods == ("lora", "loca")
    assert both.tuning.has("glue/sst2", "lora")
    assert both.tuning.has("glue/sst2", "loca")
    assert set(both.by_task["glue/sst2"].settings) == {"lora", "loca"}
    assert merged(suite(lora), suite(loca, TuningBudget(4))) is None
    assert merged(mini, suite(loca)) is None


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


@pytest.fixture
def bench_tune(bench, tiny_data, tiny_model, tmp_path):
    def call(*arguments, command="tune", methods="lora", trials=2, seeds="1"):
        small = [f"--set=train.{value}" for value in ("max_steps=4", "max_length=32", "batch_size=8")]
        common = ["--tasks", "glue/sst2", "--model", tiny_model, "--data-root", tiny_data, "--methods", methods]
        budget = [] if trials is None else ["--trials", trials]
        suite = [] if "--tuned" in arguments else ["--suite", "mini"]
        rest = ["--seeds", seeds, "--out", tmp_path / "store", *arguments]
        return bench(command, "--no-isolate", *suite, *common, *small, *budget, *rest)

    return call


def test_tuning_from_the_command_line_and_reporting_with_fresh_seeds(bench_tune, bench, tmp_path):
    store = Store(tmp_path / "store")
    result = bench_tune(methods="lora,loca")
    assert result.code == 0, result.err
    records = list(store.scan())
    assert len(records) == 2 * 2 * 2  # methods, trials, seeds
    for record in records:
        assert (record.status, record.spec.purpose, record.metrics) == ("ok", "selection", {})
        assert record.spec.seed in (1001, 1002)
        assert record.selection_score is not None
    suite = load_suite(str(store.root / "tuned.yaml"))
    found = suite.tuning.found["glue/sst2"]
    for method in ("lora", "loca"):
        for trial in found[method]["trials"]:
            assert f"{100 * trial['score']:.1f}" in result.out
        of_best = [
            record.selection_score
            for record in records
            if record.spec.method == method
            and suite.by_task["glue/sst2"].settings[method].items() <= record.spec.setting.items()
        ]
        assert found[method]["score"] == pytest.approx(sum(of_best) / 2)

    tuned = bench_tune("--tuned", command="run", methods="lora,loca", trials=None, seeds="1,2")
    assert tuned.code == 0, tuned.err
    assert "suite mini-tuned" in tuned.out
    assert "was not tuned" not in tuned.out
    reported = [record for record in store.scan() if record.spec.purpose == "report"]
    assert len(reported) == 4
    for record in reported:
        assert suite.by_task["glue/sst2"].settings[record.spec.method].items() <= record.spec.setting.items()

    # Trials are in the store like other runs, and in no table.
    report = bench("report", "--out", store.root)
    assert report.code == 0, report.err
    assert "n=2" in (store.root / "report" / "leaderboard.md").read_text()

    for seeds in ("1001", "1,1002"):
        refused = bench_tune("--tuned", command="run", trials=None, seeds=seeds)
        assert refused.code == 2
        assert "would both choose the settings and be reported" in refused.err
    other = bench_tune("--tuned", "--model", "bert-tiny", command="run", trials=None)
    assert other.code == 2
    assert "not on bert-tiny; tune it again" in " ".join(other.err.split())


def test_an_interrupted_tuning_goes_on_and_ends_as_an_uninterrupted_one(bench_tune, tmp_path):
    store = Store(tmp_path / "store")
    assert bench_tune().code == 0
    whole = (store.root / "tuned.yaml").read_text()
    records = {record.run_id: record for record in store.scan()}
    lost = next(run_id for run_id, record in records.items() if record.spec.seed == 1002)
    shutil.rmtree(store.runs / lost)
    (store.root / "tuned.yaml").unlink()
    again = bench_tune()
    assert again.out.count("lora on glue/sst2 with") == 1
    assert lost in again.out
    assert (store.root / "tuned.yaml").read_text() == whole
    # One more trial goes on from these two.
    assert len(re.findall(r"\[\d+/6\]", bench_tune(trials=3).out)) == 2


def test_a_trial_that_diverges_is_not_tried_again(bench_tune, tmp_path, monkeypatch):
    from parbench.tasks.kinds.text_classification import TextClassification

    inner = TextClassification.loss

    def poisoned(self, logits, labels, label_smoothing=0.0):
        return logits.sum() * float("nan")

    monkeypatch.setattr(TextClassification, "loss", poisoned)
    result = bench_tune()
    assert result.code == 1
    assert "no trial of lora on glue/sst2 came to a score" in result.out
    monkeypatch.setattr(TextClassification, "loss", inner)
    assert not re.findall(r"\[\d+/4\]", bench_tune().out)
    assert load_suite(str(tmp_path / "store" / "tuned.yaml")).tuning.found["glue/sst2"]["lora"]["best"] is None


def test_run_with_trials_tunes_first(bench_tune, tmp_path):
    result = bench_tune(command="run", seeds="7")
    assert result.code == 0, result.err
    store = Store(tmp_path / "store")
    reported = [record for record in store.scan() if record.spec.purpose == "report"]
    assert len(list(store.scan())) == 5
    (record,) = reported
    best = load_suite(str(store.root / "tuned.yaml")).by_task["glue/sst2"].settings["lora"]
    assert best["learning_rate"] == record.spec.setting["learning_rate"]
    assert record.spec.seed == 7


def test_a_dry_run_tells_the_space_and_writes_nothing(bench_tune, tmp_path):
    result = bench_tune("--dry-run", methods="lora,loca")
    assert result.code == 0
    assert "2 trials (tpe) of seeds 1001, 1002 each: 8 runs" in result.out
    assert "update_step 0.0002 to 0.1, head_learning_rate 0.0001 to 0.1" in result.out
    assert not (tmp_path / "store").exists()


def test_a_dry_run_with_trials_announces_the_trials_and_the_reported_runs(bench_tune, tmp_path):
    result = bench_tune("--dry-run", command="run", seeds="7,8")
    assert result.code == 0, result.err
    assert "2 trials (tpe) of seeds 1001, 1002 each: 4 runs" in result.out
    _, reported = result.out.split("then the reported runs, with the settings that the trials find:")
    rows = [line.split("│") for line in reported.splitlines() if "to do" in line and "│" in line]
    assert [row[6].strip() for row in rows] == ["7", "8"]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"trials": 0}, "--trials is 0; give a number of at least 1"),
        ({"methods": "lorra"}, 'no method called "lorra"; did you mean "lora"'),
        ({"seeds": "1002"}, "the seeds 1002 would both choose"),
        ({"command": "run", "extra": ("--tuned",)}, "--tuned uses settings"),
        ({"command": "run", "extra": ("--tuned",), "trials": None}, "make it with: bench tune --out"),
        ({"command": "run", "extra": ("--tuned", "--suite", "mini"), "trials": None}, "leave --suite out"),
        (
            {
                "command": "run",
                "extra": (
                    "--overwrite",
                    "always",
                ),
            },
            "--overwrite always",
        ),
        ({"extra": ("--selection-seeds", "x")}, '"--selection-seeds x" are not comma-separated whole numbers'),
        ({"command": "run", "extra": ("--noise-floor", "1"), "trials": None}, "a spread needs at least 2 runs"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_code_2(bench_tune, arguments, complaint):
    extra = arguments.pop("extra", ())
    result = bench_tune(*extra, **arguments)
    assert result.code == 2
    assert complaint in " ".join(result.err.split())
    assert "Traceback" not in result.err


def test_a_noise_floor_is_repeats_of_one_run(bench_tune, tmp_path):
    result = bench_tune("--noise-floor", 3, command="run", methods="lora,loca", trials=None, seeds="1,2")
    assert result.code == 0, result.err
    records = sorted(Store(tmp_path / "store").scan(), key=lambda record: record.spec.repeat)
    assert [record.spec.repeat for record in records] == [0, 1, 2]
    assert {(record.spec.method, record.spec.seed) for record in records} == {("lora", 1)}
    # On a CPU, in one thread, nothing is left to chance.
    assert len({record.score for record in records}) == 1
    assert "3 runs of the same seed" in result.out
    assert "standard deviation 0.00, largest difference 0.00" in result.out
