"""Tuning from the command line, and runs with what it has found."""

import re
import shutil

import pytest

from parbench.bench.plan.suite import load_suite
from parbench.bench.store.store import Store
from tests.support.commands import in_place_of


@pytest.fixture
def bench_tune(bench, tiny_data, tiny_model, tmp_path):
    def call(*arguments, command="tune", methods="lora", trials=2, seeds="1"):
        small = ["train.max_steps=4", "train.max_length=32", "train.batch_size=8"]
        common = {"--tasks": "glue/sst2", "--model": tiny_model, "--data-root": tiny_data, "--methods": methods}
        effort = {} if trials is None else {"--trials": trials}
        suite = {} if "--tuned" in arguments else {"--suite": "mini"}
        rest = {"--seeds": seeds, "--out": tmp_path / "store"}
        given = in_place_of({**suite, **common, **effort, **rest}, small, arguments)
        return bench(command, "--no-isolate", *given)

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
    assert re.findall(r"\[\d+/6\]", bench_tune(trials=3).out) == ["[5/6]", "[6/6]"]


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


def test_a_dry_run_prints_the_space_and_writes_nothing(bench_tune, tmp_path):
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
    assert re.findall(r"lora +— +(\d+) +to do", reported) == ["7", "8"], reported
    assert not (tmp_path / "store").exists()


def test_a_tuned_file_that_cannot_be_read_is_refused_before_the_first_trial(bench_tune, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "tuned.yaml").write_text("name: mini-tuned\nof: a version with other fields\n")
    result = bench_tune()
    assert result.code == 2
    assert "results cannot be added to it: move the file away, or give another --out" in result.err
    assert not list(Store(tmp_path / "store").scan())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"trials": 0}, "--trials is 0; give a number of at least 1"),
        ({"trials": 100_000_000, "extra": ("--dry-run",)}, "--trials is 100000000; give a number of at most 10000"),
        ({"trials": 100_000_000, "command": "run"}, "--trials is 100000000; give a number of at most 10000"),
        (
            {"command": "run", "extra": ("--noise-floor", "100000000"), "trials": None},
            "--noise-floor is 100000000; give a number of at most 10000",
        ),
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
