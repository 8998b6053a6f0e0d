"""One run in a process of its own.

The process is forked from a server that has imported the heavy libraries and done nothing else (no thread of theirs
runs, no device is open), so that a new one costs milliseconds and shares their memory.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from parbench.bench.util.secrets import redact_file

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    import torch

OUTPUT = "output.log"
# Steps of a tiny model come by the thousand a second; nobody watches so closely.
_SECONDS_BETWEEN_NEWS = 0.1


@dataclass(frozen=True)
class WorkerJob:
    """What a worker is to do.

    Attributes:
        run: the run, see `parbench.bench.plan.planned_run.PlannedRun.to_json`.
        store: the store's folder.
        device: what to train on.
        threads: of torch on the CPU; ``None`` leaves torch's own number.
        may_retry: whether a failure that may pass is to be tried again rather than recorded.
        deterministic: whether torch must use deterministic algorithms only.
        trackers: that the training reports to.
        shared: whether other runs are at work on the device.
    """

    run: str
    store: str
    device: str
    threads: int | None
    may_retry: bool
    deterministic: bool = False
    trackers: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker says: of its steps, that it is alive, or its last word."""

    kind: Literal["began", "step", "alive", "recorded", "stopped", "retry", "crowded"]
    step: tuple[int, int, float | None] | None = None
    text: str = ""


@dataclass(frozen=True)
class Worker:
    """A process at work, and the line to it."""

    process: BaseProcess
    line: Connection

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.process.pid or 0)

    def stop(self) -> None:
        """Ask it to save and stop."""
        self._tell("stop")

    def share(self) -> None:
        """Tell it that another run joins it on its device."""
        self._tell("share")

    def _tell(self, word: str) -> None:
        with suppress(OSError):  # it has just ended, and needs to hear nothing
            self.line.send(word)

    def kill(self) -> None:
        """End it now, with all that it has started."""
        with suppress(ProcessLookupError):  # not yet a session of its own, or ended just now
            os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def start(order: WorkerJob) -> Worker:
    """Start a worker."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["parbench.bench.execute.preload"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(order, theirs))
    process.start()
    theirs.close()
    return Worker(process, ours)


def _main(order: WorkerJob, line: Connection) -> None:
    # A session of its own: the terminal's Ctrl-C is for the runner, which tells what is to be done.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours = _Line(line, order.may_retry)
    if order.shared:
        ours.shared.set()
    threading.Thread(target=ours.listen, daemon=True).start()
    device = order.device
    if device.startswith("cuda:"):
        # Before CUDA is there: transformers' trainer takes the first device that it sees.
        os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
        device = "cuda"
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.store.store import Store

    run = PlannedRun.from_json(order.run)
    store = Store(Path(order.store))
    _write_to(store.workspace(run.spec.run_id) / OUTPUT)
    news = do_order(run, store, _device(device, order), ours, order.trackers)
    line.send(news)


def do_order(run: Any, store: Any, device: torch.device, line: _Line, trackers: tuple[str, ...]) -> WorkerMessage:
    """Do a run and return the last word on it."""
    from parbench.bench.record.failures import SharedDeviceOutOfMemoryError, TransientError
    from parbench.bench.run.execute_run import RunHooks, execute_run
    from parbench.bench.run.inputs import DataCache
    from parbench.bench.store.log import run_log
    from parbench.bench.train.train import StoppedError
    from parbench.bench.util.environment import hardware

    line.send(WorkerMessage("began", text="\n".join(f"{name}={value}" for name, value in hardware(device).items())))
    run.check_code()
    watch = RunHooks(line.step, line.alive, line.stop.is_set, line.may_retry, line.shared.is_set, trackers)
    try:
        with run_log(store.workspace(run.spec.run_id), run.spec, device):
            execute_run(run, store, DataCache(), device, watch)
    except StoppedError as stopped:
        return WorkerMessage("stopped", text=str(stopped))
    except TransientError as failure:
        return WorkerMessage("retry", text=str(failure))
    except SharedDeviceOutOfMemoryError as failure:
        return WorkerMessage("crowded", text=str(failure))
    return WorkerMessage("recorded")


@dataclass
class _Line:
    """The worker's end of the line."""

    connection: Connection
    may_retry: bool
    stop: threading.Event = field(default_factory=threading.Event)
    shared: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    def send(self, news: WorkerMessage) -> None:
        self.connection.send(news)

    def step(self, done: int, total: int, loss: float | None) -> None:
        if done == total or time.monotonic() - self._last > _SECONDS_BETWEEN_NEWS:
            self._last = time.monotonic()
            self.send(WorkerMessage("step", step=(done, total, loss)))

    def alive(self, rows: int) -> None:
        if time.monotonic() - self._last > _SECONDS_BETWEEN_NEWS:
            self._last = time.monotonic()
            self.send(WorkerMessage("alive"))

    def listen(self) -> None:
        """Hear the runner; where it has died, so does the worker: another runner may be about to do the run again."""
        heard = {"stop": self.stop, "share": self.shared}
        try:
            while True:
                heard[self.connection.recv()].set()
        except (EOFError, OSError):
            os._exit(1)


def _write_to(path: Path) -> None:
    """Send all that is printed, also by C code, and the trace of a crash to a file.

    It is for the owner's eyes: until the runner has cleaned it, secrets may stand in it.
    """
    redact_file(path)
    file = open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    faulthandler.enable()


def _device(name: str, order: WorkerJob) -> torch.device:
    import torch

    from parbench.bench.util.environment import use_deterministic_algorithms

    if order.threads is not None:
        torch.set_num_threads(order.threads)
    if order.deterministic:
        use_deterministic_algorithms()
    return torch.device(name)
