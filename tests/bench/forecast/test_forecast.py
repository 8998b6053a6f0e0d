"""Forecasts from calibrations: runs of the same cost, caching, sums of estimates, and the cost of a real run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from parbench.bench.execute.local import LocalExecutor
from parbench.bench.forecast import calibration as module
from parbench.bench.forecast.calibration import STEPS, Machine, shortened, uncalibrated
from parbench.bench.forecast.forecast import forecast
from parbench.bench.record.cost_key import cost_key
from parbench.bench.run.memory import overhead_share
from parbench.bench.util.errors import UserError
from tests.support.forecasts import COST
from tests.support.records import RECORD

CPU = Machine("cpu")


def test_runs_that_differ_only_in_seed_length_and_rate_have_the_same_cost(planned):
    (one,) = planned()
    same = (
        planned(seeds=(2,)),
        planned("train.max_steps=7"),
        planned("train.epochs=3"),
        planned("lora.learning_rate=0.5"),
        planned(train_fractions=(0.5,)),
    )
    for (other,) in same:
        assert cost_key(other.spec) == cost_key(one.spec)
    others = (
        planned("train.batch_size=3"),
        planned("lora.r=2"),
        planned("train.precision=bfloat16"),
        planned(methods=("bitfit",)),
        planned(limit=40),
    )
    for (other,) in others:
        assert cost_key(other.spec) != cost_key(one.spec)


def test_a_shortened_run_is_the_same_but_for_its_length(planned):
    (run,) = planned("train.epochs=3", "train.select_epoch=true", "train.patience=1")
    short = shortened(run)
    assert cost_key(short.spec) == cost_key(run.spec)
    assert (short.training.max_steps, short.training.epochs, short.training.select_epoch) == (STEPS, None, False)
    assert short.spec.evaluation_limit == 4 * run.training.evaluation_batch_size
    assert short.spec.run_id != run.spec.run_id
    # A cached property of a frozen object: text is written for minutes, and one batch of it is enough.
    vars(run)["task"] = SimpleNamespace(kind="language_model")
    assert shortened(run).spec.evaluation_limit == run.training.evaluation_batch_size


def test_each_kind_of_run_is_calibrated_once_and_kept(planned, store, calibrated, cache):
    message = []
    runs = planned(methods=("lora", "bitfit"), seeds=(1, 2, 3))
    found = forecast(runs, store, CPU, message.append)
    assert [run.spec.method for run in calibrated] == ["lora", "bitfit"]
    assert [text.partition(": ")[0] for text in message] == ["calibrating 1 of 2", "calibrating 2 of 2"]
    assert len(found.estimates) == 6
    again = forecast(planned(methods=("lora", "bitfit"), seeds=(4,)), store, CPU, message.append)
    assert len(calibrated) == 2
    assert again.estimates[0].calibration == COST
    assert len(list(cache.iterdir())) == 2
    assert json.loads(next(cache.iterdir()).read_text())["step_seconds"] == 0.5


def test_what_was_measured_beside_other_work_is_said_and_measured_again(planned, store, monkeypatch):
    found = iter([replace(COST, core_wait_share=0.6), replace(COST, step_seconds=0.2, core_wait_share=0.01)])
    asked = []

    def calibrate(run, machine):
        asked.append(run)
        return next(found)

    monkeypatch.setattr(module, "calibrate", calibrate)
    kinds = {}
    busy = forecast(planned(), store, CPU, again=True, measured=kinds)
    (note,) = busy.notes
    assert note.startswith("WARNING: other processes had the cores while 1 kinds of runs were measured, for up to 60 %")
    # Not within one command, and not where nothing may be measured.
    assert forecast(planned(), store, CPU, again=True, measured=kinds).seconds == busy.seconds
    assert forecast(planned(), store, CPU).notes == busy.notes
    assert uncalibrated(planned(), store, CPU) == []
    assert len(asked) == 1
    quiet = forecast(planned(), store, CPU, again=True)
    assert quiet.notes == []
    assert quiet.seconds < busy.seconds
    assert forecast(planned(), store, CPU, again=True) == quiet
    assert len(asked) == 2


def test_other_hardware_and_other_versions_are_calibrated_again(planned, store, calibrated, monkeypatch):
    forecast(planned(), store, CPU)
    monkeypatch.setattr(module.environment, "versions", lambda: {"torch": "99"})
    forecast(planned(), store, CPU)
    monkeypatch.setattr(module.environment, "hardware", lambda device: {"cpu": "another"})
    forecast(planned(), store, CPU)
    forecast(planned(), store, replace(CPU, threads=7))
    assert len(calibrated) == 4


# Of the tiny data: 144 rows to train on, 16 to select on, 60 to report, as many evaluated as a batch of 64 holds.
@pytest.mark.parametrize(
    ("sets", "changes", "steps", "seconds"),
    [
        (["train.max_steps=100"], {}, 100, 10 + 100 * 0.5 + 60 * 0.25),
        (["train.epochs=2"], {}, 18, 10 + 18 * 0.5 + 60 * 0.25),
        (["train.epochs=2", "train.gradient_accumulation=3"], {}, 6, 10 + 6 * 0.5 + 60 * 0.25),
        (["train.epochs=2"], {"train_fractions": (0.5,)}, 10, 10 + 10 * 0.5 + 60 * 0.25),
        (["train.epochs=2", "train.select_epoch=true"], {}, 18, 10 + 18 * 0.5 + 60 * 0.25 + 2 * 16 * 0.25),
        (["train.epochs=2"], {"protocol": "paper:best_epoch"}, 18, 10 + 18 * 0.5 + 3 * 60 * 0.25),
        (["train.max_steps=1"], {"evaluation_limit": 10}, 1, 10 + 0.5 + 10 * 0.25),
    ],
)
def test_seconds_are_steps_and_rows_and_what_is_done_once(planned, store, calibrated, sets, changes, steps, seconds):
    from parbench.bench.train.protocol import Protocol

    if "protocol" in changes:
        changes = {"protocol": Protocol(changes["protocol"])}
    (estimate,) = forecast(planned(*sets, **changes), store, CPU).estimates
    assert estimate.steps == steps
    assert estimate.seconds == pytest.approx(seconds)


def test_workers_share_the_time_and_add_up_in_memory(planned, store, calibrated):
    runs = planned("train.max_steps=100", seeds=(1, 2, 3, 4))
    one, two = (forecast(runs, store, Machine("cpu", workers, workers)) for workers in (1, 2))
    assert two.seconds == pytest.approx(one.seconds / 2)
    assert (one.process_bytes, two.process_bytes) == (1 << 30, 2 << 30)
    # Every run's record, and two checkpoints of each running run.
    assert one.disk_bytes == 4 * (1000 + 60 * 10) + 2 * 5000
    assert two.disk_bytes == one.disk_bytes + 2 * 5000


def test_what_cannot_fit_is_reported_in_a_sentence(planned, store, calibrated, monkeypatch):
    runs = planned()
    forecast(runs, store, CPU).require_fit()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1 << 29))
    with pytest.raises(UserError, match=r"cannot be done here: 1 runs at a time need 1.00 GiB.*has 0.50 GiB"):
        forecast(runs, store, CPU).require_fit()
    monkeypatch.undo()


def test_a_full_disk_is_reported_in_a_sentence(planned, store, calibrated, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"the records need .* and 0.00 GiB are free where .*give another --out"):
        forecast(planned(), store, CPU).require_fit()


def test_a_calibration_without_enough_memory_is_an_obstacle_and_another_fault_is_not(planned, store, monkeypatch):
    message = {"lora": "out of memory, the process used 9 GiB", "bitfit": "error, it is broken"}
    monkeypatch.setattr(module, "calibrate", lambda run, machine: message[run.spec.method])
    found = forecast(planned(methods=("lora", "bitfit"), seeds=(1, 2)), store, CPU)
    assert found.obstacles == ["lora on glue/sst2 does not fit into memory (out of memory, the process used 9 GiB)"]
    assert found.estimates[1].failure == "error, it is broken"
    assert found.seconds == 0


def test_what_is_done_takes_nothing(planned, store, calibrated, monkeypatch):
    runs = planned(seeds=(1, 2))
    monkeypatch.setattr(store, "is_done", lambda run_id: run_id == runs[0].spec.run_id)
    found = forecast(runs, store, CPU)
    assert (len(found.estimates), found.done) == (1, 1)


def test_what_is_not_calibrated_yet_is_known_without_doing_it(planned, store, calibrated, monkeypatch):
    runs = planned(methods=("lora", "bitfit"), seeds=(1, 2))
    forecast(planned(), store, CPU)
    assert [run.spec.method for run in uncalibrated(runs, store, CPU)] == ["bitfit"]
    assert [run.spec.method for run in uncalibrated(runs, store, replace(CPU, threads=7))] == ["lora", "bitfit"]
    monkeypatch.setattr(store, "is_done", lambda run_id: True)
    assert uncalibrated(runs, store, CPU) == []
    assert len(uncalibrated(runs, store, CPU, lambda run: True)) == 1
    assert len(calibrated) == 1


@pytest.mark.slow
def test_the_forecast_of_a_real_run_is_of_its_size(planned, store):
    """What is forecast is what it takes, within a factor of 3: the machine may be doing other things besides."""
    from rich.console import Console

    from parbench.bench.execute.progress import LineProgress

    (run,) = planned("train.max_steps=150", "train.batch_size=16")
    (estimate,) = forecast([run], store, CPU).estimates
    assert estimate.calibration is not None, estimate.failure
    store.prepare()
    with Path("/dev/null").open("w") as nowhere:
        (record,) = LocalExecutor(("cpu",)).execute([run], store, LineProgress(Console(file=nowhere), 1))
    assert estimate.steps == record.cost.train_steps
    assert 1 / 3 < estimate.seconds / record.cost.wall_seconds < 3
    assert 0.8 < estimate.calibration.process_bytes / record.cost.peak_process_bytes < 1.25
    size = sum(path.stat().st_size for path in (store.runs / run.spec.run_id).rglob("*") if path.is_file())
    assert 0.5 < estimate.disk_bytes / size < 2


def record_of(wall, train=90.0, evaluation=5.0):
    cost = replace(
        RECORD.cost, train_seconds=train, evaluation_seconds=evaluation, scoring_seconds=evaluation, wall_seconds=wall
    )
    return replace(RECORD, cost=cost)


def test_overhead_is_what_is_neither_training_nor_evaluation():
    found = overhead_share([record_of(100.0), record_of(110.0)])
    assert (found.seconds, found.wall_seconds, found.runs) == (20.0, 210.0, 2)
    assert found.share == pytest.approx(20 / 210)
    assert str(found) == "9.5% of 3.5 minutes were spent outside training steps and evaluation (10.0 s a run)"


def test_runs_without_times_are_left_out_of_the_overhead():
    # No wall clock, no cost at all, and one that was interrupted: its training is longer than its last part.
    silent = [record_of(None), replace(RECORD, cost=None), record_of(50.0)]
    assert overhead_share(silent) is None
    assert overhead_share([*silent, record_of(100.0)]).share == pytest.approx(0.05)
