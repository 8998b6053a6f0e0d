"""The runs that are still to do, shared with other commands on the same store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store

# Between two checks of the runs that other processes are executing.
LOOK_SECONDS = 1.0
# Runs, in their order, among which one that fits is searched: a search takes no longer however many wait.
LOOK_AHEAD = 500
# Between two lines about the runs that are waited for.
_REMIND_SECONDS = 60.0


class Queue:
    """Hands out runs that no other process is executing, each with a lease; finds the records that others have written.

    Args:
        runs: to do, also those that have a record already, which will be replaced.
        store: where records go.
        leases: the leases of another process, on whose behalf this one works; default: this process's own.
    """

    def __init__(self, runs: Sequence[PlannedRun], store: Store, leases: Leases | None = None) -> None:
        self._store = store
        self.leases = leases or Leases(store.root)
        self._waiting: deque[PlannedRun] = deque()
        self._elsewhere: list[PlannedRun] = []
        self._given_up = False
        self._looked = time.monotonic()
        self._reminded: float | None = None
        self._found: list[RunRecord] = []
        # A record that changes from now on is another process's work.
        self._before: dict[str, tuple[int, int] | None] = {}
        self.add(runs)

    def __len__(self) -> int:
        """Number of runs that were not given out."""
        return len(self._waiting) + len(self._elsewhere)

    def __bool__(self) -> bool:
        """Whether any run is left that was not handed out."""
        return bool(self._waiting or self._elsewhere)

    def add(self, runs: Sequence[PlannedRun]) -> None:
        """Add runs at the end, unless all were given up."""
        if not self._given_up:
            self._before.update((run.spec.run_id, self._store.stamp(run.spec.run_id)) for run in runs)
            self._waiting.extend(runs)

    def take(self, fits: Callable[[PlannedRun], bool] = lambda run: True) -> PlannedRun | None:
        """Return the next run, leased, or ``None`` if all remaining runs are executed elsewhere or do not fit.

        Args:
            fits: returns whether there is a place for a run now; one without a place keeps its turn, and the next
                `LOOK_AHEAD` may go before it.
        """
        if self._elsewhere and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._waiting.extend(self._elsewhere)
            self._elsewhere.clear()
        turn = 0
        while turn < min(len(self._waiting), LOOK_AHEAD):
            run = self._waiting[turn]
            if not fits(run):
                turn += 1
                continue
            del self._waiting[turn]
            run_id = run.spec.run_id
            if not self.leases.take(run_id):
                self._elsewhere.append(run)
                continue
            if self._store.stamp(run_id) == self._before[run_id]:
                return run
            self.leases.release(run_id)
            record = self._store.load(run_id)
            if isinstance(record, RunRecord):
                self._found.append(record)
            else:
                self._before[run_id] = self._store.stamp(run_id)
                self._waiting.append(run)
        return None

    def wait(self, note: Callable[[str], None]) -> None:
        """Wait a moment for the runs that other processes are executing; name them immediately, then every minute.

        Args:
            note: shows the user a line.
        """
        now = time.monotonic()
        if self._elsewhere and (self._reminded is None or now - self._reminded > _REMIND_SECONDS):
            self._reminded = now
            first = self._elsewhere[0]
            lease = self.leases.holder(first.spec.run_id)
            holder = f" ({lease.holder})" if lease else ""
            others = f" and {len(self._elsewhere) - 1} more" if len(self._elsewhere) > 1 else ""
            note(f"waiting for another process to finish {first.spec.run_id} {first.spec}{holder}{others}")
        time.sleep(LOOK_SECONDS)

    def completed_elsewhere(self) -> Iterator[RunRecord]:
        """Yield the records that other processes have written since the last call."""
        while self._found:
            yield self._found.pop(0)

    def requeue(self, run: PlannedRun) -> None:
        """Put a run back to be executed again, unless all were given up; its lease is released."""
        self.leases.release(run.spec.run_id)
        if not self._given_up:
            self._waiting.append(run)

    def give_up(self) -> None:
        """Give up all runs that were not handed out, and those that are put back or added later."""
        self._given_up = True
        self._waiting.clear()
        self._elsewhere.clear()
