"""Status of a store: completed, running, interrupted, failed, stale and superseded runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import COMPLETE_CHECKPOINTS, LOG
from parbench.bench.store.leases import Lease, Leases
from parbench.bench.store.log import read_log
from parbench.bench.store.staleness import Newest, stale_reasons
from parbench.bench.store.store import Store, Unreadable

EXAMPLES = 20


@dataclass
class RunList:
    """Runs of one kind: their number, and a line about each of the first."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str, kept: int) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < kept:
            self.examples.append(text)


@dataclass
class StoreStatus:
    """What is in a store.

    Attributes:
        statuses: number of records by status.
        running: runs that a living process is executing.
        interrupted: interrupted runs, with their step.
        failed: failed runs, with the reason.
        stale: records that the present source would not reproduce, with the reason.
        superseded: records with a newer one that differs in code or revisions only.
        unreadable: what is in the store and cannot be read.
    """

    statuses: Counter[Status] = field(default_factory=Counter)
    running: RunList = field(default_factory=RunList)
    interrupted: RunList = field(default_factory=RunList)
    failed: RunList = field(default_factory=RunList)
    stale: RunList = field(default_factory=RunList)
    superseded: RunList = field(default_factory=RunList)
    unreadable: RunList = field(default_factory=RunList)


def store_status(store: Store, kept: int = EXAMPLES) -> StoreStatus:
    """Scan a store once.

    Args:
        kept: number of lines kept of each kind; all runs are counted. Memory grows by some hundred bytes per record.
    """
    found, newest = StoreStatus(), Newest()
    for record in store.scan():
        if isinstance(record, Unreadable):
            found.unreadable.add(str(record), kept)
            continue
        found.statuses[record.status] += 1
        newest.add(record)
        name = f"{record.run_id} {record.spec}"
        if record.status not in (Status.OK, Status.SKIPPED):
            found.failed.add(f"{name}: {record.status.replace('_', ' ')}, {record.reason}", kept)
        if reasons := stale_reasons(record.spec):
            found.stale.add(f"{name}: {', '.join(reasons)}", kept)
    for run_id, newer in newest.superseded():
        found.superseded.add(f"{run_id} by {newer}", kept)
    leases = Leases(store.root).living()
    for run_id, lease in leases.items():
        found.running.add(f"{run_id}{_called(store, run_id)}: {lease.holder}", kept)
    for run_id in _cut_off(store, leases):
        found.interrupted.add(f"{run_id}{_called(store, run_id)}: {_how_far(store, run_id)}", kept)
    return found


def _cut_off(store: Store, leases: dict[str, Lease]) -> Iterator[str]:
    if not store.work.is_dir():
        return
    for folder in sorted(store.work.iterdir()):
        if folder.is_dir() and folder.name not in leases and not store.is_done(folder.name):
            yield folder.name


def _called(store: Store, run_id: str) -> str:
    """Return the description of a run without a record, if its log has one."""
    began = next((entry for entry in read_log(store.work / run_id / LOG) if entry.get("event") == "began"), None)
    return f" {began['message']}" if began else ""


def _how_far(store: Store, run_id: str) -> str:
    steps = [int(path.parent.name.rpartition("-")[2]) for path in (store.work / run_id).glob(COMPLETE_CHECKPOINTS)]
    return f"resumes from step {max(steps)}" if steps else "has no checkpoint yet"
