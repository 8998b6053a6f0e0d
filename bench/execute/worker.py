"""One run in a process of its own.

The process is forked from a server that has imported the heavy libraries and done nothing else (none of their threads
runs, no device is open), so that a new one costs milliseconds and shares their memory.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch

from parbench.bench.execute.executor import RunOptions
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.failures import SharedDeviceOutOfMemoryError, TransientError
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.layout import PRINTED
from parbench.bench.store.log import run_log
from parbench.bench.store.store import Store
from parbench.bench.train.train import StoppedError
from parbench.bench.util.environment import hardware, use_deterministic_algorithms
from parbench.bench.util.process_environment import ignore_interrupts, worker_server
from parbench.bench.util.search_path import leave_current_folder
from parbench.bench.util.secrets import redact_file
from parbench.bench.util.started_process import Started, start_process

# Steps of a tiny model come by the thousand per second, too many to show.
_SECONDS_BETWEEN_MESSAGES = 0.1


@dataclass(frozen=True)
class WorkerJob:
    """What a worker is to do.

    Attributes:
        run: the run, see `parbench.bench.plan.planned_run.PlannedRun.to_json`.
        store: the store's folder.
        device: what to train on.
        may_retry: whether a failure that may not repeat is tried again instead of recorded.
        shared: whether other runs use the device.
        options: how the run is executed.
        cores: that the run has for itself; empty where it may use all.
        workers: number of simultaneous runs.
    """

    run: str
    store: str
    device: str
    may_retry: bool
    shared: bool
    options: RunOptions
    cores: tuple[int, ...] = ()
    workers: int = 1


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker reports: the start, a step, a sign of life, or how it ends."""

    kind: Literal["began", "step", "alive", "recorded", "stopped", "retry", "crowded"]
    step: tuple[int, int, float | None] | None = None
    text: str = ""


@dataclass(frozen=True)
class Worker:
    """A worker's process, and the connection to it."""

    started: Started
    connection: Connection

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.started.process.pid or 0)

    @property
    def sentinel(self) -> int | None:
        """What becomes ready when it ends; ``None`` where only the end of its connection shows it."""
        return None if self.started.is_unobserved else self.started.process.sentinel

    def stop(self) -> None:
        """Ask it to save and stop."""
        self._send("stop")

    def share(self) -> None:
        """Inform it that another run joins it on its device."""
        self._send("share")

    def _send(self, word: str) -> None:
        with suppress(OSError):  # it has just ended
            self.connection.send(word)

    def kill(self) -> None:
        """End it now, with all processes that it has started."""
        with suppress(ProcessLookupError):  # not yet a session of its own, or ended just now
            os.killpg(self.pid, signal.SIGKILL)
        self.started.kill()


def start(order: WorkerJob) -> Worker:
    """Start a worker.

    Raises:
        UserError: the machine has no room for a process.
    """
    context = worker_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(order, theirs))
    started = start_process(process)
    theirs.close()
    return Worker(started, ours)


def _main(order: WorkerJob, connection: Connection) -> None:
    # A session of its own: the terminal's Ctrl-C goes to the runner, which decides what is to be done.
    os.setsid()
    leave_current_folder()
    ignore_interrupts()
    link = _RunnerLink(connection, order.may_retry)
    if order.shared:
        link.shared.set()
    threading.Thread(target=link.listen, daemon=True).start()
    device = order.device
    if device.startswith("cuda:"):
        # Before CUDA is initialised: transformers' trainer takes the first device that it sees.
        os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
        device = "cuda"
    run = PlannedRun.from_json(order.run)
    store = Store(Path(order.store))
    _print_to(store.workspace(run.spec.run_id) / PRINTED)
    _use_threads(order)
    if order.options.deterministic:
        use_deterministic_algorithms()
    connection.send(do_job(run, store, torch.device(device), link, order.options.trackers, order.workers))


def do_job(
    run: PlannedRun,
    store: Store,
    device: torch.device,
    link: _RunnerLink,
    trackers: tuple[str, ...],
    workers: int = 1,
) -> WorkerMessage:
    """Execute a run and return the last message about it."""
    link.send(WorkerMessage("began", text="\n".join(f"{name}={value}" for name, value in hardware(device).items())))
    run.check_code()
    hooks = RunHooks(link.step, link.alive, link.stop.is_set, link.may_retry, link.shared.is_set, trackers, workers)
    try:
        with run_log(store.workspace(run.spec.run_id), run.spec, device):
            execute_run(run, store, DataCache(), device, hooks)
    except StoppedError as stopped:
        return WorkerMessage("stopped", text=str(stopped))
    except TransientError as failure:
        return WorkerMessage("retry", text=str(failure))
    except SharedDeviceOutOfMemoryError as failure:
        return WorkerMessage("crowded", text=str(failure))
    return WorkerMessage("recorded")


@dataclass
class _RunnerLink:
    """The worker's end of the connection."""

    connection: Connection
    may_retry: bool
    stop: threading.Event = field(default_factory=threading.Event)
    shared: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    def send(self, message: WorkerMessage) -> None:
        self.connection.send(message)

    def step(self, done: int, total: int, loss: float | None) -> None:
        if done == total or time.monotonic() - self._last > _SECONDS_BETWEEN_MESSAGES:
            self._last = time.monotonic()
            self.send(WorkerMessage("step", step=(done, total, loss)))

    def alive(self, rows: int) -> None:
        if time.monotonic() - self._last > _SECONDS_BETWEEN_MESSAGES:
            self._last = time.monotonic()
            self.send(WorkerMessage("alive"))

    def listen(self) -> None:
        """Follow the runner; if it dies the worker ends too, as another runner may be about to repeat the run."""
        events = {"stop": self.stop, "share": self.shared}
        try:
            while True:
                events[self.connection.recv()].set()
        except (EOFError, OSError):
            os._exit(1)


def _print_to(path: Path) -> None:
    """Redirect all output, also that of C code and the trace of a crash, to a file.

    Only the owner may read it: until the runner has redacted it, it may contain secrets.
    """
    redact_file(path)
    file = open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        # What a library prints must not end a run where the terminal's encoding lacks a character.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()


def _use_threads(order: WorkerJob) -> None:
    """Keep to the cores of the job, one thread on each; fewer where the options or OMP_NUM_THREADS ask for fewer."""
    threads = order.options.threads or torch.get_num_threads()
    if order.cores:
        os.sched_setaffinity(0, order.cores)
        threads = min(threads, len(order.cores))
    torch.set_num_threads(threads)
