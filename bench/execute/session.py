"""What one call of an executor does over and over: hand out runs, wait for those at work, and heed Ctrl-C."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

from parbench.bench.execute.executor import RunOptions, failed
from parbench.bench.execute.interrupt import Interrupt
from parbench.bench.execute.progress import Progress
from parbench.bench.execute.queue import LOOK_SECONDS, Queue
from parbench.bench.record.run_record import RunRecord


class Session(ABC):
    """One call of an executor that has several runs at work.

    Attributes:
        queue: what is left to do.
        progress: is told of the end of every run that it was told the beginning of.
        options: of the runs.
        stopping: whether the user has asked for it: the runs at work save their present step, and no other begins.
    """

    queue: Queue
    progress: Progress
    options: RunOptions
    stopping: bool = False

    def records(self, interrupt: Interrupt) -> Iterator[RunRecord]:
        """Yield the record of every run, as it comes, until all are done, or are stopped."""
        while self.is_busy() or self.queue:
            if interrupt.asked and not self.stopping:
                self.stopping = True
                self.queue.give_up()
                self.stop_all()
            self.start_runs()
            for found in self.queue.completed_elsewhere():
                if self.note_completed(found):  # it had begun, and was put back here
                    self.progress.end(found)
                yield found
            if not self.is_busy():
                time.sleep(LOOK_SECONDS)
                continue
            for record in self.ended():
                self.progress.end(record)
                yield record
                if self.options.fail_fast and failed(record):
                    return

    @abstractmethod
    def is_busy(self) -> bool:
        """Tell whether any run is at work."""

    @abstractmethod
    def stop_all(self) -> None:
        """Ask the runs at work to save their present step and end."""

    @abstractmethod
    def start_runs(self) -> None:
        """Set as many runs to work as there is room for."""

    @abstractmethod
    def note_completed(self, found: RunRecord) -> bool:
        """Take note of what somebody else has done, and tell whether it had begun here before."""

    @abstractmethod
    def ended(self) -> Iterator[RunRecord]:
        """Wait for a tick at most, renew the claims, and yield the records of the runs that have ended by then."""
