"""Runs one measurement in a separate process and samples its memory from outside."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from parbench.bench.profile.measurement import Measurement, PhaseMemory
from parbench.bench.profile.workload import MeasurementJob
from parbench.bench.record.run_record import Status
from parbench.bench.util.process_environment import fork_server, ignore_interrupts
from parbench.bench.util.search_path import leave_current_folder
from parbench.bench.util.started_process import Started, start_process

# Reading another process's memory takes some 20 microseconds: 0.2 % of one core.
SAMPLE_SECONDS = 0.01
# Seconds that a process may take to exit after its last message.
END_SECONDS = 10.0


def measure_in_subprocess(job: MeasurementJob) -> Measurement:
    """Run one measurement in a fresh process, forked from a server that has only imported the libraries.

    A measurement that needs more memory than the job allows, or than is available, ends as ``out_of_memory``.
    """
    context = fork_server()
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(prefix="parbench-", suffix=".log") as log:
        process = context.Process(target=_main, args=(job.as_json(), theirs, log.name), daemon=True)
        start = time.monotonic()
        started = start_process(process)
        theirs.close()
        limit = job.limit_bytes if job.workload.device == "cpu" else None
        sampler = MemorySampler(int(process.pid or 0), limit)
        try:
            measurement = _hear(started, ours)
            process.join(END_SECONDS)
        finally:
            started.kill()
            sampler.stop()
            ours.close()
        if measurement is None:
            measurement = Measurement(job, *_death(started, sampler, Path(log.name)))
    measurement.wall = time.monotonic() - start
    resident = [resident for _, resident in sampler.samples] + [span.resident for span in measurement.spans]
    measurement.peak_process = max(resident, default=0)
    measurement.memory = _by_phase(measurement, sampler)
    measurement.spans = []
    return measurement


class MemorySampler(threading.Thread):
    """Samples the resident memory of a process from outside, without disturbing it.

    Attributes:
        limit: bytes above which the process is killed, if any.
        samples: (time on the machine's monotonic clock, bytes).
        over: bytes in use when the process was killed for exceeding the limit.
    """

    def __init__(self, pid: int, limit: int | None = None) -> None:
        super().__init__(daemon=True, name="resident-memory")
        self.samples: list[tuple[float, int]] = []
        self.over: int | None = None
        self.limit = limit
        self._pid = pid
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        """Sample until stopped, or until the process has ended."""
        try:
            process = psutil.Process(self._pid)
            while not self._done.wait(SAMPLE_SECONDS):
                resident = int(process.memory_info().rss)
                self.samples.append((time.monotonic(), resident))
                if self.limit is not None and resident > self.limit:
                    self.over = resident
                    process.kill()
                    return
        except psutil.Error:
            return  # it has ended; the reason is handled by the code that waits for it

    def stop(self) -> None:
        """Stop the sampling."""
        self._done.set()
        self.join()

    def peak(self, begin: float, end: float) -> int:
        """Return the largest sample in a time span; 0 if there is none."""
        return max((resident for at, resident in self.samples if begin <= at <= end), default=0)


def _hear(started: Started, line: Connection) -> Measurement | None:
    """Return the process's last message, or ``None`` if it ends without one."""
    wait([line, started.process.sentinel])
    if not line.poll() and started.is_alive():
        wait([line])  # only the server that forked it has ended
    try:
        return line.recv() if line.poll() else None
    except (EOFError, OSError):
        return None


def _death(started: Started, sampler: MemorySampler, log: Path) -> tuple[Status, str]:
    if sampler.over is not None and sampler.limit is not None:
        used, allowed = sampler.over / 2**30, sampler.limit / 2**30
        return Status.OUT_OF_MEMORY, f"the process used {used:.2f} GiB, more than the {allowed:.2f} allowed"
    code = started.exit_code
    if code is None:
        return Status.ERROR, "the process and the server that starts processes were killed"
    if code == -signal.SIGKILL:
        return Status.OUT_OF_MEMORY, "the process was killed, as happens when a machine runs out of memory"
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
    return Status.ERROR, f"the process ended with code {code}: {last}"


def _by_phase(measurement: Measurement, sampler: MemorySampler) -> dict[str, PhaseMemory]:
    found: dict[str, PhaseMemory] = {}
    for span in measurement.spans:
        before = found.get(span.phase, PhaseMemory(0))
        found[span.phase] = PhaseMemory(
            process=max(before.process, span.resident, sampler.peak(span.begin, span.end)),
            allocated=_larger(before.allocated, span.allocated),
            reserved=_larger(before.reserved, span.reserved),
        )
    # A phase too short for a sample has no value; this does not mean zero bytes.
    return {phase: memory for phase, memory in found.items() if memory.process or memory.reserved is not None}


def _larger(one: int | None, other: int | None) -> int | None:
    return max((number for number in (one, other) if number is not None), default=None)


def _end_without_reader(line: Connection) -> None:
    """End this process when nobody reads its line any more: the command was killed, and this can take hours."""
    poller = select.poll()
    poller.register(line.fileno(), 0)  # an end of the other side is reported even so
    poller.poll()
    os._exit(1)


def _main(job: dict[str, Any], line: Connection, log: str) -> None:
    leave_current_folder()
    # Ctrl-C is handled by the command, which ends its measurement.
    ignore_interrupts()
    threading.Thread(target=_end_without_reader, args=(line,), daemon=True, name="reader").start()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for output in (1, 2):
        os.dup2(descriptor, output)
    import torch

    from parbench.bench.profile.measure import measure
    from parbench.bench.util.environment import quiet_libraries

    quiet_libraries()
    asked = MeasurementJob.of_json(job)
    measurement = measure(asked, torch.device(asked.workload.device))
    line.send(measurement)
