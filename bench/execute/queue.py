"""The runs that are still to do, shared with other commands on the same store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store

# Between two looks at runs that somebody else is doing.
LOOK_SECONDS = 1.0
# Runs in their order that are looked at for one that fits: however many wait, a look takes no longer.
LOOK_AHEAD = 500


class Queue:
    """Gives out runs that nobody else is at, each claimed; finds the records of those that others have done.

    Args:
        runs: to do, also those that have a record already: it is to be replaced.
        store: where records go.
        claims: those of another process, which this one works for; its own unless given.
    """

    def __init__(self, runs: Sequence[PlannedRun], store: Store, claims: Leases | None = None) -> None:
        self._store = store
        self.claims = claims or Leases(store.root)
        self._waiting = deque(runs)
        self._elsewhere: list[PlannedRun] = []
        self._given_up = False
        self._looked = time.monotonic()
        self._found: list[RunRecord] = []
        # A record that changes from now on is someone else's work.
        self._before = {run.spec.run_id: store.stamp(run.spec.run_id) for run in runs}

    def __len__(self) -> int:
        """Number of runs that were not given out."""
        return len(self._waiting) + len(self._elsewhere)

    def __bool__(self) -> bool:
        """Whether any run is left that was not given out."""
        return bool(self._waiting or self._elsewhere)

    def take(self, fits: Callable[[PlannedRun], bool] = lambda run: True) -> PlannedRun | None:
        """Return the next run, claimed, or ``None`` where all that are left are being done elsewhere or do not fit.

        Args:
            fits: tells whether there is a place for a run now; one that has none keeps its turn, and the next
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
            if not self.claims.take(run_id):
                self._elsewhere.append(run)
                continue
            if self._store.stamp(run_id) == self._before[run_id]:
                return run
            self.claims.release(run_id)
            record = self._store.load(run_id)
            if isinstance(record, RunRecord):
                self._found.append(record)
            else:
                self._before[run_id] = self._store.stamp(run_id)
                self._waiting.append(run)
        return None

    def completed_elsewhere(self) -> Iterator[RunRecord]:
        """Yield the records that others have written since the last call."""
        while self._found:
            yield self._found.pop(0)

    def requeue(self, run: PlannedRun) -> None:
        """Do a run again later, unless all were given up; its claim is given back."""
        self.claims.release(run.spec.run_id)
        if not self._given_up:
            self._waiting.append(run)

    def give_up(self) -> None:
        """Forget what was not given out, and what is put back."""
        self._given_up = True
        self._waiting.clear()
        self._elsewhere.clear()
