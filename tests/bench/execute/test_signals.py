"""A run and its command under what terminals, users and the kernel do to them."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress

import psutil
import pytest

from parbench.bench.execute.interrupt import Interrupt
from parbench.bench.record.run_record import Status
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store

# No run of so many steps ends before it is stopped, however busy the machine is.
LONG = 10_000


def until(holds, process=None, seconds=400):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


@pytest.fixture
def begin(command):
    started = []
    # Where the tests run under nohup, their processes would inherit that the hang-up is ignored, and keep to it.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def start(*arguments, environment=None, own_group=False, **options):
        process = subprocess.Popen(
            command(*arguments, **options),
            env={**command.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="latin-1",
            process_group=0 if own_group else None,
        )
        started.append(process)
        return process

    yield start
    signal.signal(signal.SIGHUP, before)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.communicate()


def worker_of(store):
    """Return the process of the run in progress, once its lease names it."""
    for lease in Leases(store.root).living().values():
        if len(lease.processes) == 2:
            return psutil.Process(lease.processes[1].pid)
    return None


@pytest.mark.timeout(900)
def test_a_run_survives_its_terminal_its_fork_server_and_a_pause(begin, tmp_path):
    """One run, since starting is what takes long: each of these alone would once have ended it without a trace."""
    store = Store(tmp_path / "store")
    # Sockets do not fit into this folder's name, nor dashes into this encoding.
    long = tmp_path / ("t" * 112)
    long.mkdir()
    strange = {"TMPDIR": str(long), "PYTHONIOENCODING": "latin-1"}
    # The kernel stops no process by Ctrl-Z whose group has no shell; where tests run without one, theirs has none.
    first = begin("crawls", "--time-limit", 60, environment=strange, own_group=True, steps=LONG)
    until(lambda: list(store.work.glob("*/checkpoint-*/complete.json")), first)
    worker = worker_of(store)

    # The server that has forked the worker is killed: the run goes on.
    worker.parent().kill()
    # Ctrl-Z stops both, and both continue.
    first.send_signal(signal.SIGTSTP)
    until(lambda: worker.status() == psutil.STATUS_STOPPED)
    until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
    first.send_signal(signal.SIGCONT)
    until(lambda: worker.status() != psutil.STATUS_STOPPED, first)

    # Another command with the same run waits, and prints it.
    second = begin("crawls", steps=LONG)
    line = until(second.stdout.readline)
    while "waiting" not in line:
        line = second.stdout.readline()
        assert line, "it ended"
    assert re.search(
        rf"waiting for another process to finish \w+ crawls .* \(process {first.pid}, {worker.pid} on ", line
    )
    second.send_signal(signal.SIGINT)
    message = second.communicate(timeout=200)[0]
    assert second.returncode == 130
    assert "stopping; no run is in progress here" in message
    assert "finishing and saving" not in message

    assert first.poll() is None
    first.send_signal(signal.SIGHUP)
    message = first.communicate(timeout=200)[0]
    assert first.returncode == 130, message
    assert "finishing and saving the present step" in message
    assert "Traceback" not in message
    (work,) = store.work.iterdir()
    assert max(int(path.name.split("-")[1]) for path in work.glob("checkpoint-*")) > 2
    assert not list(store.scan())
    assert not Leases(store.root).living()


def server_of(process):
    """Return the fork server of a command, once it has started."""
    children = psutil.Process(process.pid).children()
    return next((child for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())), None)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_while_the_server_starts_ends_the_command_and_nothing_else(begin, run_here, tmp_path):
    """A terminal sends it to all processes of a command; the server is then importing its libraries."""
    process = begin("lora", own_group=True, steps=400)
    server = until(lambda: server_of(process), process)
    until(lambda: any("libtorch" in entry.path for entry in server.memory_maps()), process)
    os.killpg(process.pid, signal.SIGINT)
    message = process.communicate(timeout=400)[0]
    assert process.returncode == 130, message
    assert "Traceback" not in message
    assert "cannot be started" not in message
    assert not list(Store(tmp_path / "store").scan())
    # It is left as it was: the same command does the run.
    again = run_here("lora", steps=4)
    assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pause_does_not_count_towards_the_time_limit(begin, tmp_path):
    store = Store(tmp_path / "store")
    process = begin("hang", "--time-limit", 0.25, steps=8)
    worker = until(lambda: worker_of(store), process)
    until(lambda: list(store.work.glob("*/checkpoint-*/complete.json")), process)
    for stopped in (process.pid, worker.pid):
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(20)
        os.kill(stopped, signal.SIGCONT)
        time.sleep(1)
        assert not list(store.scan())
    process.communicate(timeout=200)
    assert [record.status for record in store.scan()] == [Status.TIMEOUT]


def test_a_hangup_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt(lambda text: None, lambda: True) as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupt.asked
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_output_ends_no_run(monkeypatch):
    left = []
    monkeypatch.setattr("parbench.bench.execute.interrupt._leave_terminal", left.append)

    def broken(text):
        raise BrokenPipeError

    with Interrupt(broken, lambda: True) as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
        assert len(left) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
