"""The loop of an executor's call: hand out runs, wait for those in progress, and follow Ctrl-C."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from parbench.bench.execute.executor import FollowUp, RunOptions, failed
from parbench.bench.execute.interrupt import Interrupt
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.queue import Queue
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord


class ExecutorSession(ABC):
    """One call of an executor that has several runs in progress.

    Attributes:
        queue: what is left to do.
        progress: receives the end of every run.
        options: of the runs.
        follow_up: returns the runs that a record leads to.
        stopping: whether the user has asked to stop: runs in progress save their current step, and no other starts.
        beginning: whether a run is being started, which takes seconds where its process is the first.
    """

    queue: Queue
    progress: Progress
    options: RunOptions
    follow_up: FollowUp
    stopping: bool = False
    beginning: bool = False

    def records(self, interrupt: Interrupt) -> Iterator[RunRecord]:
        """Yield the record of every run, as it comes, until all are done, or are stopped."""
        while self.is_busy() or self.queue:
            if interrupt.asked and not self.stopping:
                self.stopping = True
                self.queue.give_up()
                self.stop_all()
            self.start_runs()
            for record in self.queue.completed_elsewhere():
                self.note_completed(record)
                yield self._ended(record)
            if not self.is_busy():
                if self.queue:
                    self.queue.wait(self.progress.note)
                continue
            for record in self.ended():
                yield self._ended(record)
                if self.options.fail_fast and failed(record):
                    return

    def has_begun(self) -> bool:
        """Return whether any run is in progress or is being started: what a request to stop would save."""
        return self.beginning or self.is_busy()

    def begin(self, run: PlannedRun) -> None:
        """Start a run, leased."""
        self.beginning = True
        try:
            self._begin(run)
        finally:
            self.beginning = False

    def _ended(self, record: RunRecord) -> RunRecord:
        self.progress.end(record)
        self.queue.add(self.follow_up(record))
        return record

    @abstractmethod
    def is_busy(self) -> bool:
        """Return whether any run is in progress."""

    @abstractmethod
    def stop_all(self) -> None:
        """Ask the runs in progress to save their present step and end."""

    @abstractmethod
    def start_runs(self) -> None:
        """Start as many runs as there is room for."""

    @abstractmethod
    def _begin(self, run: PlannedRun) -> None:
        """Start a run; afterwards it is in progress."""

    @abstractmethod
    def note_completed(self, found: RunRecord) -> None:
        """Take note of the record of a run that another process has executed."""

    @abstractmethod
    def ended(self) -> Iterator[RunRecord]:
        """Wait for a tick at most, renew the leases, and yield the records of the runs that have ended by then."""
