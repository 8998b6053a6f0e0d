"""Slurm by submitit's stand-ins: its jobs are processes of this machine."""

import shutil
import signal

import psutil
import pytest

from parbench.bench.execute.slurm import SlurmExecutor
from parbench.bench.execute.slurm_job import JobOptions
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from tests.support.clusters import Cluster, wait_for

pytest.importorskip("submitit")


@pytest.fixture
def slurm(tiny_data, tiny_model, tmp_path):
    cluster = Cluster("parbench.bench.execute.slurm:SlurmExecutor", tmp_path, tiny_data, tiny_model)
    yield cluster
    cluster.end_all()


def job_above(pid):
    """Return the process of the job that looks after a run's own."""
    (found,) = [process for process in psutil.Process(pid).parents() if "submitit.core._submit" in process.cmdline()]
    return found


def test_a_job_does_the_runs(slurm):
    assert slurm.do("lora,raises", cluster="local", runs_per_job=2) == 1
    done = slurm.records()
    assert {method: (record.status, record.reason) for (method, _), record in done.items()} == {
        "lora": (Status.OK, None),
        "raises": (Status.ERROR, "RuntimeError: a fault of its own"),
    }
    assert not slurm.leases()


@pytest.mark.slow
def test_a_preempted_job_goes_on_from_its_step(slurm):
    process = slurm.start("slow,raises", cluster="local", steps=12, runs_per_job=2)
    slurm.workspace()
    job_above(slurm.at_work()[1]).send_signal(signal.SIGUSR2)
    message, _ = process.communicate(timeout=280)
    assert process.returncode == 1, message
    done = slurm.records()
    assert {method: (record.status, record.reason) for (method, _), record in done.items()} == {
        "slow": (Status.OK, None),
        "raises": (Status.ERROR, "RuntimeError: a fault of its own"),
    }
    log = slurm.log(done["slow", 1])
    assert [entry["event"] for entry in log if entry["event"] in ("began", "left", "ended")] == [
        *("began", "left", "began", "ended")
    ]
    assert next(entry["message"] for entry in log if entry["event"] == "left").startswith("StoppedError: stopped at")
    assert done["slow", 1].cost.train_steps == 12
    assert not slurm.leases()


@pytest.mark.slow
def test_a_job_that_dies_is_submitted_again_and_one_without_a_try_left_is_recorded(slurm):
    process = slurm.start("slow", cluster="local", steps=40, limits={"retries": 1})
    first = slurm.at_work()
    job_above(first[1]).kill()
    wait_for(lambda: not psutil.pid_exists(first[1]))
    wait_for(lambda: slurm.at_work() != first)
    job_above(slurm.at_work()[1]).kill()
    message, _ = process.communicate(timeout=240)
    assert process.returncode == 1, message
    record = slurm.records()["slow", 1]
    assert record.status == Status.ERROR
    assert record.reason.startswith("its job has ended without a record")


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_and_the_same_command_goes_on(slurm):
    process = slurm.start("slow,lora", cluster="local", steps=40)
    slurm.workspace()
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 130, message
    again = slurm.start("slow,lora", cluster="debug", steps=40)
    message, _ = again.communicate(timeout=240)
    assert again.returncode == 0, message
    assert {record.status for record in slurm.records().values()} == {Status.OK}


def test_without_slurm_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="there is no Slurm here"):
        list(SlurmExecutor().execute([], None, None))


def test_what_a_job_asks_for_reaches_slurm(tmp_path):
    """The words are submitit's; its own writer of batch files takes them."""
    from submitit.slurm.slurm import _make_sbatch_string

    job = JobOptions(partition="long", account="lab", minutes=30, cpus=4, gpus=1, memory_gib=16)
    words = {name.removeprefix("slurm_"): value for name, value in job.parameters().items()}
    words = {
        "time": words.pop("timeout_min"),
        "job_name": words.pop("name"),
        "mem": f"{words.pop('mem_gb')}GB",
        **words,
    }
    text = _make_sbatch_string("command", tmp_path, **words)
    for line in (
        "--partition=long",
        "--account=lab",
        "--time=30",
        "--cpus-per-task=4",
        "--gpus-per-node=1",
        "--mem=16GB",
    ):
        assert f"#SBATCH {line}\n" in text


@pytest.mark.parametrize(("options", "complaint"), [({"gpus": 2}, "a run uses one"), ({"minutes": 0}, "at least 1")])
def test_wrong_resources_are_a_sentence(options, complaint):
    with pytest.raises(UserError, match=complaint):
        JobOptions(**options)
