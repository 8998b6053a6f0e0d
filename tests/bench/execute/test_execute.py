import json
import os
import signal
import subprocess
import time
from glob import glob
from pathlib import Path

import pytest
from transformers import TrainerCallback

from parbench.bench.execute.worker import start
from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import LOG
from parbench.bench.store.log import read_log
from parbench.bench.store.store import Store
from parbench.methods.lora import Lora


def records(tmp_path):
    return {record.spec.method: record for record in Store(tmp_path / "store").scan()}


def test_whatever_a_run_does_the_others_go_on(run_here, tmp_path):
    """Each leaves a record with the cause."""
    methods = "lora,segfault,hang,oom,grow,nan,raises,exits,killed_once,loca"
    done = run_here(methods, "--silence-limit", 0.3, "--memory-limit", "2GiB", "--workers", 2)
    assert done.code == 1, done.err
    found = {name: (record.status, record.reason) for name, record in records(tmp_path).items()}
    assert found["lora"][0] == found["loca"][0] == Status.OK
    assert found["segfault"] == (Status.ERROR, "the process was ended by SIGSEGV")
    assert found["hang"] == (Status.TIMEOUT, "no step for 0.3 minutes")
    assert found["oom"] == (Status.OUT_OF_MEMORY, "no more")
    assert found["grow"][0] == Status.OUT_OF_MEMORY
    assert "more than the 2.00 allowed" in found["grow"][1]
    assert found["nan"][0] == Status.DIVERGED
    assert "step 4" in found["nan"][1]
    assert found["raises"] == (Status.ERROR, "RuntimeError: a fault of its own")
    assert found["exits"] == (Status.ERROR, "the process ended with code 7: last words")
    assert found["killed_once"] == (Status.ERROR, "the process was ended by SIGKILL")
    trace = (tmp_path / "store" / "runs" / records(tmp_path)["segfault"].run_id / "error.txt").read_text()
    assert "Segmentation fault" in trace
    assert "on_step_end" in trace
    assert not list((tmp_path / "store" / "leases").glob("*.json"))


def test_what_may_pass_is_tried_again_and_goes_on_from_its_checkpoint(run_here, tmp_path):
    done = run_here("killed_once,lora", "--retries", 1)
    assert done.code == 0, done.err
    found = records(tmp_path)
    again = found["killed_once"]
    assert again.status == Status.OK
    # The same LoRA, cut and resumed in between.
    assert again.metrics == found["lora"].metrics
    assert again.cost.train_steps == 8


def test_a_lost_connection_is_tried_again_and_a_fault_is_not(run_here, tmp_path):
    done = run_here("lost_once,raises", "--retries", 2)
    assert done.code == 1
    found = records(tmp_path)
    assert (found["lost_once"].status, found["raises"].status) == (Status.OK, Status.ERROR)


def test_the_first_failure_ends_all_if_asked(run_here, tmp_path):
    done = run_here("raises,lora", "--fail-fast", steps=200)
    assert done.code == 1
    assert list(records(tmp_path)) == ["raises"]


def test_a_run_that_takes_too_long_goes_on_when_it_is_given_more(run_here, tmp_path):
    done = run_here("hang", "--time-limit", 0.15)
    assert done.code == 1
    record = records(tmp_path)["hang"]
    assert (record.status, record.reason) == (Status.TIMEOUT, "not done after 0.15 minutes")
    assert (tmp_path / "store" / "work" / record.run_id / "checkpoint-2").is_dir()


def wait_for(pattern, process, seconds=120):
    """Return a file that a process writes, by the pattern of its path."""
    end = time.monotonic() + seconds
    while not (found := glob(str(pattern))):
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end, f"{pattern} did not appear"
        time.sleep(0.02)
    return Path(found[0])


def test_ctrl_c_saves_the_present_step_and_the_same_command_goes_on(command, run_here, tmp_path):
    process = subprocess.Popen(
        command("lora", steps=60), env=command.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(tmp_path / "store" / "work" / "*" / "checkpoint-*", process)
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=60)
    assert process.returncode == 130, message
    check_resumes(message, run_here, tmp_path)


