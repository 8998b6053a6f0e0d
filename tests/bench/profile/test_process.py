"""Real measurements in processes of their own, with methods of planted cost among them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import psutil
import pytest
import typer
from typer.testing import CliRunner

from parbench.bench.cli.profile import _candidates, profile
from parbench.bench.profile.measurement import STEP
from parbench.bench.profile.process import MemorySampler, measure_in_subprocess
from parbench.bench.profile.result import read_profile
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.reports.profile.summary import rows_of
from tests.support.outside_methods import importable, install_methods


def job_for(model, **changes):
    method = find_method("lora").method
    candidate = Candidate.of("lora", method, method.setting_type())
    return MeasurementJob(candidate, Workload(str(model), 2, 16, "cpu"), Repetitions(steps=2, warm_up=1), **changes)


@pytest.fixture(scope="module")
def profiled(tiny_model, tmp_path_factory):
    """Return the profile of LoRA and the planted methods, in the order given."""
    app = typer.Typer()
    app.command()(profile)
    site = install_methods(tmp_path_factory.mktemp("site"), "planted", ("sluggish", "hoarder"))

    def call(methods, *arguments):
        out = tmp_path_factory.mktemp("profiled")
        given = ["--model", str(tiny_model), "--random-weights", "--methods", methods, "--out", str(out)]
        given += ["--batch", "2", "--seq", "16", "--rounds", "2", "--steps", "3", "--warm-up", "1", *arguments]
        with importable(site, "planted"):
            done = CliRunner().invoke(app, given, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return out

    return call


@pytest.fixture(scope="module")
def planted(profiled):
    return profiled("lora,sluggish,hoarder")


def test_the_slow_method_and_the_memory_hog_show_up_as_such_and_all_else_is_equal(planted):
    rows = {row.method: row for row in rows_of(read_profile(planted))}
    assert list(rows) == ["frozen floor", "lora", "sluggish", "hoarder"]
    assert all(row.status is Status.OK for row in rows.values())
    # 100 ms of sleep on top of a step of a few.
    assert rows["sluggish"].seconds("forward") > 0.1
    assert rows["sluggish"].to_reference.low > 3
    # It sleeps, and works no more than LoRA: which the CPU time shows.
    assert rows["sluggish"].processor_to_reference.median < 3
    # A step of warm-up, three timed ones: nothing of it is freed.
    assert rows["hoarder"].peak_process - rows["lora"].peak_process > 300 << 20
    assert rows["hoarder"].memory[STEP].process - rows["lora"].memory[STEP].process > 300 << 20
    # What needs no clock is the same for a LoRA that sleeps.
    assert rows["lora"].breakdown == rows["sluggish"].breakdown
    assert rows["lora"].ledger == rows["sluggish"].ledger

    content = json.loads((planted / "profile.json").read_text())
    assert content["versions"]["torch"]
    assert content["measurements"][0]["hardware"]["cores"]
    assert len(content["machine_load"]) == 2
    assert len({measurement["batches"] for measurement in content["measurements"]}) == 1
    with (planted / "profile.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["frozen floor", "lora", "sluggish", "hoarder"]
    assert "| sluggish | r=8 |" in (planted / "profile.md").read_text()


@pytest.mark.slow
def test_results_do_not_depend_on_the_order_of_the_methods(planted, profiled):
    swapped = profiled("hoarder,sluggish,lora")
    one, other = ({row.method: row for row in rows_of(read_profile(path))} for path in (planted, swapped))
    for name, row in one.items():
        same = other[name]
        assert (row.breakdown, row.ledger) == (same.breakdown, same.ledger)
        assert row.peak_process == pytest.approx(same.peak_process, rel=0.05)
    # 100 ms among a few: whoever is first, it is as slow as before.
    assert 0.5 < one["sluggish"].seconds(STEP) / other["sluggish"].seconds(STEP) < 2


def test_a_measurement_beyond_its_limit_ends_as_out_of_memory(tiny_model):
    measurement = measure_in_subprocess(job_for(tiny_model, limit_bytes=1 << 20))
    assert measurement.status is Status.OUT_OF_MEMORY
    assert measurement.reason.endswith("GiB, more than the 0.00 allowed")


def test_a_measurement_is_watched_from_outside(tiny_model):
    measurement = measure_in_subprocess(job_for(tiny_model))
    assert measurement.status is Status.OK, measurement.reason
    assert measurement.hardware["device"] == "cpu"
    assert measurement.peak_process >= max(memory.process for memory in measurement.memory.values()) - (8 << 20)
    measured = sum(map(sum, measurement.seconds.values()))
    assert 0 < measured < 2 * measurement.wall


_UNTIL_KILLED = """
import json, sys
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.workload import MeasurementJob
measure_in_subprocess(MeasurementJob.of_json(json.load(sys.stdin)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_measurement_ends_with_the_command_that_waits_for_it(tiny_model, number):
    job = replace(job_for(tiny_model), effort=Repetitions(10**7, 0, parts=("training",)), counts=False)
    command = subprocess.Popen([sys.executable, "-c", _UNTIL_KILLED], stdin=subprocess.PIPE, text=True)
    command.stdin.write(json.dumps(job.as_json()))
    command.stdin.close()
    # The server, and the process that it forks.
    end = time.monotonic() + 200
    while not (
        found := [one for one in psutil.Process(command.pid).children(recursive=True) if one.ppid() != command.pid]
    ):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1.0)
    command.send_signal(number)
    assert command.wait() == -number
    assert psutil.wait_procs(found, timeout=20)[1] == []


def test_a_fault_of_one_measurement_is_a_reason(tiny_model):
    job = job_for(tiny_model)
    broken = replace(job, candidate=replace(job.candidate, setting={"target_modules": ["nothing"]}))
    measurement = measure_in_subprocess(broken)
    assert measurement.status is Status.ERROR
    assert 'target_modules has "nothing"' in measurement.reason


_ALONE = """
import json, sys
import torch
from parbench.bench.profile.measure import measure
from parbench.bench.profile.workload import MeasurementJob
measurement = measure(MeasurementJob.of_json(json.load(sys.stdin)), torch.device("cpu"))
assert measurement.status == "ok", measurement.reason
print(json.dumps({phase: sum(measurement.seconds[phase]) for phase in ("step", "step_processor")}))
"""


@dataclass(frozen=True)
class Outside:
    """What a process reports of its training steps, and what was observed from outside."""

    told: dict[str, float]
    wall: float
    processor: float
    sampled: int
    kernel: int


def watch(job):
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", _ALONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    sampler = MemorySampler(process.pid)
    process.stdin.write(json.dumps(job.as_json()))
    process.stdin.close()
    told = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    sampler.stop()
    assert process.returncode == 0
    peak = max(resident for _, resident in sampler.samples)
    return Outside(told, time.monotonic() - began, usage.ru_utime + usage.ru_stime, peak, 1024 * usage.ru_maxrss)


@pytest.mark.slow
def test_time_and_memory_agree_with_what_is_seen_from_outside(tiny_model):
    work = Workload(str(tiny_model), 16, 32, "cpu")

    def seen(steps):
        effort = Repetitions(steps, 3, parts=("training",))
        return watch(replace(job_for(tiny_model), workload=work, effort=effort, counts=False))

    few, many = seen(50), seen(650)
    for one in (few, many):
        # The kernel keeps the true peak; samples of every 10 ms miss little of it.
        assert one.sampled == pytest.approx(one.kernel, rel=0.05)
        assert one.told["step"] < one.wall
    # What 600 more steps take: starting and loading are in both, and the processor's time knows no other processes.
    more = many.told["step_processor"] - few.told["step_processor"]
    assert many.processor - few.processor == pytest.approx(more, rel=0.25)


def test_a_profile_s_mistakes_are_sentences(bench_profile):
    for arguments, warning in (
        (["--batch", "0"], "--batch is 0; give a number of at least 1"),
        (["--batches", "2,x"], '"--batches 2,x" are not comma-separated whole numbers'),
        (["--batches", "0,2"], 'a size of "--batches 0,2" is 0; give a number of at least 1'),
        (["--batch", "1000000000"], "--batch is 1000000000; give a number of at most 65536"),
        (["--batches", "8,65537"], 'a size of "--batches 8,65537" is 65537; give a number of at most 65536'),
        (["--system-prompt-tokens", "0"], "--system-prompt-tokens is 0; give a number of at least 1"),
        (["--padding", "0.7"], "--padding is 0.7; give a share from 0 to 0.5"),
        (["--trace"], "--trace writes files"),
        (["--budget", "1k,2k"], "names several"),
        (["--budget", "1k", "--methods", "lora(r=4)"], "the budget 1k sizes lora, and lora(r=4) sets its size"),
        (["--seq", "1000"], "takes at most 64 tokens"),
        (["--methods", "lorra"], 'did you mean "lora"?'),
        (["--memory-limit", "much"], "is not a size"),
    ):
        assert warning in bench_profile(*arguments)


def test_a_profile_in_which_nothing_could_be_measured_ends_as_a_failure(bench, tiny_model, tmp_path):
    few = ("--rounds", "1", "--steps", "1", "--warm-up", "0", "--batch", "2", "--seq", "8")
    found = bench(
        *("profile", "--model", tiny_model, "--methods", "lora", *few, "--memory-limit", "1MiB"),
        *("--out", tmp_path / "profile"),
    )
    assert found.code == 1
    assert "bench: not measured: frozen floor: the process used" in found.err
    assert "; lora: the process used" in found.err
    # What was found out is kept.
    assert "out of memory" in (tmp_path / "profile" / "profile.md").read_text()


@pytest.fixture
def bench_profile(tiny_model):
    """Return the message with which the command refuses."""
    app = typer.Typer()
    app.command()(profile)

    def call(*arguments):
        result = CliRunner().invoke(app, ["--model", str(tiny_model), "--methods", "lora", "--seq", "16", *arguments])
        assert isinstance(result.exception, UserError), result.output
        return str(result.exception)

    return call


def test_budgets_and_names_of_subjects(tiny_model):
    work = Workload(str(tiny_model), 2, 16, "cpu")
    names = [candidate.name for candidate in _candidates("bitfit,lora(r=2),lora(r=4)", None, work)]
    assert names == ["frozen floor", "bitfit", "lora(r=2)", "lora(r=4)"]
    assert [candidate.name for candidate in _candidates("bitfit", None, work)] == ["frozen floor", "lora", "bitfit"]
    _, lora, bitfit = _candidates("lora,bitfit", "600", work)
    assert lora.size == "r=2"
    assert lora.setting["r"] == 2
    assert bitfit.setting
    (lora,) = _candidates("lora", "10", work)[1:]
    assert "nothing fits 10" in lora.refusal
