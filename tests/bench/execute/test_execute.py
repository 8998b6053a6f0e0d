import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store


def call(command, *arguments, **options):
    return subprocess.run(
        command(*arguments, **options), env=command.environment, capture_output=True, text=True, timeout=300
    )


def records(tmp_path):
    return {record.spec.method: record for record in Store(tmp_path / "store").scan()}


def test_whatever_a_run_does_the_others_go_on(command, tmp_path):
    """Each leaves a record with the cause."""
    wrong = "segfault,hang,oom,grow,nan,raises,exits"
    done = call(
        command, f"lora,{wrong},killed_once,loca", "--silence-limit", 0.3, "--memory-limit", "4GiB", "--workers", 2
    )
    assert done.returncode == 1, done.stderr
    found = {name: (record.status, record.reason) for name, record in records(tmp_path).items()}
    assert found["lora"][0] == found["loca"][0] == Status.OK
    assert found["segfault"] == (Status.ERROR, "the process was ended by SIGSEGV")
    assert found["hang"] == (Status.TIMEOUT, "no step for 0.3 minutes")
    assert found["oom"] == (Status.OUT_OF_MEMORY, "no more")
    assert found["grow"][0] == Status.OUT_OF_MEMORY
    assert "more than the 4.00 allowed" in found["grow"][1]
    assert found["nan"][0] == Status.DIVERGED
    assert "step 4" in found["nan"][1]
    assert found["raises"] == (Status.ERROR, "RuntimeError: a fault of its own")
    assert found["exits"] == (Status.ERROR, "the process ended with code 7: last words")
    assert found["killed_once"] == (Status.ERROR, "the process was ended by SIGKILL")
    trace = (tmp_path / "store" / "runs" / records(tmp_path)["segfault"].run_id / "error.txt").read_text()
    assert "Segmentation fault" in trace
    assert "on_step_end" in trace
    assert not list((tmp_path / "store" / "claims").glob("*.json"))


def test_what_may_pass_is_tried_again_and_goes_on_from_its_checkpoint(command, tmp_path):
    done = call(command, "killed_once", "--retries", 1)
    assert done.returncode == 0, done.stderr
    again = records(tmp_path)["killed_once"]
    plain = call(command, "lora")
    assert plain.returncode == 0, plain.stderr
    assert again.status == Status.OK
    # The same LoRA, cut and resumed in between.
    assert again.metrics == records(tmp_path)["lora"].metrics
    assert again.cost.train_steps == 8


def test_a_lost_connection_is_tried_again_and_a_fault_is_not(command, tmp_path):
    done = call(command, "lost_once,raises", "--retries", 2)
    assert done.returncode == 1
    found = records(tmp_path)
    assert (found["lost_once"].status, found["raises"].status) == (Status.OK, Status.ERROR)


def test_the_first_failure_ends_all_if_asked(command, tmp_path):
    done = call(command, "raises,lora", "--fail-fast")
    assert done.returncode == 1
    assert list(records(tmp_path)) == ["raises"]


def test_a_run_that_takes_too_long_goes_on_when_it_is_given_more(command, tmp_path):
    done = call(command, "hang", "--time-limit", 0.15)
    assert done.returncode == 1
    record = records(tmp_path)["hang"]
    assert (record.status, record.reason) == (Status.TIMEOUT, "not done after 0.15 minutes")
    assert (tmp_path / "store" / "work" / record.run_id / "checkpoint-2").is_dir()


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not (found := list(path.parent.glob(path.name))):
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)
    return found[0]


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_ctrl_c_saves_the_present_step_and_the_same_command_goes_on(command, tmp_path, isolate):
    arguments = ("lora", isolate)
    whole = tmp_path / "whole"
    process = subprocess.Popen(
        command(*arguments, steps=60),
        env=command.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(tmp_path / "store" / "work" / "*")
    work = next((tmp_path / "store" / "work").iterdir())
    while not any(work.glob("checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert "finishing and saving the present step" in message
    assert "the same command resumes" in message
    assert not records(tmp_path)
    saved = max(int(path.parent.name.split("-")[1]) for path in work.glob("checkpoint-*/complete.json"))
    assert 2 <= saved < 60
    done = call(command, *arguments, steps=60)
    assert done.returncode == 0, done.stderr
    resumed = records(tmp_path)["lora"]
    (tmp_path / "store").rename(whole)
    assert call(command, *arguments, steps=60).returncode == 0
    assert records(tmp_path)["lora"].metrics == resumed.metrics
    assert _predictions(tmp_path / "store", resumed.run_id) == _predictions(whole, resumed.run_id)


def _predictions(store, run_id):
    return json.loads((store / "runs" / run_id / "record.json").read_text())["files"]["predictions.parquet"]


@pytest.mark.parametrize("commands", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_commands_on_one_store_share_the_runs(command, tmp_path, commands):
    started = [
        subprocess.Popen(
            command("lora,loca", seeds="1,2,3"),
            env=command.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(commands)
    ]
    message = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * commands, message
    store = Store(tmp_path / "store")
    found = list(store.scan())
    assert len(found) == 6
    assert all(record.status == Status.OK for record in found)
    # Nothing was done twice: a second record would have moved the first aside.
    assert not (store.root / "aside").exists()


def test_a_killed_runner_takes_its_workers_along_and_blocks_no_other_command(command, tmp_path):
    first = subprocess.Popen(
        command("lora", steps=600), env=command.environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    claims = tmp_path / "store" / "claims"
    while not (found := list(claims.glob("*.json")) if claims.is_dir() else []):
        assert first.poll() is None
        time.sleep(0.05)
    while len(pids := [entry["pid"] for entry in json.loads(found[0].read_text())["processes"]]) < 2:
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = call(command, "lora", steps=6)
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a worker outlived its runner"
        time.sleep(0.1)