def test_ctrl_c_is_followed_without_processes_too(run_here, tmp_path, monkeypatch):
    class Interrupting(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as context:
        context.setattr(Lora, "callbacks", lambda self, setting: [Interrupting()])
        cut = run_here("lora", "--no-isolate", steps=60)
    assert cut.code == 130, cut.err
    assert list((tmp_path / "store" / "work").glob("*/checkpoint-4"))
    check_resumes(cut.out + cut.err, run_here, tmp_path, "--no-isolate")


def test_ctrl_c_while_a_run_is_being_started_does_not_say_that_there_is_none(run_here, tmp_path, monkeypatch):
    def interrupted(order):
        signal.raise_signal(signal.SIGINT)
        return start(order)

    monkeypatch.setattr("parbench.bench.execute.local.start", interrupted)
    cut = run_here("lora", steps=60)
    assert cut.code == 130, cut.err
    message = cut.out + cut.err
    assert "finishing and saving the present step" in message
    assert "no run is in progress" not in message
    assert not records(tmp_path)


def check_resumes(message, run_here, tmp_path, *arguments):
    """Check that LoRA's run of 60 steps was cut, and ends as one in one go."""
    assert "finishing and saving the present step" in message
    assert "the same command resumes" in message
    assert not records(tmp_path)
    (work,) = (tmp_path / "store" / "work").iterdir()
    saved = max(int(path.parent.name.split("-")[1]) for path in work.glob("checkpoint-*/complete.json"))
    assert 2 <= saved < 60
    done = run_here("lora", *arguments, steps=60)
    assert done.code == 0, done.err
    resumed = records(tmp_path)["lora"]
    whole = tmp_path / "whole"
    (tmp_path / "store").rename(whole)
    assert run_here("lora", *arguments, steps=60).code == 0
    assert records(tmp_path)["lora"].metrics == resumed.metrics
    assert _predictions(tmp_path / "store", resumed.run_id) == _predictions(whole, resumed.run_id)


def _predictions(store, run_id):
    return json.loads((store / "runs" / run_id / "record.json").read_text())["files"]["predictions.parquet"]


def test_another_command_on_the_same_store_takes_over_what_is_left(command, run_here, tmp_path):
    process = subprocess.Popen(
        command("lora,loca", "--workers", 1, seeds="1,2,3", steps=40),
        env=command.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(tmp_path / "store" / "leases" / "*.json", process)
    here = run_here("lora,loca", "--no-isolate", seeds="1,2,3", steps=40)
    message, _ = process.communicate(timeout=300)
    assert (here.code, process.returncode) == (0, 0), here.err + message
    check_shared(tmp_path)
    logs = [list(read_log(path)) for path in (tmp_path / "store" / "runs").glob(f"*/{LOG}")]
    began = [entry["pid"] for log in logs for entry in log if entry["event"] == "began"]
    assert len(began) == 6
    assert 0 < began.count(os.getpid()) < 6


@pytest.mark.slow
def test_four_commands_on_one_store_share_the_runs(command, tmp_path):
    started = [
        subprocess.Popen(
            command("lora,loca", seeds="1,2,3"),
            env=command.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    message = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * 4, message
    check_shared(tmp_path)


def check_shared(tmp_path):
    store = Store(tmp_path / "store")
    found = list(store.scan())
    assert len(found) == 6
    assert all(record.status == Status.OK for record in found)
    # Nothing was done twice: a second record would have moved the first aside.
    assert not (store.root / "aside").exists()


def test_a_killed_runner_takes_its_workers_along_and_blocks_no_other_command(command, run_here, tmp_path):
    first = subprocess.Popen(
        command("lora", steps=600), env=command.environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    lease = wait_for(tmp_path / "store" / "leases" / "*.json", first)
    while len(pids := [entry["pid"] for entry in json.loads(lease.read_text())["processes"]]) < 2:
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = run_here("lora", steps=6)
    assert done.code == 0, done.err
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a worker outlived its runner"
        time.sleep(0.1)
